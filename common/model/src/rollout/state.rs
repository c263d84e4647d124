//! A rollout as the controller keeps it: what was asked, and how far it is.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Cover, RolloutSpec, Round, Urgency};
use crate::{Amount, FailureClass, Percent, RolloutId};

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its number.
    pub id: RolloutId,
    /// What was asked.
    pub spec: std::sync::Arc<RolloutSpec>,
    /// Who created it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: RolloutState,
    /// Since when.
    pub since: Timestamp,
    /// When it was first started.
    pub started_at: Option<Timestamp>,
    /// When an operator last resumed it after a halt: budgets count only what ended since.
    #[serde(default)]
    pub resumed_at: Option<Timestamp>,
    /// When it was found to be past its due date, where it was not over by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue_at: Option<Timestamp>,
    /// Progress of each wave of the spec, in order; empty until the plan after its start has selected its hosts.
    pub waves: Vec<WaveProgress>,
    /// The environments of its hosts as they were selected, where it looks at them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cover: Option<Cover>,
    /// Why it halted; kept while it rolls back and afterwards.
    pub halt: Option<Halt>,
    /// Which hosts go back, while and after it rolls back.
    pub roll_back: Option<RollBackScope>,
}

impl Rollout {
    /// A new one, which changes nothing until it is started.
    pub fn draft(
        id: RolloutId,
        spec: std::sync::Arc<RolloutSpec>,
        author: impl Into<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            spec,
            author: author.into(),
            created_at: now,
            state: RolloutState::Draft,
            since: now,
            started_at: None,
            resumed_at: None,
            overdue_at: None,
            waves: Vec::new(),
            cover: None,
            halt: None,
            roll_back: None,
        }
    }

    /// When it is due; absent before it is started.
    pub fn due_at(&self) -> Option<Timestamp> {
        let started = self.started_at?;
        let from = self.spec.starts_at().map_or(started, |at| at.max(started));
        Some(self.spec.due.at(self.spec.priority, from))
    }

    /// How urgent it is as things stand.
    pub fn urgency(&self) -> Urgency {
        Urgency::of(self.spec.priority, self.overdue_at.is_some())
    }
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Created; changes nothing on any host.
    Draft,
    /// Opens waves and gives permits.
    Running,
    /// Gives no permit until it is resumed; hosts that are active finish.
    Paused,
    /// Stopped by a gate or budget, and where asked, rolled back. Can be resumed by an operator.
    Halted,
    /// Hosts go back to what they had.
    RollingBack,
    /// Every host is settled. Hosts that return late still catch up.
    Completed,
    /// Stopped for good by an operator.
    Aborted,
}

impl RolloutState {
    /// Every state, in the order of a rollout's life.
    pub const ALL: [Self; 7] = [
        Self::Draft,
        Self::Running,
        Self::Paused,
        Self::Halted,
        Self::RollingBack,
        Self::Completed,
        Self::Aborted,
    ];

    /// The word used in files, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::RollingBack => "rolling_back",
            Self::Completed => "completed",
            Self::Aborted => "aborted",
        }
    }

    /// True where `rollout watch` has nothing more to wait for.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Halted | Self::Completed | Self::Aborted)
    }
}

impl fmt::Display for RolloutState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How far one wave is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveProgress {
    /// When its hosts were first assigned work.
    pub opened_at: Option<Timestamp>,
    /// Since when its successes have been enough for the next wave's gate; the soak counts from here. Taken back when
    /// they are no longer enough.
    pub good_since: Option<Timestamp>,
    /// What was last asked of others for this wave to open, and what came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<Round>,
}

/// A rollout's stop by a gate or budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// When.
    pub at: Timestamp,
    /// Index of the last open wave, from 0.
    pub wave: u16,
    /// The rule, with its numbers at that moment.
    pub reason: HaltReason,
}

/// Which rule stopped a rollout, with its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rule")]
#[expect(missing_docs, reason = "the fields are the numbers that Display words")]
pub enum HaltReason {
    /// More failures than the budget allows.
    FailureBudget {
        failed: u32,
        finished: u32,
        max: Amount,
    },
    /// More failures of one class than its budget allows.
    ClassBudget {
        class: FailureClass,
        failed: u32,
        finished: u32,
        max: Amount,
    },
    /// More failures in one wave than its own budget allows, of all classes or of one.
    WaveBudget {
        wave: u16,
        class: Option<FailureClass>,
        failed: u32,
        finished: u32,
        max: Amount,
    },
    /// A source that the gate of a wave asks has said fail.
    GateFailed {
        wave: u16,
        question: String,
        why: String,
    },
    /// More hosts unreached past their deadline than allowed.
    UnreachedBudget {
        unreached: u32,
        asked: u32,
        max: Amount,
    },
    /// The next gate can no longer be met: too many hosts of the wave failed.
    GateImpossible {
        succeeded: u32,
        failed: u32,
        counted: u32,
        success: Percent,
    },
    /// An internal check of the plan failed; nothing of that plan was carried out.
    PlanRefused { finding: String },
}

impl HaltReason {
    /// The rule's name, as in stored events and metrics.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::FailureBudget { .. } => "failure_budget",
            Self::ClassBudget { .. } => "class_budget",
            Self::WaveBudget { .. } => "wave_budget",
            Self::GateFailed { .. } => "gate_failed",
            Self::UnreachedBudget { .. } => "unreached_budget",
            Self::GateImpossible { .. } => "gate_impossible",
            Self::PlanRefused { .. } => "plan_refused",
        }
    }
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailureBudget {
                failed,
                finished,
                max,
            } => write!(
                f,
                "failure budget spent: {failed} of {finished} finished hosts failed, at most {max} may"
            ),
            Self::ClassBudget {
                class,
                failed,
                finished,
                max,
            } => write!(
                f,
                "failure budget for {class} spent: {failed} of {finished} finished hosts failed so, at most {max} may"
            ),
            Self::WaveBudget {
                wave,
                class,
                failed,
                finished,
                max,
            } => {
                write!(f, "failure budget of wave {wave} ")?;
                class.map_or(Ok(()), |class| write!(f, "for {class} "))?;
                write!(
                    f,
                    "spent: {failed} of its {finished} finished hosts failed, at most {max} may"
                )
            }
            Self::GateFailed {
                wave,
                question,
                why,
            } => write!(f, "gate of wave {wave} failed: {question} says fail: {why}"),
            Self::UnreachedBudget {
                unreached,
                asked,
                max,
            } => write!(
                f,
                "too much silence: {unreached} of {asked} hosts asked did not confirm receipt in time, at most {max} may"
            ),
            Self::GateImpossible {
                succeeded,
                failed,
                counted,
                success,
            } => write!(
                f,
                "gate out of reach: {failed} of {counted} hosts of the wave failed and {succeeded} succeeded, {success} must succeed"
            ),
            Self::PlanRefused { finding } => {
                write!(f, "the plan broke a rule and was refused: {finding}")
            }
        }
    }
}

/// Which hosts of a rollout go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "scope")]
pub enum RollBackScope {
    /// Those of waves from this index on.
    WavesFrom {
        /// Index of the first wave that goes back, from 0.
        wave: u16,
        /// Where the rollout stands afterwards: halted by a gate, or aborted by an operator.
        then: RolloutState,
    },
}
