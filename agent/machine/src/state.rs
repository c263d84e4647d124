//! Where the machine stands, with all that is needed to go on from there after a crash.
//!
//! Invariant: a state that can be active holds the work and its recipe; nothing of an attempt lives elsewhere.

use comber_model::host::AttemptStatus;
use comber_model::{Action, AgentState, Assignment, Failure, Generation, Installed, Nonce};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::Found;
use crate::{BootId, Change, Moment, Recipe};

/// Where the machine stands. The diagram is in the crate's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum State {
    /// No work.
    #[default]
    Idle,
    /// Brings the bytes.
    Fetching {
        /// The attempt.
        work: Work,
    },
    /// The bytes are on the host; preflight runs.
    Staged {
        /// The attempt.
        work: Work,
        /// From the release's manifest.
        recipe: Recipe,
        /// Of the preflight.
        deadline: Moment,
    },
    /// Everything is ready; it needs leave to activate.
    AwaitingPermit {
        /// The attempt.
        work: Work,
        /// From the release's manifest.
        recipe: Recipe,
        /// What it asks; absent while the controller is away and a permit could not be used.
        request: Option<Request>,
    },
    /// Switches over.
    Activating {
        /// The attempt.
        work: Work,
        /// From the release's manifest.
        recipe: Recipe,
        /// Until when it may begin; past the first look at the clock it only tells that a permit was used.
        leave: Moment,
        /// Of the switch.
        deadline: Moment,
        /// How often it was taken up again after a crash.
        resumed: u32,
    },
    /// Asked for a reboot and waits for the next boot.
    Rebooting {
        /// The attempt.
        work: Work,
        /// From the release's manifest.
        recipe: Recipe,
        /// Into what.
        way: Way,
        /// The boot that it leaves, noted before it asks.
        from: BootId,
        /// Until it must be up on another boot. Only the boot it leaves can reach it: a host that came up has rebooted.
        deadline: Moment,
        /// When to ask again after a refusal.
        again: Option<Moment>,
        /// The last refusal, for the failure's detail.
        refused: Option<String>,
    },
    /// Proves the host healthy.
    Verifying {
        /// The attempt.
        work: Work,
        /// From the release's manifest.
        recipe: Recipe,
        /// False where there was nothing to do and the release was only looked at.
        activated: bool,
        /// Of the checks.
        deadline: Moment,
        /// How often it was taken up again after a crash.
        resumed: u32,
    },
    /// The release is kept; its report is not acknowledged.
    Committed {
        /// Its number.
        report: u64,
    },
    /// Goes back.
    RollingBack {
        /// The attempt.
        work: Work,
        /// From the release's manifest.
        recipe: Recipe,
        /// Why.
        failure: Failure,
        /// Of the way back.
        deadline: Moment,
        /// How often it was taken up again after a crash.
        resumed: u32,
        /// True where nothing failed: the activation was interrupted before the switch and its permit is over. The host
        /// makes sure that it runs what it ran, and asks again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lapsed: bool,
        /// True once the host has booted out of what was undone: it only has to prove that it came up as before. An
        /// agent that does not know the field goes back and reboots once more, which is harmless.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        booted: bool,
    },
    /// Is back; its report is not acknowledged.
    RolledBack {
        /// Its number.
        report: u64,
    },
    /// No work, and a product that is neither what it was nor what it should be. Stays, also once acknowledged, until
    /// an assignment that says `retry_bad` or `rolls_back` (somebody decided) is committed.
    Broken {
        /// What failed last.
        failure: Failure,
    },
}

/// One attempt at one assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// What was assigned.
    pub assignment: Assignment,
    /// The newest generation that said so.
    pub generation: Generation,
    /// When it was taken up, by the host's clock.
    pub started_at: Timestamp,
    /// What was active when the activation began: the way back. Absent before, and where there was nothing.
    pub before: Option<Installed>,
    /// The boot in which the activation began; absent before. A host that runs in another one by now may have booted
    /// into the change.
    pub began_in: Option<BootId>,
}

impl Work {
    /// True where the host runs in another boot by now than the one in which the activation began.
    pub(crate) fn rebooted(&self, now: &BootId) -> bool {
        self.began_in.as_ref().is_some_and(|began| began != now)
    }

    /// What the effects need to know of it.
    pub fn change(&self) -> Change {
        Change {
            release: self.assignment.release.clone(),
            action: self.assignment.action.clone(),
            before: self.before.clone(),
            rolls_back: self.assignment.rolls_back,
        }
    }

    /// The work before its activation began.
    pub(crate) fn untouched(self) -> Self {
        Self {
            before: None,
            began_in: None,
            ..self
        }
    }

    /// True where the switch was made, by what is on the disk.
    pub(crate) fn is_made(&self, found: &Found) -> bool {
        let release = &self.assignment.release;
        let active = found.active.get(&release.name);
        match &self.assignment.action {
            Action::Install { artifact } => active.is_some_and(|active| {
                active.version == release.version && active.digest == artifact.digest
            }),
            Action::Remove => active.is_none_or(|active| active.version != release.version),
        }
    }

    pub(crate) fn installs(&self) -> bool {
        match self.assignment.action {
            Action::Install { .. } => true,
            Action::Remove => false,
        }
    }

    pub(crate) fn status(&self, nonce: Option<Nonce>) -> AttemptStatus {
        AttemptStatus {
            generation: self.generation,
            rollout: self.assignment.rollout,
            release: self.assignment.release.clone(),
            number: self.assignment.attempt,
            nonce,
        }
    }
}

/// A request for a permit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its name; a permit answers this one only.
    pub nonce: Nonce,
    /// When it was asked: a permit's life counts from here, so neither a slow network nor a slow controller stretches
    /// it.
    pub asked: Moment,
}

/// What a reboot leads into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Way {
    /// Into the new release.
    Forward,
    /// Into the old one.
    Back {
        /// Why.
        failure: Failure,
    },
}

impl State {
    /// The state without its data, as the controller sees it.
    pub fn kind(&self) -> AgentState {
        match self {
            Self::Idle => AgentState::Idle,
            Self::Fetching { .. } => AgentState::Fetching,
            Self::Staged { .. } => AgentState::Staged,
            Self::AwaitingPermit { .. } => AgentState::AwaitingPermit,
            Self::Activating { .. } => AgentState::Activating,
            Self::Rebooting { .. } => AgentState::Rebooting,
            Self::Verifying { .. } => AgentState::Verifying,
            Self::Committed { .. } => AgentState::Committed,
            Self::RollingBack { .. } => AgentState::RollingBack,
            Self::RolledBack { .. } => AgentState::RolledBack,
            Self::Broken { .. } => AgentState::Broken,
        }
    }

    /// The attempt in hand; absent once it has ended.
    pub fn work(&self) -> Option<&Work> {
        match self {
            Self::Fetching { work }
            | Self::Staged { work, .. }
            | Self::AwaitingPermit { work, .. }
            | Self::Activating { work, .. }
            | Self::Rebooting { work, .. }
            | Self::Verifying { work, .. }
            | Self::RollingBack { work, .. } => Some(work),
            Self::Idle | Self::Committed { .. } | Self::RolledBack { .. } | Self::Broken { .. } => {
                None
            }
        }
    }

    pub(crate) fn work_mut(&mut self) -> Option<&mut Work> {
        match self {
            Self::Fetching { work }
            | Self::Staged { work, .. }
            | Self::AwaitingPermit { work, .. }
            | Self::Activating { work, .. }
            | Self::Rebooting { work, .. }
            | Self::Verifying { work, .. }
            | Self::RollingBack { work, .. } => Some(work),
            Self::Idle | Self::Committed { .. } | Self::RolledBack { .. } | Self::Broken { .. } => {
                None
            }
        }
    }

    /// The next instant at which the machine must be woken by `Event::Deadline`.
    pub(crate) fn deadline(&self) -> Option<&Moment> {
        match self {
            Self::Staged { deadline, .. }
            | Self::Activating { deadline, .. }
            | Self::Verifying { deadline, .. }
            | Self::RollingBack { deadline, .. } => Some(deadline),
            Self::Rebooting {
                deadline, again, ..
            } => match again {
                Some(again) if again.at < deadline.at => Some(again),
                Some(_) | None => Some(deadline),
            },
            Self::Idle
            | Self::Fetching { .. }
            | Self::AwaitingPermit { .. }
            | Self::Committed { .. }
            | Self::RolledBack { .. }
            | Self::Broken { .. } => None,
        }
    }
}
