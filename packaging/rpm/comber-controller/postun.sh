# After removal, and after an upgrade, which restarts it where it runs.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    [ "$1" -lt 1 ] || systemctl try-restart comber-controller.service || :
fi
