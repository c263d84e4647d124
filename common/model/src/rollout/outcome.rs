//! The four outcomes, and `excluded` beside them. They always add up to the selected hosts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::FailureClass;

/// How one selected host stands in one rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It runs the release and has proved healthy.
    Succeeded,
    /// It does not; no further try is planned.
    Failed {
        /// Which step failed.
        class: FailureClass,
    },
    /// It waits for its wave, or has its assignment and is not finished.
    Pending,
    /// Its wave is open and it has not confirmed receipt.
    Unreached,
    /// It was set aside.
    Excluded {
        /// Why.
        reason: ExcludedReason,
    },
}

impl Outcome {
    /// The word used in files, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Pending => "pending",
            Self::Unreached => "unreached",
            Self::Excluded { .. } => "excluded",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { class } => write!(f, "failed({class})"),
            Self::Excluded { reason } => write!(f, "excluded({reason})"),
            Self::Succeeded | Self::Pending | Self::Unreached => f.write_str(self.as_str()),
        }
    }
}

/// Why a selected host was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExcludedReason {
    /// The release's platforms do not include it.
    NotApplicable,
    /// A later rollout of the same product took it over.
    Superseded,
    /// The rollout was aborted before the host activated anything.
    Cancelled,
    /// The host was retired.
    Retired,
    /// Its labels or facts changed, so that the selector no longer means it, before it received anything.
    NoLongerSelected,
}

impl ExcludedReason {
    /// The word used in files, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotApplicable => "not_applicable",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
            Self::Retired => "retired",
            Self::NoLongerSelected => "no_longer_selected",
        }
    }
}

impl fmt::Display for ExcludedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How many hosts of a rollout stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each field is the count of the outcome of its name"
)]
pub struct Outcomes {
    pub succeeded: u32,
    pub failed: u32,
    pub pending: u32,
    pub unreached: u32,
    pub excluded: u32,
    /// All selected hosts: the sum of the others.
    pub total: u32,
}

impl Outcomes {
    /// Counts one host in.
    pub fn add(&mut self, outcome: Outcome) {
        *self.slot(outcome) += 1;
        self.total += 1;
    }

    /// Counts one host out; the opposite of [`Outcomes::add`].
    pub fn remove(&mut self, outcome: Outcome) {
        let slot = self.slot(outcome);
        *slot = slot.saturating_sub(1);
        self.total = self.total.saturating_sub(1);
    }

    /// Hosts that have finished: what a failure budget is a share of.
    pub fn finished(&self) -> u32 {
        self.succeeded + self.failed
    }

    /// True where no host is left out or counted twice.
    pub fn add_up(&self) -> bool {
        self.succeeded + self.failed + self.pending + self.unreached + self.excluded == self.total
    }

    fn slot(&mut self, outcome: Outcome) -> &mut u32 {
        match outcome {
            Outcome::Succeeded => &mut self.succeeded,
            Outcome::Failed { .. } => &mut self.failed,
            Outcome::Pending => &mut self.pending,
            Outcome::Unreached => &mut self.unreached,
            Outcome::Excluded { .. } => &mut self.excluded,
        }
    }
}

impl FromIterator<Outcome> for Outcomes {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut counts = Self::default();
        outcomes.into_iter().for_each(|outcome| counts.add(outcome));
        counts
    }
}
