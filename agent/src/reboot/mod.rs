//! Reboots the host, as its administrators allow, and tells one boot from another.
//!
//! ```text
//!   guards (inhibitors, sessions) ──> word to the users, and time ──> guards again ──> the request
//! ```
//!
//! The request goes to logind, which stops services in order; a configured command replaces it, for hosts without logind.
//! Bias: a guard that cannot be read blocks, and the refusal says so; whoever asked asks again. Invariants: where systemd
//! runs, no request is made before every guard was read and lets it pass; a boot id that cannot be read is an error and
//! never taken for a new boot.

mod logind;
mod need;

use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_runtime::fsx::{self, FileError};
use thiserror::Error;

pub use logind::{Blocker, Inhibitor, Session};
pub use need::{Mark, Need, Restarting};

use crate::exec::{Exec, ExecError, Run};
use crate::surroundings::Variables;
use crate::systemd::{Systemd, SystemdError};

/// `systemctl reboot` only hands over the request; inhibitors answer within its own timeout of 90 s.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(2);
/// Writing to the terminals of some hundred sessions; a terminal that hangs must not hold up the reboot for longer.
const WALL_TIMEOUT: Duration = Duration::from_secs(20);
/// A boot id is 36 characters long.
const BOOT_ID_MAX: u64 = 256;

/// What is made of a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heed {
    /// No reboot while it holds.
    Respect,
    /// It is not looked at.
    Ignore,
}

/// What the administrators of this host want of its reboots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebootPolicy {
    /// Locks against shutdown that somebody holds at logind.
    pub inhibitors: Heed,
    /// People who are logged in.
    pub sessions: Heed,
    /// How long people who are logged in have after they were told; zero where they are not told.
    pub grace: Duration,
    /// What they are told, beside the release; empty for a text of the agent's.
    pub message: String,
}

/// How this host reboots.
#[derive(Debug, Clone)]
pub struct Reboot {
    /// Program and arguments in place of logind; empty for logind.
    pub command: Vec<String>,
    /// A file whose content is another one after each boot.
    pub boot_id_file: PathBuf,
    /// What holds it up.
    pub policy: RebootPolicy,
    /// Who is asked.
    pub systemd: Systemd,
    /// How the host says that it needs one.
    pub need: Need,
}

/// Whoever takes a lock means it; a session that somebody left open must not keep a server from its updates.
impl Default for RebootPolicy {
    fn default() -> Self {
        Self {
            inhibitors: Heed::Respect,
            sessions: Heed::Ignore,
            grace: Duration::ZERO,
            message: String::new(),
        }
    }
}

/// A boot id that cannot be had.
#[derive(Debug, Error)]
pub enum BootIdError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is nothing in it.
    #[error("{} does not hold a boot id", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Why there is no reboot now. Asking again later may succeed.
#[derive(Debug, Error)]
pub enum RebootError {
    /// Somebody holds it up.
    #[error("{0}")]
    Blocked(Blocker),
    /// A guard did not say whether it holds.
    #[error("cannot tell whether {guard} hold the reboot up, so it waits")]
    Unreadable {
        /// Which, in words.
        guard: &'static str,
        /// What happened instead.
        #[source]
        source: SystemdError,
    },
    /// logind refused.
    #[error("logind does not reboot this host")]
    Refused(#[source] SystemdError),
    /// The configured command failed.
    #[error("the reboot command failed")]
    Command(#[source] ExecError),
    /// There is nobody to ask.
    #[error(
        "this host does not run systemd, so there is no logind to ask; set [reboot] command in agent.toml"
    )]
    NoWay,
}

/// The boot that the host runs in, by a file whose content is another one after each boot.
pub fn boot_id(file: &Path) -> Result<String, BootIdError> {
    let bytes = fsx::read_limited(file, BOOT_ID_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    let id = text.trim();
    if id.is_empty() || id.contains(char::is_control) {
        return Err(BootIdError::Empty {
            path: file.to_owned(),
        });
    }
    Ok(id.to_owned())
}

impl Reboot {
    /// By logind where systemd runs, with the default policy.
    pub fn new(command: Vec<String>, boot_id_file: PathBuf, systemd: Systemd) -> Self {
        Self {
            command,
            boot_id_file,
            policy: RebootPolicy::default(),
            systemd,
            need: Need::default(),
        }
    }

    /// The boot that the host runs in.
    pub fn boot_id(&self) -> Result<String, BootIdError> {
        boot_id(&self.boot_id_file)
    }

    /// Waits for the guards, in the order above. `Ok` means that the host may be rebooted now.
    pub async fn may(&self, exec: &Exec, release: &str) -> Result<(), RebootError> {
        if !self.systemd.is_there() {
            tracing::info!("no systemd here: inhibitors and sessions do not hold the reboot up");
            return Ok(());
        }
        self.guards().await?;
        if self.policy.grace.is_zero() || !self.somebody_is_there().await {
            return Ok(());
        }
        self.tell(exec, release).await;
        tokio::time::sleep(self.policy.grace).await;
        self.guards().await
    }

    /// Asks for the reboot. `Ok` means that it was accepted: the agent is about to be stopped.
    pub async fn ask(&self, exec: &Exec, release: &str) -> Result<(), RebootError> {
        if !self.command.is_empty() {
            let run = Run {
                command: &self.command,
                dir: Path::new("/"),
                variables: &Variables::new(),
                timeout: COMMAND_TIMEOUT,
            };
            return exec.run(&run).await.map(drop).map_err(RebootError::Command);
        }
        if !self.systemd.is_there() {
            return Err(RebootError::NoWay);
        }
        logind::reboot(
            &self.systemd,
            self.policy.inhibitors,
            &self.message(release),
        )
        .await
        .map_err(RebootError::Refused)
    }

    async fn guards(&self) -> Result<(), RebootError> {
        if self.policy.inhibitors == Heed::Respect {
            let held = logind::inhibitors(&self.systemd).await;
            let held = held.map_err(|source| unreadable("inhibitors", source))?;
            if !held.is_empty() {
                return Err(RebootError::Blocked(Blocker::Inhibitors(held)));
            }
        }
        if self.policy.sessions == Heed::Respect {
            let there = logind::sessions(&self.systemd).await;
            let there = there.map_err(|source| unreadable("sessions", source))?;
            if !there.is_empty() {
                return Err(RebootError::Blocked(Blocker::Sessions(there)));
            }
        }
        Ok(())
    }

    /// Bias: where that cannot be told, somebody is.
    async fn somebody_is_there(&self) -> bool {
        match logind::sessions(&self.systemd).await {
            Ok(sessions) => !sessions.is_empty(),
            Err(error) => {
                let error = comber_runtime::telemetry::error_chain(&error);
                tracing::warn!(
                    error,
                    "cannot tell who is logged in; all are told of the reboot"
                );
                true
            }
        }
    }

    /// A courtesy: the reboot does not depend on it.
    async fn tell(&self, exec: &Exec, release: &str) {
        let grace = comber_model::duration::format(self.policy.grace);
        let text = format!("{} This host reboots in {grace}.", self.message(release));
        let command = ["wall".to_owned(), text];
        let run = Run {
            command: &command,
            dir: Path::new("/"),
            variables: self.systemd.variables(),
            timeout: WALL_TIMEOUT,
        };
        match exec.run(&run).await {
            Ok(_) => tracing::info!(grace, "who is logged in was told of the reboot"),
            Err(error) => {
                let error = comber_runtime::telemetry::error_chain(&error);
                tracing::warn!(error, "who is logged in could not be told of the reboot");
            }
        }
    }

    /// Nothing in it is a variable: the text is the administrators'.
    fn message(&self, release: &str) -> String {
        let text = match self.policy.message.as_str() {
            "" => format!("Comber installs {release} and needs a reboot."),
            text => text.to_owned(),
        };
        text.replace("${", "$ {")
    }
}

fn unreadable(guard: &'static str, source: SystemdError) -> RebootError {
    RebootError::Unreadable { guard, source }
}

#[cfg(test)]
mod tests;
