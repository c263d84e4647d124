# After removal, and after an upgrade, which restarts it where it runs: it goes on from its ledger.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    if [ "$1" -ge 1 ]; then
        if grep -qs /comber-agent.service /proc/self/cgroup; then
            # This upgrade is the agent's own work. Waiting for its restart would wait for ourselves.
            systemctl --no-block try-restart comber-agent.service || :
        else
            systemctl try-restart comber-agent.service || :
        fi
    fi
fi
