# After installation. Whether it is enabled is the distribution's policy (systemd.preset(5)); comber-agent enroll enables it.
systemd-tmpfiles --create comber-agent.conf || :
[ ! -d /run/systemd/system ] || systemctl daemon-reload || :
if [ "$1" -eq 1 ]; then
    systemctl --no-reload preset comber-agent.service || :
fi
