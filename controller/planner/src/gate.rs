//! The gates between waves: arithmetic only, shared by the steps, by commands and by explanations.

use comber_model::rollout::{HaltReason, Rollout};

use crate::tally::Tally;

/// Index of the last open wave; absent before the first opens.
pub(crate) fn last_open(rollout: &Rollout) -> Option<u16> {
    let open = rollout
        .waves
        .iter()
        .rposition(|wave| wave.opened_at.is_some())?;
    u16::try_from(open).ok()
}

/// The gate of an open wave's successor that can never be met again, with its numbers. Only while a wave is left to
/// open: after that, budgets alone decide.
pub(crate) fn impossible(rollout: &Rollout, tally: &Tally) -> Option<HaltReason> {
    let last = usize::from(last_open(rollout)?);
    if last + 1 >= rollout.waves.len() {
        return None;
    }
    (0..=last).find_map(|wave| {
        let success = rollout.spec.waves.get(wave + 1)?.gate.success;
        let counts = tally.wave(wave);
        let (counted, failed) = (counts.counted(), counts.outcomes.failed);
        let best = counted.saturating_sub(failed) as usize;
        let out_of_reach = best < success.of_rounded_up(counted as usize);
        out_of_reach.then(|| HaltReason::GateImpossible {
            succeeded: counts.outcomes.succeeded,
            failed,
            counted,
            success,
        })
    })
}
