//! Why something does not move: the typed holds behind `comber why`.

use comber_model::rollout::{Outcome, Outcomes, RollBack, RolloutState};
use comber_model::{Hold, HostId, Link, RolloutId};
use jiff::Timestamp;

use crate::{Fence, PlanInput};

/// One host in every rollout that it is a member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostExplanation {
    /// Whether it is there.
    pub link: Link,
    /// The rollout whose assignment it has, where it has one.
    pub assigned: Option<RolloutId>,
    /// Its memberships, latest rollout first.
    pub rollouts: Vec<MemberExplanation>,
}

/// One host in one rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberExplanation {
    /// Which rollout.
    pub rollout: RolloutId,
    /// Which host.
    pub host: HostId,
    /// Index of its wave, from 0.
    pub wave: u16,
    /// How it stands.
    pub outcome: Outcome,
    /// Why it does not move; absent where it has ended.
    pub hold: Option<Hold>,
    /// Its way back, where there is one.
    pub roll_back: Option<RollBack>,
}

/// One rollout: what holds each wave and each host that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutExplanation {
    /// Where it stands.
    pub state: RolloutState,
    /// How many hosts stand where.
    pub outcomes: Outcomes,
    /// What holds the rollout as a whole: draft, paused, halted, rolling back.
    pub hold: Option<Hold>,
    /// Every wave, in order.
    pub waves: Vec<WaveExplanation>,
    /// What the next wave waits for, with its numbers; absent where all are open.
    pub next_gate: Option<Hold>,
    /// Hosts of open waves that have not ended, by wave and order.
    pub members: Vec<MemberExplanation>,
    /// Hosts that could still activate after a stop.
    pub fence: Fence,
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveExplanation {
    /// What people call it.
    pub name: String,
    /// When it opened.
    pub opened_at: Option<Timestamp>,
    /// Its hosts' outcomes.
    pub outcomes: Outcomes,
    /// Hosts of it that are or may be down.
    pub in_flight: u32,
    /// Why it is not open; absent where it is.
    pub hold: Option<Hold>,
}

/// Explains one host; absent where it is not enrolled.
pub fn explain_host(input: &PlanInput, host: &HostId, now: Timestamp) -> Option<HostExplanation> {
    let _ = (input.hosts.get(host)?, now);
    None
}

/// Explains one rollout; absent where there is none of that number.
pub fn explain_rollout(
    input: &PlanInput,
    id: RolloutId,
    now: Timestamp,
) -> Option<RolloutExplanation> {
    let _ = (input.rollouts.get(&id)?, now);
    None
}
