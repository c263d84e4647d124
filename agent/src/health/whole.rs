//! Judges the whole host around an activation: what it was like before, whether it came up after a reboot, what failed
//! since, whether the controller can still be reached.
//!
//! Keeps one note on disk and asks systemd; changes nothing else. Where systemd does not run, what only it knows is not
//! judged, and the log says so. Bias: on a host with systemd, what cannot be told fails. Invariant: a unit that was failed
//! before is never held against the release.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use comber_machine::{Change, Moment};
use comber_model::duration;
use comber_model::release::{FailedUnits, SystemChecks};
use comber_runtime::clock::Clock;
use thiserror::Error;

use crate::before::{Before, BeforeError, BeforeFile};
use crate::effects::Noted;
use crate::exec::Exec;
use crate::link::Reach;
use crate::reboot::{BootIdError, Reboot};
use crate::systemd::{SystemState, Systemd, SystemdError};

/// Between two looks at a host that is coming up; a look costs a process.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// How long a newly failed unit has to be started again by its own means. A check of the release judges when it is ready.
const SETTLE: Duration = Duration::from_secs(10);
/// How many units are named.
const NAMED_MAX: usize = 5;

/// What the whole host is judged with.
#[derive(Debug, Clone)]
pub struct Whole {
    systemd: Systemd,
    file: BeforeFile,
    reach: Reach,
    clock: Clock,
}

/// Why the host cannot be judged, or is not well.
#[derive(Debug, Error)]
pub enum WholeError {
    /// systemd does not say what was failed before.
    #[error("cannot tell which units are failed")]
    Units(#[source] SystemdError),
    /// The note.
    #[error(transparent)]
    Before(#[from] BeforeError),
    /// The boot.
    #[error("cannot tell which boot this is")]
    Boot(#[from] BootIdError),
    /// The host is not up.
    #[error("the host did not come up within {}: it is {last}", duration::format(*within))]
    NotUp {
        /// What it said last.
        last: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// Units failed.
    #[error("failed now and not before the activation: {}", named(.0))]
    NewlyFailed(BTreeSet<String>),
    /// The controller is away.
    #[error("the controller was not reached within {} after the activation", duration::format(*.0))]
    NoController(Duration),
}

impl Whole {
    /// Keeps its note in `state_dir`.
    pub fn new(systemd: Systemd, state_dir: &Path, reach: Reach, clock: Clock) -> Self {
        Self {
            systemd,
            file: BeforeFile::new(state_dir),
            reach,
            clock,
        }
    }

    /// Whether the host can be judged at all; looked at before anything is changed.
    pub async fn can_judge(&self) -> Result<(), WholeError> {
        self.failed_units().await.map(drop)
    }

    /// Notes what the host is like, once for each permit; then tells whether that permit still lives.
    pub async fn note(
        &self,
        change: &Change,
        leave: &Moment,
        reboot: &Reboot,
        exec: &Exec,
    ) -> Result<Noted, WholeError> {
        if !self.file.is_taken(change, leave) {
            let before = Before {
                change: change.clone(),
                leave: leave.clone(),
                boot_id: reboot.boot_id()?,
                failed_units: self.failed_units().await?,
                reboot: reboot.need.mark(exec).await,
            };
            let file = self.file.clone();
            let kept = tokio::task::spawn_blocking(move || file.keep(&before)).await;
            // A panic is a fault of the program; a job that was cancelled means that the runtime ends.
            match kept {
                Ok(kept) => kept?,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => std::future::pending().await,
                },
            }
        }
        Ok(if self.clock.boot() < leave.at {
            Noted::Ready
        } else {
            Noted::Lapsed
        })
    }

    /// What was noted of this change.
    pub fn before(&self, change: &Change) -> Result<Option<Before>, WholeError> {
        Ok(self.file.of(change)?)
    }

    /// The attempt has ended.
    pub fn forget(&self) {
        self.file.forget();
    }

    /// Waits until systemd has tried to start everything.
    pub async fn came_up(&self, within: Duration) -> Result<(), WholeError> {
        if !self.systemd.is_there() {
            tracing::info!("no systemd here: whether the host came up is not judged");
            return Ok(());
        }
        let mut last = "not telling".to_owned();
        let up = async {
            loop {
                match self.systemd.state().await {
                    // What failed is judged apart, against what had failed before.
                    Ok(SystemState::Running | SystemState::Degraded) => return,
                    Ok(SystemState::Starting(word) | SystemState::Other(word)) => last = word,
                    Err(error) => last = comber_runtime::telemetry::error_chain(&error),
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        let came = tokio::time::timeout(within, up).await;
        came.map_err(|_| WholeError::NotUp { last, within })
    }

    /// Checks that nothing is failed that was not failed before. What failed for a moment has some seconds to recover.
    pub async fn nothing_new_failed(
        &self,
        before: Option<&Before>,
        checks: &SystemChecks,
    ) -> Result<(), WholeError> {
        if checks.failed_units == FailedUnits::Ignore {
            return Ok(());
        }
        let Some(known) = before.and_then(|before| before.failed_units.as_ref()) else {
            tracing::info!(
                "which units had failed before was not noted: those failed now are not judged"
            );
            return Ok(());
        };
        let until = self.clock.boot().saturating_add(SETTLE);
        loop {
            let Some(failed) = self.failed_units().await? else {
                tracing::info!("no systemd here: failed units are not judged");
                return Ok(());
            };
            let held_against =
                |unit: &&String| !known.contains(*unit) && !checks.may_fail.contains(unit);
            let new: BTreeSet<String> = failed.iter().filter(held_against).cloned().collect();
            if new.is_empty() {
                return Ok(());
            }
            if self.clock.boot() >= until {
                return Err(WholeError::NewlyFailed(new));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Waits for a session with the controller that began after the activation.
    pub async fn reaches_controller(
        &self,
        rebooted: bool,
        within: Duration,
    ) -> Result<(), WholeError> {
        let reached = async {
            if rebooted {
                self.reach.any().await;
            } else {
                self.reach.anew().await;
            }
        };
        let reached = tokio::time::timeout(within, reached).await;
        reached.map_err(|_| WholeError::NoController(within))
    }

    async fn failed_units(&self) -> Result<Option<BTreeSet<String>>, WholeError> {
        if !self.systemd.is_there() {
            return Ok(None);
        }
        let failed = self.systemd.failed_units().await;
        failed.map(Some).map_err(WholeError::Units)
    }
}

fn named(units: &BTreeSet<String>) -> String {
    let named: Vec<&str> = units.iter().take(NAMED_MAX).map(String::as_str).collect();
    let rest = units.len() - named.len();
    let more = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    named.join(", ") + &more
}
