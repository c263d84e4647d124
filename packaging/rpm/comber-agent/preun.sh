# Before removal, not before an upgrade.
if [ "$1" -eq 0 ]; then
    systemctl --no-reload disable --now comber-agent.service || :
fi
