//! The only place that reads the process's environment: what systemd says to a service it starts, and what Comber's own
//! launcher says to the agent that it becomes.
//!
//! Settings of Comber never come from the environment; they come from files and flags, where `show-config` shows them.
//! Nothing here can fail: an absent or odd variable means that the process does not run under systemd.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::{fs::fstat, stdio};

/// The socket on which the service manager wants to hear about readiness, if it does.
pub fn notify_socket() -> Option<PathBuf> {
    read("NOTIFY_SOCKET").map(PathBuf::from)
}

/// The directory of credentials that systemd decrypted for this service (`LoadCredential=`), if any.
pub fn credentials_directory() -> Option<PathBuf> {
    read("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// Whether standard error goes straight to the journal, which then wants priorities and brings its own timestamps.
///
/// The variable is inherited by children whose output was redirected, so the file behind it is compared too.
pub fn stderr_is_journal() -> bool {
    let Some(announced) = read("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stat) = fstat(stdio::stderr()) else {
        return false;
    };
    announced == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// The passphrase of a signing key, for pipelines that have nobody to ask and no file to keep it in. The one secret that may
/// come this way: an argument would show it to every user of the machine.
pub fn passphrase() -> Option<String> {
    read("COMBER_PASSPHRASE")
}

/// How often the service manager wants a sign of life (`WatchdogSec=`), if it does.
pub fn watchdog() -> Option<Duration> {
    let micros = read("WATCHDOG_USEC")?.parse().ok()?;
    // The variables are inherited by children, of whom no sign is wanted.
    let own = read("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    own.then(|| Duration::from_micros(micros))
}

/// The place on the shelf of the agent that this process is.
const SLOT: &str = "COMBER_AGENT_SLOT";
/// The program that became this process.
const LAUNCHER: &str = "COMBER_AGENT_LAUNCHER";
/// What belongs to one process of a service and to none that it starts.
const OWN: [&str; 5] = [
    SLOT,
    LAUNCHER,
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

/// What the launcher says to the agent that its process becomes.
///
/// A variable and not an argument: an agent of any version can be launched by a launcher of any other, since one that is
/// not known changes nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Launched {
    /// Where the agent stands on the shelf.
    pub slot: String,
    /// The launcher's own program.
    pub launcher: PathBuf,
}

/// How this process was launched; `None` where it was not.
pub fn launched() -> Option<Launched> {
    Some(Launched {
        slot: read(SLOT)?,
        launcher: read(LAUNCHER)?.into(),
    })
}

/// Says so to the process that `command` becomes.
pub fn launch(command: &mut Command, slot: &str, launcher: &Path) {
    command.env(SLOT, slot).env(LAUNCHER, launcher);
}

/// Keeps from a process that is started what belongs to this one only.
pub fn unlaunch(command: &mut Command) {
    for name in OWN {
        command.env_remove(name);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
fn read(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
