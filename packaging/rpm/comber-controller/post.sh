# After installation. It is not enabled: set names in /etc/comber/controller.toml, then systemctl enable --now comber-controller.
systemd-sysusers comber-controller.conf
systemd-tmpfiles --create comber-controller.conf || :
[ ! -d /run/systemd/system ] || systemctl daemon-reload || :
