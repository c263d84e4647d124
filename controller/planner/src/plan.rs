//! A plan: every record that changes, whole, and nothing left to decide for whoever carries it out.

use comber_model::event::Event;
use comber_model::rollout::{Member, Rollout};
use comber_model::{Desired, Generation, HostId, RolloutId};
use jiff::Timestamp;

/// What changes. Committed as one transaction where `parent` is still the last committed generation, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The plan that it was made upon.
    pub parent: Generation,
    /// Its own number, the one after `parent`.
    pub generation: Generation,
    /// Rollouts that changed.
    pub rollouts: Vec<Rollout>,
    /// Members that changed or joined.
    pub members: Vec<(RolloutId, Member)>,
    /// Desired states that changed; to be sent once the plan is durable.
    pub desired: Vec<(HostId, Desired)>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// The earliest time at which something changes though nothing is heard; plan again then at the latest.
    pub next_wake: Option<Timestamp>,
}

impl Plan {
    /// A plan that changes nothing.
    pub(crate) fn empty(parent: Generation) -> Self {
        Self {
            parent,
            generation: parent.next(),
            rollouts: Vec::new(),
            members: Vec::new(),
            desired: Vec::new(),
            events: Vec::new(),
            next_wake: None,
        }
    }

    /// True where there is nothing to commit; `next_wake` still holds.
    pub fn is_empty(&self) -> bool {
        self.rollouts.is_empty()
            && self.members.is_empty()
            && self.desired.is_empty()
            && self.events.is_empty()
    }
}

/// What each step did, in the order in which they ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanReport {
    /// One entry per step, summed over the rounds.
    pub steps: Vec<StepReport>,
    /// How often the steps ran until nothing changed any more. One round is enough where nothing happened.
    pub rounds: u32,
    /// False where the rounds were used up first: the next plan goes on from here.
    pub settled: bool,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepReport {
    /// Its name, as the file in `steps/`.
    pub step: &'static str,
    /// Records that it changed.
    pub changes: u32,
}
