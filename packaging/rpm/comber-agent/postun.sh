# After removal, and after an upgrade, which restarts it where it runs: it goes on from its ledger.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    if [ "$1" -ge 1 ]; then
        # Only asked for: this upgrade may be the agent's own work, in whatever unit, and then the agent ends once we have.
        systemctl --no-block try-restart comber-agent.service || :
    fi
fi
