//! One host in one rollout: where it stands, durably.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ExcludedReason, Outcome};
use crate::{Failure, Generation, Grant, HostId, Version, duration};

/// One selected host's part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which host.
    pub host: HostId,
    /// Index of its wave, from 0.
    pub wave: u16,
    /// Its place within the wave: hosts move in this order.
    pub order: u32,
    /// Where it stands.
    pub state: MemberState,
    /// When it came to stand there, by the controller's clock.
    pub since: Timestamp,
    /// Tries begun so far.
    pub attempts: u32,
    /// Generation of the last assignment given to it in this rollout, 0 before the first.
    pub generation: Generation,
    /// What the host had of this product when it was first assigned; what it goes back to. Absent inside: it had none.
    /// Absent outside: never assigned.
    pub before: Option<Option<Version>>,
    /// How long the attempt in hand may still take; absent while none is received.
    #[serde(default)]
    pub clock: Option<AttemptClock>,
    /// The last permit given to it, kept until the host is known to have used it or to be unable to: also when it was
    /// revoked, and when it is over but the host is away. Until then it fences an abort.
    pub grant: Option<Grant>,
    /// Why the last attempt failed, kept while another is made.
    pub last_failure: Option<Failure>,
    /// Its way back, where the rollout is rolled back.
    pub roll_back: Option<RollBack>,
    /// The environments that it stands for: places in the rollout's list of them. As when it was selected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<u16>,
}

/// The time that is left for an attempt. It stands still while the host waits for its permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "clock")]
pub enum AttemptClock {
    /// The host works.
    Running {
        /// The attempt must have ended by then.
        deadline: Timestamp,
    },
    /// The host waits for its permit.
    Stopped {
        /// Left when it began to wait.
        #[serde(with = "duration")]
        left: Duration,
    },
}

/// Where a selected host stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum MemberState {
    /// Its wave is not open, or the rollout is held: nothing is assigned yet.
    Waiting,
    /// Its wave is open; it has not confirmed receipt since then.
    Unreached {
        /// True once `unreached.after` is over: the wave goes on without it.
        overdue: bool,
    },
    /// It confirmed receipt and works on it, at its own pace until it needs a permit.
    Received,
    /// It may activate, or has.
    Activating,
    /// An attempt failed and another follows.
    Backoff {
        /// Not before.
        until: Timestamp,
    },
    /// It runs the release and has proved healthy, or did already when it was asked.
    Succeeded {
        /// True where the host had the release before it was assigned anything.
        already: bool,
    },
    /// The last attempt failed.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// It was set aside.
    Excluded {
        /// Why.
        reason: ExcludedReason,
    },
}

/// The way back of one host of a rollout that is rolled back. Beside its outcome, which stays what the rollout brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "roll_back")]
pub enum RollBack {
    /// It shall go back and has not been told yet, or has not finished.
    Wanted,
    /// It is back on what it had.
    Done,
    /// It could not go back.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// The release is irreversible, or what the host had is no longer published.
    Impossible {
        /// Which of the two, for people.
        why: String,
    },
}

impl Member {
    /// Its outcome.
    pub fn outcome(&self) -> Outcome {
        match &self.state {
            MemberState::Waiting
            | MemberState::Received
            | MemberState::Activating
            | MemberState::Backoff { .. } => Outcome::Pending,
            MemberState::Unreached { .. } => Outcome::Unreached,
            MemberState::Succeeded { .. } => Outcome::Succeeded,
            MemberState::Failed { failure } => Outcome::Failed {
                class: failure.class,
            },
            MemberState::Excluded { reason } => Outcome::Excluded { reason: *reason },
        }
    }

    /// True where nothing more is planned for it, unless it says something new.
    pub fn is_settled(&self) -> bool {
        match &self.state {
            MemberState::Succeeded { .. }
            | MemberState::Failed { .. }
            | MemberState::Excluded { .. } => true,
            MemberState::Unreached { overdue } => *overdue,
            MemberState::Waiting
            | MemberState::Received
            | MemberState::Activating
            | MemberState::Backoff { .. } => false,
        }
    }
}
