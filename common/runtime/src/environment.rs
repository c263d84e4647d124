//! The only place that reads the process's environment: what systemd says to a service it starts.
//!
//! Settings of Comber never come from the environment; they come from files and flags, where `show-config` shows them.
//! Nothing here can fail: an absent or odd variable means that the process does not run under systemd.

use std::{path::PathBuf, time::Duration};

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

/// How often the service manager wants a sign of life (`WatchdogSec=`), if it does.
pub fn watchdog() -> Option<Duration> {
    let micros = read("WATCHDOG_USEC")?.parse().ok()?;
    // The variables are inherited by children, of whom no sign is wanted.
    let own = read("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    own.then(|| Duration::from_micros(micros))
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
fn read(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
