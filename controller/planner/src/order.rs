//! Which rollouts must be completed before another begins: infrastructure first.
//!
//! A rollout may only name rollouts that were created before it, so none can wait for itself. Once its hosts are
//! selected it does not look back: what is completed may halt later without stopping those who waited for it.

use comber_model::rollout::{Rollout, RolloutSpec, RolloutState};
use comber_model::{Hold, Invalid, RolloutId};

use crate::PlanInput;

/// What the rollout waits for before it selects its hosts; absent where it waits for nothing.
pub(crate) fn waits_for(input: &PlanInput, rollout: &Rollout) -> Option<Hold> {
    if !rollout.waves.is_empty() {
        return None;
    }
    rollout.spec.after.iter().find_map(|id| {
        let state = input.rollouts.get(id).map(|view| view.rollout.state);
        let is_done = state == Some(RolloutState::Completed);
        (!is_done).then_some(Hold::AfterRollout {
            rollout: *id,
            state,
        })
    })
}

/// What is wrong with the rollouts that it names; `id` is its own number.
pub(crate) fn problems(input: &PlanInput, spec: &RolloutSpec, id: RolloutId) -> Vec<Invalid> {
    let wrong = spec.after.iter().filter_map(|before| {
        let view = input.rollouts.get(before).filter(|_| *before < id);
        let problem = match view.map(|view| view.rollout.state) {
            None => format!("{before} is not a rollout from before this one; list them with: comber rollout list"),
            Some(RolloutState::Aborted) => format!("{before} is aborted, so this would wait for ever"),
            Some(_) => return None,
        };
        Some(Invalid::new("after", problem))
    });
    wrong.collect()
}
