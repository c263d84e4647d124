//! Events: what happened, for people and pipelines to follow. One is written with each durable change it tells of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rollout::{Outcome, Outcomes};
use crate::{HostId, RolloutId};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the controller's clock.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// In which rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutId>,
    /// Index of the wave concerned, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<u16>,
    /// The host concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// The person behind it; absent where the planner acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// For people, one line.
    pub text: String,
    /// A host's outcome before and after, where it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<(Outcome, Outcome)>,
    /// The rollout's outcomes after this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Outcomes>,
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is a noun and what became of it")]
pub enum EventKind {
    HostEnrolled,
    HostLabelled,
    HostRetired,
    HostRevoked,
    HostCloned,
    HostResolved,
    EnrolmentRefused,
    EnrolmentRequested,
    EnrolmentRejected,
    CertificateRevoked,
    CaRotationBegun,
    CaRotationSwitched,
    CaRotationFinished,
    OperatorEnrolled,
    TokenCreated,
    TokenRevoked,
    ReleasePublished,
    ReleaseDeleted,
    RepositoryImported,
    FreezeAdded,
    FreezeRemoved,
    BudgetSet,
    BudgetDeleted,
    LockTaken,
    LockReleased,
    RolloutOverdue,
    RolloutCreated,
    RolloutStarted,
    RolloutPaused,
    RolloutResumed,
    RolloutHalted,
    RolloutRollingBack,
    RolloutRolledBack,
    RolloutCompleted,
    RolloutAborted,
    RolloutFenced,
    WaveOpened,
    WavePassed,
    OutcomeChanged,
    HostRolledBack,
}

impl EventKind {
    /// The word used in files, logs and the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HostEnrolled => "host_enrolled",
            Self::HostLabelled => "host_labelled",
            Self::HostRetired => "host_retired",
            Self::HostRevoked => "host_revoked",
            Self::HostCloned => "host_cloned",
            Self::HostResolved => "host_resolved",
            Self::EnrolmentRefused => "enrolment_refused",
            Self::EnrolmentRequested => "enrolment_requested",
            Self::EnrolmentRejected => "enrolment_rejected",
            Self::CertificateRevoked => "certificate_revoked",
            Self::CaRotationBegun => "ca_rotation_begun",
            Self::CaRotationSwitched => "ca_rotation_switched",
            Self::CaRotationFinished => "ca_rotation_finished",
            Self::OperatorEnrolled => "operator_enrolled",
            Self::TokenCreated => "token_created",
            Self::TokenRevoked => "token_revoked",
            Self::ReleasePublished => "release_published",
            Self::ReleaseDeleted => "release_deleted",
            Self::RepositoryImported => "repository_imported",
            Self::FreezeAdded => "freeze_added",
            Self::FreezeRemoved => "freeze_removed",
            Self::BudgetSet => "budget_set",
            Self::BudgetDeleted => "budget_deleted",
            Self::LockTaken => "lock_taken",
            Self::LockReleased => "lock_released",
            Self::RolloutOverdue => "rollout_overdue",
            Self::RolloutCreated => "rollout_created",
            Self::RolloutStarted => "rollout_started",
            Self::RolloutPaused => "rollout_paused",
            Self::RolloutResumed => "rollout_resumed",
            Self::RolloutHalted => "rollout_halted",
            Self::RolloutRollingBack => "rollout_rolling_back",
            Self::RolloutRolledBack => "rollout_rolled_back",
            Self::RolloutCompleted => "rollout_completed",
            Self::RolloutAborted => "rollout_aborted",
            Self::RolloutFenced => "rollout_fenced",
            Self::WaveOpened => "wave_opened",
            Self::WavePassed => "wave_passed",
            Self::OutcomeChanged => "outcome_changed",
            Self::HostRolledBack => "host_rolled_back",
        }
    }
}
