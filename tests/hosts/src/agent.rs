//! How an agent comes onto a host: binary, unit and configuration, as a package would bring them, and its enrolment.
//!
//! Its timers are short, so that no test waits for one; everything else is what is installed. Invariant: the agent runs
//! as a unit of the host and knows nothing of tests.

use std::path::Path;

use anyhow::Result;

use crate::Host;

/// The agent's unit.
pub const AGENT_UNIT: &str = "comber-agent.service";
/// Where its ledger is.
pub const STATE_DIR: &str = "/var/lib/comber-agent";

/// Not after `network-online.target`: a host that reboots into no network must finish what it does all the same.
const UNIT: &str = "\
[Unit]
Description=Comber agent
After=network.target

[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/comber-agent run
Restart=always
RestartSec=100ms
KillMode=process
StateDirectory=comber-agent
StateDirectoryMode=0700

[Install]
WantedBy=multi-user.target
";

/// The watcher of updates of the agent, exactly as the package brings it.
const WATCH_UNIT: &str = "comber-agent-watch.service";
const WATCH: &str =
    include_str!("../../../packaging/usr/lib/systemd/system/comber-agent-watch.service");

const TIMERS: &str = "\
[link]
backoff_min = \"100ms\"
backoff_max = \"1s\"
keepalive = \"2s\"
keepalive_timeout = \"2s\"
connect_timeout = \"3s\"
[fetch]
backoff_min = \"100ms\"
backoff_max = \"1s\"
connect_timeout = \"3s\"
idle_timeout = \"2s\"
";

/// Installs it, enrols the host with the token under its own name, and starts it. `more` are further lines of its
/// configuration.
pub(crate) fn install(
    host: &Host,
    binary: &Path,
    controller: &str,
    token: &str,
    more: &str,
) -> Result<()> {
    host.push(binary, "/usr/bin/comber-agent")?;
    host.write(
        &format!("/etc/systemd/system/{AGENT_UNIT}"),
        UNIT.as_bytes(),
    )?;
    host.write(
        &format!("/etc/systemd/system/{WATCH_UNIT}"),
        WATCH.as_bytes(),
    )?;
    let configuration = format!("{more}\n{TIMERS}");
    host.write("/etc/comber/agent.d/50-test.toml", configuration.as_bytes())?;
    host.exec(&["systemctl", "daemon-reload"])?;
    host.exec(&[
        "comber-agent",
        "enroll",
        "--controller",
        controller,
        "--token",
        token,
    ])?;
    host.exec(&["systemctl", "enable", "--now", AGENT_UNIT])?;
    // What a power cut must not take from the test itself.
    host.exec(&["sync"]).map(drop)
}
