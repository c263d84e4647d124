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

/// The tree that packages install, as it stands in this workspace.
const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging");
/// What the agent's package takes from there.
const FILES: [&str; 3] = [
    "/usr/lib/systemd/system/comber-agent.service",
    "/usr/lib/tmpfiles.d/comber-agent.conf",
    "/etc/comber/agent.toml",
];
/// Ten seconds after each kill would be most of a test.
const DROP_IN: &str = "[Service]\nRestartSec=100ms\n";

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

/// Where the agent that is installed comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// A binary, and the files that its package would bring.
    Binary(&'a Path),
    /// The package itself.
    Deb(&'a Path),
}

/// Installs it, enrols the host with the token under its own name, and starts it. `more` are further lines of its
/// configuration.
pub(crate) fn install(
    host: &Host,
    origin: Origin<'_>,
    controller: &str,
    token: &str,
    more: &str,
) -> Result<()> {
    let configuration = format!("{more}\n{TIMERS}");
    host.write("/etc/comber/agent.d/50-test.toml", configuration.as_bytes())?;
    host.write(
        &format!("/etc/systemd/system/{AGENT_UNIT}.d/50-test.conf"),
        DROP_IN.as_bytes(),
    )?;
    match origin {
        Origin::Binary(binary) => {
            host.push(binary, "/usr/bin/comber-agent")?;
            for file in FILES {
                host.push(format!("{TREE}{file}").as_ref(), file)?;
            }
            host.exec(&["systemctl", "daemon-reload"])?;
        }
        Origin::Deb(deb) => {
            host.push(deb, "/root/comber-agent.deb")?;
            host.exec(&["apt-get", "install", "-qy", "/root/comber-agent.deb"])?;
        }
    }
    // This also enables and starts the unit.
    host.exec(&[
        "comber-agent",
        "enroll",
        "--controller",
        controller,
        "--token",
        token,
    ])?;
    // What a power cut must not take from the test itself.
    host.exec(&["sync"]).map(drop)
}
