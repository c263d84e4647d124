//! The rules that open waves and stop rollouts: arithmetic on counts, mostly.
//!
//! Shared by the steps, by commands, previews and explanations, so that what is told is what is done. The checks of a
//! finished plan do not use it.

use comber_model::rollout::{
    ClassLimit, Coverage, DryRule, FailureLimit, HaltReason, Member, MemberState, Rollout,
    RolloutSpec, WaveBudget,
};
use comber_model::{AgentState, Amount, FailureClass, Hold, HostId, Link, Percent, hold::Soak};
use jiff::Timestamp;

use crate::tally::{Tally, WaveTally};
use crate::{HostView, questions, time};

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
    let budget = &spec.budget;
    let failed = counts.outcomes.failed;
    if let Some(max) = spent(&budget.failures, counts, hosts) {
        return Some(HaltReason::FailureBudget {
            failed,
            finished,
            max,
        });
    }
    budget.per_class.iter().find_map(|(class, limit)| {
        let sample = limit.min_sample.unwrap_or(budget.failures.min_sample);
        let failed = class_spent(*class, *limit, (counts, sample.min(hosts)))?;
        Some(HaltReason::ClassBudget {
            class: *class,
            failed,
            finished,
            max: limit.max,
        })
    })
}

/// The budget of its own that these counts of a wave spend, with its numbers.
pub(crate) fn wave_budget_spent(
    spec: &RolloutSpec,
    wave: usize,
    counts: &WaveTally,
) -> Option<HaltReason> {
    let budget = spec.waves.get(wave)?.budget.as_ref()?;
    let finished = counts.outcomes.finished();
    let (class, failed, max) = wave_spent(budget, counts)?;
    Some(HaltReason::WaveBudget {
        wave: number(wave),
        class,
        failed,
        finished,
        max,
    })
}

fn wave_spent(
    budget: &WaveBudget,
    counts: &WaveTally,
) -> Option<(Option<FailureClass>, u32, Amount)> {
    let hosts = counts.present();
    let whole = budget.failures.as_ref();
    if let Some(max) = whole.and_then(|limit| spent(limit, counts, hosts)) {
        return Some((None, counts.outcomes.failed, max));
    }
    let default = FailureLimit::default();
    let sample = whole.unwrap_or(&default).min_sample;
    budget.per_class.iter().find_map(|(class, limit)| {
        let sample = limit.min_sample.unwrap_or(sample).min(hosts);
        let failed = class_spent(*class, *limit, (counts, sample))?;
        Some((Some(*class), failed, limit.max))
    })
}

/// The amount that is exceeded, where one is.
fn spent(limit: &FailureLimit, counts: &WaveTally, hosts: u32) -> Option<Amount> {
    let sample = limit.min_sample.min(hosts);
    let limits = limit.max_hosts.map(Amount::Count);
    let mut limits = limits.into_iter().chain([limit.max]);
    let failed = counts.outcomes.failed;
    limits.find(|max| exceeds(*max, failed, (counts, sample)))
}

/// How many failed of the class, where these are too many.
fn class_spent(
    class: FailureClass,
    limit: ClassLimit,
    (counts, sample): (&WaveTally, u32),
) -> Option<u32> {
    let failed = counts.failed.get(&class).copied().unwrap_or(0);
    exceeds(limit.max, failed, (counts, sample)).then_some(failed)
}

fn exceeds(max: Amount, failed: u32, (counts, sample): (&WaveTally, u32)) -> bool {
    let finished = counts.outcomes.finished();
    match max {
        Amount::Count(count) => failed > count,
        Amount::Percent(percent) => {
            finished >= sample && percent.is_exceeded_by(failed as usize, finished as usize)
        }
    }
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

/// Most hosts of a wave that may be down at once, as its counts are now.
pub(crate) fn in_flight_limit(
    spec: &RolloutSpec,
    wave: usize,
    counts: &WaveTally,
) -> (Amount, usize) {
    let own = spec.waves.get(wave);
    let max = own
        .and_then(|wave| wave.max_in_flight)
        .unwrap_or(spec.pace.max_in_flight);
    let present = counts.present() as usize;
    let mut limit = max.limit(present);
    if let Some(ramp) = own.and_then(|wave| wave.ramp.as_ref()) {
        limit = limit.min(ramp.limit(counts.moved, counts.outcomes.failed) as usize);
        limit = limit.min(ramp.max.map_or(limit, |max| max.limit(present)));
    }
    (max, limit)
}

/// What environments the hosts that succeeded in the waves before `wave` cover, where the rollout looks at them.
pub(crate) fn coverage(rollout: &Rollout, tally: &Tally, wave: usize) -> Option<Coverage> {
    let proven = tally.sum(wave).proven;
    let is_proven = |index: usize| {
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        proven.get(&index).is_some_and(|hosts| *hosts > 0)
    };
    rollout.cover.as_ref().map(|cover| cover.count(is_proven))
}

/// The gate's demand of environments that is not met, with its numbers.
pub(crate) fn uncovered(rollout: &Rollout, tally: &Tally, wave: usize) -> Option<Hold> {
    let share = rollout.spec.waves.get(wave)?.gate.coverage?;
    let coverage = coverage(rollout, tally, wave).filter(|_| wave > 0)?;
    let needed = share.of_rounded_up(coverage.environments);
    (coverage.covered < needed).then(|| Hold::GateCoverage {
        wave: number(wave),
        covered: count(coverage.covered),
        environments: count(coverage.environments),
        coverage: share,
        missing: coverage.missing(),
    })
}

/// True where a host that succeeded is not what it was: away for too long, broken, or without the release.
pub(crate) fn is_lost(spec: &RolloutSpec, view: &HostView, now: Timestamp) -> bool {
    let is_away = match view.link {
        Link::Up { .. } => false,
        Link::Down { since } => time::after(since, spec.budget.silent.after) <= now,
    };
    let is_ill = view.status.as_ref().is_some_and(|status| {
        let installed = status.installed.get(&spec.release.name);
        status.state == AgentState::Broken
            || installed.is_none_or(|installed| installed.version != spec.release.version)
    });
    is_away || is_ill
}

/// Gives the host of a name.
pub(crate) type FindHost<'f, 'a> = dyn Fn(&HostId) -> Option<&'a HostView> + 'f;

/// Hosts named in a hold.
const LOST_SHOWN: usize = 5;

/// The gate's demand of hosts that stay well which the members of the wave before do not meet, with its numbers.
pub(crate) fn unhealthy<'a>(
    spec: &RolloutSpec,
    wave: usize,
    members: impl Iterator<Item = &'a Member>,
    (host, now): (&FindHost<'_, 'a>, Timestamp),
) -> Option<Hold> {
    let share: Percent = spec.waves.get(wave)?.gate.healthy?;
    let before = wave.checked_sub(1)?;
    let (mut succeeded, mut lost) = (0_u32, Vec::new());
    for member in members.filter(|member| usize::from(member.wave) == before) {
        let view = host(&member.host).filter(|view| view.host.retired_at.is_none());
        if let (MemberState::Succeeded { .. }, Some(view)) = (&member.state, view) {
            succeeded += 1;
            if is_lost(spec, view, now) {
                lost.push(member.host.as_str());
            }
        }
    }
    let healthy = succeeded - count(lost.len());
    let more = lost.len().saturating_sub(LOST_SHOWN);
    let is_met = healthy as usize >= share.of_rounded_up(succeeded as usize);
    (!is_met).then(|| {
        lost.sort_unstable();
        lost.truncate(LOST_SHOWN);
        let named = lost.join(" ");
        Hold::GateHealthy {
            wave: number(before),
            healthy,
            succeeded,
            share,
            lost: if more > 0 {
                format!("{named} and {more} more")
            } else {
                named
            },
        }
    })
}

/// The members of a rollout, the hosts behind them, and the time: what rules beyond counts look at.
pub(crate) struct Look<'a> {
    pub(crate) members: Box<dyn Iterator<Item = &'a Member> + 'a>,
    pub(crate) host: Box<FindHost<'a, 'a>>,
    pub(crate) now: Timestamp,
}

/// What the next wave waits for; absent where all waves are open, or nothing is left to wait for.
pub(crate) fn next_hold(rollout: &Rollout, tally: &Tally, look: Look<'_>) -> Option<Hold> {
    let next = last_open(rollout).map_or(0, |last| usize::from(last) + 1);
    rollout.waves.get(next)?;
    if let Some(last) = next.checked_sub(1)
        && let Some(hold) = counts_hold(rollout, tally, (last, look.now))
    {
        return Some(hold);
    }
    let starts = rollout.spec.wave_starts_at(next);
    if let Some(at) = starts.filter(|at| *at > look.now) {
        let wave = number(next);
        return Some(Hold::WaveScheduled { wave, at });
    }
    let gate = &rollout.spec.waves[next].gate;
    uncovered(rollout, tally, next)
        .filter(|_| !gate.dry_run.contains(&DryRule::Coverage))
        .or_else(|| {
            unhealthy(&rollout.spec, next, look.members, (&look.host, look.now))
                .filter(|_| !gate.dry_run.contains(&DryRule::Healthy))
        })
        .or_else(|| questions::hold(rollout, next, look.now))
}

/// Successes that are missing, and then the soak.
fn counts_hold(rollout: &Rollout, tally: &Tally, (last, now): (usize, Timestamp)) -> Option<Hold> {
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
    let until = time::after(since, soak);
    (until > now || rollout.waves[last].good_since.is_none()).then_some(Hold::Soaking {
        wave: number(last),
        soak: Soak(soak),
        until,
    })
}

/// A wave as people count: from 1.
pub(crate) fn number(index: usize) -> u16 {
    u16::try_from(index + 1).unwrap_or(u16::MAX)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use comber_model::rollout::Ramp;

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
        assert_eq!(in_flight_limit(&spec, 0, &counts(0, 0, 4)).1, 1);
        assert_eq!(in_flight_limit(&spec, 1, &counts(2, 2, 5)).1, 4);
        assert_eq!(in_flight_limit(&spec, 1, &counts(0, 0, 1)).1, 1);
    }

    #[test]
    fn a_ramp_never_passes_its_maximum_nor_that_of_the_wave() {
        let mut spec = spec("[pace]\nmax_in_flight = 9");
        spec.waves[1].ramp = Some(Ramp {
            start: 2,
            factor: 3,
            max: Some(Amount::Percent(Percent::whole(10))),
        });
        let moved = |moved| WaveTally {
            moved,
            ..counts(moved, 0, 80 - moved)
        };
        let limits: Vec<usize> = [0, 2, 8, 26]
            .map(|n| in_flight_limit(&spec, 1, &moved(n)).1)
            .to_vec();
        assert_eq!(limits, [2, 6, 8, 8]);
        spec.pace.max_in_flight = Amount::Count(5);
        assert_eq!(in_flight_limit(&spec, 1, &moved(8)).1, 5);
    }

    #[test]
    fn a_wave_and_a_class_have_budgets_and_samples_of_their_own() {
        let mut spec = spec(
            "[budget]\nfailures = { max = \"50%\", max_hosts = 3 }\nper_class = { fetch = { max = \"10%\", min_sample = 4 } }",
        );
        let reason = failures_spent(&spec, &counts(96, 4, 0), 100).unwrap();
        let HaltReason::FailureBudget { max, .. } = reason else {
            panic!("{reason:?}");
        };
        assert_eq!(max, Amount::Count(3));
        let fetch = |succeeded, failed| {
            let mut counts = counts(succeeded, failed, 50);
            counts.failed = [(FailureClass::Fetch, failed)].into();
            counts
        };
        assert_eq!(failures_spent(&spec, &fetch(2, 1), 100), None);
        assert!(failures_spent(&spec, &fetch(3, 1), 100).is_some());
        spec.waves[0].budget = Some(WaveBudget {
            failures: None,
            per_class: [(FailureClass::Health, Amount::Count(0).into())].into(),
        });
        let reason = wave_budget_spent(&spec, 0, &counts(3, 1, 0)).unwrap();
        assert_eq!(
            reason.to_string(),
            "failure budget of wave 1 for health spent: 1 of its 4 finished hosts failed, at most 0 may"
        );
        assert_eq!(wave_budget_spent(&spec, 1, &counts(0, 4, 0)), None);
    }
}
