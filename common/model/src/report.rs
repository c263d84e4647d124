//! A report: how one attempt ended on a host. Kept by the agent until the controller has it durably.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Failure, Generation, ReleaseId, RolloutId};

/// The end of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Counts the host's reports from 1 and never falls; acknowledged by number.
    pub number: u64,
    /// The assignment that the attempt worked on.
    pub generation: Generation,
    /// On whose behalf.
    pub rollout: RolloutId,
    /// What was tried.
    pub release: ReleaseId,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// How it ended.
    pub result: ReportResult,
    /// When the host took up the attempt, by the host's clock: for people, never for a decision.
    pub started_at: Timestamp,
    /// When it ended, by the host's clock.
    pub finished_at: Timestamp,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ReportResult {
    /// The release is active, its checks passed, it is kept.
    Committed,
    /// Nothing was activated.
    NotActivated {
        /// Why.
        failure: Failure,
    },
    /// The host looked and the release is none for it. Nothing was activated, and nothing failed.
    NotApplicable {
        /// Why, of class `preflight`.
        failure: Failure,
    },
    /// It was activated, failed, and the host is back where it was before.
    RolledBack {
        /// Why it had to go back.
        failure: Failure,
    },
    /// It failed and the way back failed too, or there is none: the host needs a person.
    Broken {
        /// What failed last.
        failure: Failure,
    },
}

impl ReportResult {
    /// The failure, or why it is not applicable, where there is one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Committed => None,
            Self::NotActivated { failure }
            | Self::NotApplicable { failure }
            | Self::RolledBack { failure }
            | Self::Broken { failure } => Some(failure),
        }
    }
}
