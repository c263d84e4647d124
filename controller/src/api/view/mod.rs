//! Records as the messages that people and pipelines see. Pure; nothing is left out silently.

mod budget;
mod event;
mod freeze;
mod host;
mod release;
mod rollout;
mod trust;

pub(super) use budget::{budget, budget_row, lock};
pub(super) use event::event;
pub(super) use freeze::freeze;
pub(super) use host::{host, member, package, package_summary, token};
pub(super) use release::release;
pub(super) use rollout::{explanation, hold, preview, rollout, rollout_row};
pub(super) use trust::repository;

use comber_model::rollout::Outcomes;
use comber_proto::rollout::v1 as wire;

/// Counts by outcome.
fn outcomes(counts: Outcomes) -> wire::Outcomes {
    wire::Outcomes {
        succeeded: counts.succeeded,
        failed: counts.failed,
        pending: counts.pending,
        unreached: counts.unreached,
        excluded: counts.excluded,
        total: counts.total,
    }
}

/// A count for the wire.
pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
