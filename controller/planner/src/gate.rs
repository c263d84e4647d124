//! The rules that open waves and stop rollouts: arithmetic on counts only.
//!
//! Shared by the steps, by commands, previews and explanations, so that what is told is what is done. The checks of a
//! finished plan do not use it.

use comber_model::rollout::{HaltReason, Rollout, RolloutSpec};
use comber_model::{Amount, Hold, hold::Soak};

use crate::tally::{Tally, WaveTally};
use crate::time;

/// Index of the last open wave; absent before the first opens.
pub(crate) fn last_open(rollout: &Rollout) -> Option<u16> {
    let open = rollout
        .waves
        .iter()
        .rposition(|wave| wave.opened_at.is_some())?;
    u16::try_from(open).ok()
}

/// True where the wave is good enough for the next one's gate.
pub(crate) fn holds(spec: &RolloutSpec, tally: &Tally, wave: usize) -> bool {
    let counts = tally.wave(wave);
    let counted = counts.counted();
    if counted == 0 {
        // A wave of which nothing is left proves nothing, nor does it stand against the waves before, which do. One
        // that is only silent holds the rollout, and so does a first wave without hosts.
        return wave > 0 && counts.overdue == 0;
    }
    let success = spec.waves.get(wave + 1).map(|next| next.gate.success);
    let needed = success.map_or(0, |success| success.of_rounded_up(counted as usize));
    counts.outcomes.succeeded as usize >= needed
}

/// The gate of an open wave's successor that can never be met again, with its numbers. Only while a wave is left to
/// open: after that, budgets alone decide.
pub(crate) fn impossible(rollout: &Rollout, tally: &Tally) -> Option<HaltReason> {
    let last = usize::from(last_open(rollout)?);
    if last + 1 >= rollout.waves.len() {
        return None;
    }
    (0..=last).find_map(|wave| gate_out_of_reach(&rollout.spec, &tally.wave(wave), wave))
}

/// The gate behind `wave`, where so many of it failed that it cannot be met.
pub(crate) fn gate_out_of_reach(
    spec: &RolloutSpec,
    counts: &WaveTally,
    wave: usize,
) -> Option<HaltReason> {
    let success = spec.waves.get(wave + 1)?.gate.success;
    let (counted, failed) = (counts.counted(), counts.outcomes.failed);
    let best = counted.saturating_sub(failed) as usize;
    let out_of_reach = best < success.of_rounded_up(counted as usize);
    let reason = HaltReason::GateImpossible {
        succeeded: counts.outcomes.succeeded,
        failed,
        counted,
        success,
    };
    out_of_reach.then_some(reason)
}

/// The failure budget that these counts spend, with its numbers. `hosts` are all that the rollout means to change: a
/// share is never held back for a larger sample than there are hosts.
pub(crate) fn failures_spent(
    spec: &RolloutSpec,
    counts: &WaveTally,
    hosts: u32,
) -> Option<HaltReason> {
    let finished = counts.outcomes.finished();
    let limit = &spec.budget.failures;
    let sample = limit.min_sample.min(hosts);
    let exceeds = |max: Amount, failed: u32| match max {
        Amount::Count(count) => failed > count,
        Amount::Percent(percent) => {
            finished >= sample && percent.is_exceeded_by(failed as usize, finished as usize)
        }
    };
    let failed = counts.outcomes.failed;
    if exceeds(limit.max, failed) {
        return Some(HaltReason::FailureBudget {
            failed,
            finished,
            max: limit.max,
        });
    }
    spec.budget.per_class.iter().find_map(|(class, max)| {
        let failed = counts.failed.get(class).copied().unwrap_or(0);
        let reason = HaltReason::ClassBudget {
            class: *class,
            failed,
            finished,
            max: *max,
        };
        exceeds(*max, failed).then_some(reason)
    })
}

/// The budget of silence that these counts spend: `asked` are the hosts of open waves.
pub(crate) fn unreached_spent(spec: &RolloutSpec, overdue: u32, asked: u32) -> Option<HaltReason> {
    let max = spec.budget.unreached.max;
    let reason = HaltReason::UnreachedBudget {
        unreached: overdue,
        asked,
        max,
    };
    (overdue as usize > max.limit(asked as usize)).then_some(reason)
}

/// Most hosts of a wave that may be down at once.
pub(crate) fn in_flight_limit(spec: &RolloutSpec, wave: usize, present: usize) -> (Amount, usize) {
    let own = spec.waves.get(wave).and_then(|wave| wave.max_in_flight);
    let max = own.unwrap_or(spec.pace.max_in_flight);
    (max, max.limit(present))
}

/// What the next wave waits for; absent where all waves are open or none is.
pub(crate) fn next_hold(rollout: &Rollout, tally: &Tally) -> Option<Hold> {
    let last = usize::from(last_open(rollout)?);
    rollout.waves.get(last + 1)?;
    // The worst of the waves before is what has to be mended first.
    let bad = (0..=last).find(|wave| !holds(&rollout.spec, tally, *wave));
    if let Some(wave) = bad {
        let counts = tally.wave(wave);
        return Some(Hold::GateSuccess {
            wave: number(wave),
            succeeded: counts.outcomes.succeeded,
            counted: counts.counted(),
            success: rollout.spec.waves[wave + 1].gate.success,
        });
    }
    let soak = rollout.spec.waves[last].soak;
    let since = rollout.waves[last].good_since.unwrap_or(rollout.since);
    Some(Hold::Soaking {
        wave: number(last),
        soak: Soak(soak),
        until: time::after(since, soak),
    })
}

/// A wave as people count: from 1.
fn number(index: usize) -> u16 {
    u16::try_from(index + 1).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use comber_model::{FailureClass, Percent};

    use super::*;

    fn spec(text: &str) -> RolloutSpec {
        let waves =
            "[[wave]]\nhosts = 4\n[[wave]]\nhosts = \"rest\"\ngate = { success = \"75%\" }\n";
        let source = format!("release = \"a@1\"\nselector = \"true\"\n{text}\n{waves}");
        RolloutSpec::parse(&source).unwrap()
    }

    fn counts(succeeded: u32, failed: u32, pending: u32) -> WaveTally {
        let mut counts = WaveTally::default();
        counts.outcomes.succeeded = succeeded;
        counts.outcomes.failed = failed;
        counts.outcomes.pending = pending;
        counts.outcomes.total = succeeded + failed + pending;
        counts.failed.insert(FailureClass::Health, failed);
        counts
    }

    #[test]
    fn a_count_is_spent_by_one_more() {
        let spec = spec("[budget]\nfailures = { max = 2 }");
        assert_eq!(failures_spent(&spec, &counts(0, 2, 98), 100), None);
        let reason = failures_spent(&spec, &counts(0, 3, 97), 100).unwrap();
        assert_eq!(
            reason.to_string(),
            "failure budget spent: 3 of 3 finished hosts failed, at most 2 may"
        );
    }

    #[test]
    fn a_share_waits_for_its_sample_but_never_for_more_hosts_than_there_are() {
        let spec = spec("[budget]\nfailures = { max = \"10%\", min_sample = 20 }");
        assert_eq!(failures_spent(&spec, &counts(10, 9, 81), 100), None);
        assert!(failures_spent(&spec, &counts(11, 9, 80), 100).is_some());
        assert_eq!(failures_spent(&spec, &counts(18, 2, 80), 100), None);
        assert_eq!(failures_spent(&spec, &counts(1, 3, 1), 5), None);
        assert!(failures_spent(&spec, &counts(2, 3, 0), 5).is_some());
    }

    #[test]
    fn a_class_has_its_own_budget() {
        let spec = spec("[budget]\nfailures = { max = 50 }\nper_class = { health = 1, fetch = 0 }");
        assert_eq!(failures_spent(&spec, &counts(5, 1, 0), 6), None);
        let reason = failures_spent(&spec, &counts(5, 2, 0), 7).unwrap();
        assert_eq!(reason.rule(), "class_budget");
    }

    #[test]
    fn silence_is_a_share_of_the_hosts_asked_and_one_is_always_allowed() {
        let spec = spec("[budget]\nunreached = { max = \"10%\" }");
        assert_eq!(unreached_spent(&spec, 1, 4), None);
        assert!(unreached_spent(&spec, 2, 4).is_some());
        assert_eq!(unreached_spent(&spec, 4, 40), None);
        assert!(unreached_spent(&spec, 5, 40).is_some());
    }

    #[test]
    fn a_gate_is_out_of_reach_when_the_best_that_can_come_is_too_little() {
        let spec = spec("");
        assert_eq!(gate_out_of_reach(&spec, &counts(0, 1, 3), 0), None);
        let reason = gate_out_of_reach(&spec, &counts(0, 2, 2), 0).unwrap();
        let HaltReason::GateImpossible {
            counted, success, ..
        } = reason
        else {
            panic!("{reason:?}");
        };
        assert_eq!((counted, success), (4, Percent::whole(75)));
        assert_eq!(
            gate_out_of_reach(&spec, &counts(0, 4, 0), 1),
            None,
            "no gate follows"
        );
    }

    #[test]
    fn the_limit_in_flight_is_the_waves_own_or_the_rollouts() {
        let mut spec = spec("[pace]\nmax_in_flight = \"50%\"");
        spec.waves[0].max_in_flight = Some(Amount::Count(1));
        assert_eq!(in_flight_limit(&spec, 0, 4).1, 1);
        assert_eq!(in_flight_limit(&spec, 1, 9).1, 4);
        assert_eq!(in_flight_limit(&spec, 1, 1).1, 1);
    }
}
