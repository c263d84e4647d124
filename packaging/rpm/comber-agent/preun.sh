# Before removal, not before an upgrade.
if [ "$1" -eq 0 ]; then
    # The watcher of an update would start the agent again.
    systemctl stop comber-agent-watch.service || :
    systemctl --no-reload disable --now comber-agent.service || :
fi
