//! How the agent is stopped and started from outside of it: as a unit of systemd, or as a process.
//!
//! Runs `systemctl`, or starts and signals the agent itself. Blocking: only the watcher and the launcher call it, and the
//! agent on a blocking thread. Invariant: after [`Service::stop`] returned `Ok`, no process holds the agent's lock.

mod process;
mod systemd;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use comber_runtime::clock::Clock;
use comber_runtime::environment;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::UpdateFiles;
use crate::lock::{AGENT_LOCK, Lock};

pub(super) use process::Process;
pub(super) use systemd::Systemd;

/// The unit of the watcher, installed beside the agent's.
pub const WATCH_UNIT: &str = "comber-agent-watch.service";
/// Between two looks at something that is awaited.
const PAUSE: Duration = Duration::from_millis(50);

/// What runs the agent on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ServiceKind {
    /// systemd.
    Systemd {
        /// The agent's own unit.
        unit: String,
    },
    /// Nobody: the watcher starts it as it was started.
    Process {
        /// The package's agent.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
        /// Where it ran.
        dir: PathBuf,
    },
}

/// What the watcher sees of the agent that it watches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// It runs or is being started.
    pub is_up: bool,
    /// It has come so far that it holds the lock of the state directory.
    pub holds_lock: bool,
    /// How often it ended by itself since the watcher began.
    pub ended: u32,
    /// How it ended last.
    pub last: String,
    /// The host shuts down: that it is not up means nothing.
    pub host_stops: bool,
}

/// The agent, seen from outside.
pub(super) trait Service {
    /// Ends it, by force where it resists. Done already is a success.
    fn stop(&mut self) -> Result<(), ServiceError>;
    /// Starts it, unless it is up, also where it failed too often.
    fn start(&mut self) -> Result<(), ServiceError>;
    /// Looks whether it is up. Changes nothing.
    fn look(&mut self) -> Result<Look, ServiceError>;
}

/// Why the agent cannot be stopped or started.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum ServiceError {
    /// Not even tried.
    #[error("cannot run {program}")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    /// systemd refused.
    #[error("systemctl {action} {unit} ended with {status}: {told}")]
    Systemctl {
        action: String,
        unit: String,
        status: ExitStatus,
        told: String,
    },
    /// It lives on.
    #[error(
        "an agent, process {pid}, still holds {} although it was stopped; stop it by hand", path.display()
    )]
    Holds { pid: i32, path: PathBuf },
}

impl ServiceKind {
    /// What runs this process, whose launcher is that file.
    pub fn here(launcher: &Path) -> Self {
        match own_unit() {
            // Only a unit that waits for its agent's word is one that was made for it.
            Some(unit) if environment::notify_socket().is_some() => Self::Systemd { unit },
            Some(_) | None => Self::Process {
                program: launcher.to_owned(),
                arguments: std::env::args_os()
                    .skip(1)
                    .map(|argument| argument.to_string_lossy().into_owned())
                    .collect(),
                dir: std::env::current_dir().unwrap_or_else(|_| "/".into()),
            },
        }
    }

    /// Starts the watcher, which outlives whoever starts it. One that runs already stays the only one.
    pub fn start_watcher(&self, launcher: &Path, files: &UpdateFiles) -> Result<(), ServiceError> {
        match self {
            Self::Systemd { .. } => {
                // Fails where it never failed, or is not there, which the start tells better.
                let _ = systemd::systemctl("reset-failed", WATCH_UNIT);
                systemd::systemctl("start", WATCH_UNIT).map(drop)
            }
            Self::Process { .. } => {
                let mut command = Command::new(launcher);
                environment::unlaunch(&mut command);
                command
                    .arg("--state-dir")
                    .arg(files.state_dir())
                    .args(["watch-update", "--detach"])
                    .stdin(Stdio::null());
                // Its end is not awaited: it ends after this process.
                command
                    .spawn()
                    .map(drop)
                    .map_err(run(&launcher.display().to_string()))
            }
        }
    }

    /// The agent that the order is about.
    pub(super) fn of(&self, files: &UpdateFiles, clock: &Clock) -> Any {
        match self {
            Self::Systemd { unit } => {
                let lock = files.state_dir().join(AGENT_LOCK);
                Any::Systemd(Systemd::new(unit.clone(), lock, clock.clone()))
            }
            Self::Process {
                program,
                arguments,
                dir,
            } => {
                let mut command = Command::new(program);
                environment::unlaunch(&mut command);
                command.args(arguments).current_dir(dir);
                Any::Process(Box::new(Process::new(
                    command,
                    files.clone(),
                    clock.clone(),
                )))
            }
        }
    }
}

/// Whichever it is.
#[derive(Debug)]
pub(super) enum Any {
    Systemd(Systemd),
    Process(Box<Process>),
}

impl Service for Any {
    fn stop(&mut self) -> Result<(), ServiceError> {
        match self {
            Self::Systemd(service) => service.stop(),
            Self::Process(service) => service.stop(),
        }
    }

    fn start(&mut self) -> Result<(), ServiceError> {
        match self {
            Self::Systemd(service) => service.start(),
            Self::Process(service) => service.start(),
        }
    }

    fn look(&mut self) -> Result<Look, ServiceError> {
        match self {
            Self::Systemd(service) => service.look(),
            Self::Process(service) => service.look(),
        }
    }
}

/// The unit that this process belongs to, by its control group.
fn own_unit() -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    unit_of(&groups)
}

fn unit_of(groups: &str) -> Option<String> {
    let mut units = groups.lines().filter_map(|line| line.rsplit('/').next());
    units
        .find(|name| name.ends_with(".service"))
        .map(str::to_owned)
}

/// Waits until nobody holds the lock.
fn await_release(lock: &Path, clock: &Clock, limit: Duration) -> bool {
    let end = clock.boot().saturating_add(limit);
    while Lock::is_held(lock) {
        if clock.boot() >= end {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

fn run(program: &str) -> impl FnOnce(io::Error) -> ServiceError + use<> {
    let program = program.to_owned();
    move |source| ServiceError::Run { program, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_read_from_either_form_of_control_groups() {
        let unified = "0::/system.slice/comber-agent.service\n";
        let hybrid = "12:pids:/\n1:name=systemd:/system.slice/comber-agent.service\n0::/\n";
        for groups in [unified, hybrid] {
            assert_eq!(unit_of(groups).as_deref(), Some("comber-agent.service"));
        }
        assert_eq!(unit_of("0::/user.slice/session-2.scope\n"), None);
    }
}
