//! Rules about rollouts: counts that add up, gates before waves, budgets, and how many hosts are down at once.
//!
//! Counts again from the members, in its own way; looks only at rollouts that the plan touches, and at all members of
//! those whose record it changes.

use std::collections::BTreeSet;
use std::time::Duration;

use comber_model::rollout::{Member, MemberState, Outcome, Outcomes, Rollout, RolloutState};
use comber_model::{Amount, RolloutId};

use super::after::{After, may_be_down};
use super::{Findings, gates};

pub(super) fn check(after: &After<'_>, findings: &mut Findings) {
    let changed = after.plan.rollouts.iter().map(|rollout| rollout.id);
    let touched: BTreeSet<RolloutId> = changed
        .chain(after.plan.members.iter().map(|(id, _)| *id))
        .collect();
    for id in touched {
        let (Some(rollout), Some(view)) = (after.rollout(id), after.input.rollouts.get(&id)) else {
            continue;
        };
        // Where the record changes, everything is counted again. Where only members do, what is kept of the others is
        // taken for granted (properties hold it against counting all), so that one report costs no look at all hosts.
        let is_whole = after.plan.rollouts.iter().any(|rollout| rollout.id == id);
        let members = if is_whole {
            after.members(id)
        } else {
            after.moving(id)
        };
        let counted = if is_whole {
            members.iter().map(|member| member.outcome()).collect()
        } else {
            after.outcomes(id, None)
        };
        outcomes(after, id, counted, findings);
        state(after, &view.rollout, rollout, findings);
        if is_whole {
            waves(after, &view.rollout, rollout, &members, findings);
            gates::check(after, &view.rollout, rollout, &members, findings);
        }
        budget(rollout, counted, findings);
        // Single classes and waves are counted whenever a host failed: rarely enough to look at all.
        if is_whole || has_failures(after, id) {
            gates::budgets(rollout, &after.members(id), findings);
        }
        in_flight(after, rollout, &members, findings);
    }
}

fn outcomes(after: &After<'_>, id: RolloutId, counted: Outcomes, findings: &mut Findings) {
    let told = after
        .plan
        .events
        .iter()
        .filter(|event| event.rollout == Some(id));
    let told: Vec<Outcomes> = told.filter_map(|event| event.outcomes).collect();
    if let Some(bad) = told.iter().find(|outcomes| !outcomes.add_up()) {
        findings.fatal(
            id,
            format!("an event of {id} tells outcomes that do not add up: {bad:?}"),
        );
    }
    if told.last().is_some_and(|last| *last != counted) {
        let text = format!("the last event of {id} tells other outcomes than its members have");
        findings.warn(id, text);
    }
}

fn state(after: &After<'_>, old: &Rollout, new: &Rollout, findings: &mut Findings) {
    use RolloutState as S;
    let allowed = old.state == new.state
        || matches!(
            (old.state, new.state),
            (S::Running, S::Halted | S::RollingBack | S::Completed)
                | (S::Completed | S::Halted | S::Aborted, S::RollingBack)
                | (S::Completed, S::Halted)
                | (S::RollingBack, S::Halted | S::Aborted)
        )
        || (old.state, new.state) == (S::Running, S::Paused) && gates::may_pause(after, old);
    if !allowed {
        let text = format!(
            "{} goes from {} to {} by itself",
            new.id, old.state, new.state
        );
        findings.fatal(new.id, text);
    }
    if new.state == S::Halted && new.halt.is_none() && new.roll_back.is_none() {
        findings.fatal(new.id, format!("{} is halted without a reason", new.id));
    }
    if new.spec != old.spec || new.started_at != old.started_at {
        findings.fatal(
            new.id,
            format!("the plan rewrites what was asked of {}", new.id),
        );
    }
}

/// True where the plan says of a host that it failed.
fn has_failures(after: &After<'_>, id: RolloutId) -> bool {
    let mut changed = after.plan.members.iter();
    changed
        .any(|(other, member)| *other == id && matches!(member.outcome(), Outcome::Failed { .. }))
}

fn is_present(member: &Member) -> bool {
    !matches!(member.outcome(), Outcome::Excluded { .. })
}

/// Members of a wave that its gate counts, and those of them that succeeded.
fn gate_counts(members: &[&Member], wave: usize) -> (usize, usize) {
    let overdue = MemberState::Unreached { overdue: true };
    let counted = members.iter().filter(|member| {
        usize::from(member.wave) == wave && is_present(member) && member.state != overdue
    });
    let succeeded = counted
        .clone()
        .filter(|member| member.outcome() == Outcome::Succeeded);
    (counted.count(), succeeded.count())
}

fn waves(
    after: &After<'_>,
    old: &Rollout,
    new: &Rollout,
    members: &[&Member],
    findings: &mut Findings,
) {
    let id = new.id;
    let opened = |rollout: &Rollout, wave: usize| {
        rollout
            .waves
            .get(wave)
            .and_then(|progress| progress.opened_at)
    };
    for wave in 0..new.spec.waves.len() {
        let (before, now) = (opened(old, wave), opened(new, wave));
        if before.is_some() && now != before {
            findings.fatal(
                id,
                format!("wave {} of {id} is opened again or closed", wave + 1),
            );
        }
        if before.is_some() || now.is_none() {
            continue;
        }
        if wave == 0 && new.spec.starts_at().is_some_and(|at| after.now < at) {
            findings.fatal(id, format!("wave 1 of {id} opens before its start"));
        }
        if wave == 0
            && let Some(before) = not_completed(after, new)
        {
            let text = format!("wave 1 of {id} opens before {before} is completed");
            findings.fatal(id, text);
        }
        let has_hosts = members
            .iter()
            .any(|m| usize::from(m.wave) == wave && is_present(m));
        if wave == 0 || (!has_hosts && new.state == RolloutState::Completed) {
            continue;
        }
        for earlier in 0..wave {
            if !gate_holds(new, members, earlier) {
                let text = format!(
                    "wave {} of {id} opens though the gate behind wave {} is closed",
                    wave + 1,
                    earlier + 1
                );
                findings.fatal(id, text);
            }
        }
        soak(after, new, wave - 1, findings);
    }
}

/// What the rollout should have waited for, where its hosts were selected in this very plan.
fn not_completed(after: &After<'_>, rollout: &Rollout) -> Option<RolloutId> {
    let is_first = after.input.rollouts[&rollout.id].rollout.waves.is_empty();
    let is_open = |id: &&RolloutId| {
        let before = after.input.rollouts.get(id);
        before.is_none_or(|view| view.rollout.state != RolloutState::Completed)
    };
    let open = rollout.spec.after.iter().find(is_open);
    open.copied().filter(|_| is_first)
}

fn gate_holds(rollout: &Rollout, members: &[&Member], wave: usize) -> bool {
    let opened = rollout
        .waves
        .get(wave)
        .is_some_and(|progress| progress.opened_at.is_some());
    let (counted, succeeded) = gate_counts(members, wave);
    let silent = MemberState::Unreached { overdue: true };
    let is_empty = wave > 0
        && counted == 0
        && !members
            .iter()
            .any(|m| usize::from(m.wave) == wave && m.state == silent);
    let success = rollout.spec.waves[wave + 1].gate.success;
    // Failing hosts must not be more than what the share leaves over.
    let missing = counted - succeeded;
    let enough = counted > 0 && missing <= counted - success.of_rounded_up(counted);
    opened && (is_empty || enough)
}

fn soak(after: &After<'_>, rollout: &Rollout, wave: usize, findings: &mut Findings) {
    let since = rollout
        .waves
        .get(wave)
        .and_then(|progress| progress.good_since);
    let good_for = since.map(|since| after.now.duration_since(since));
    let soaked = good_for
        .and_then(|good| Duration::try_from(good).ok())
        .is_some_and(|good| good >= rollout.spec.waves[wave].soak);
    if !soaked {
        let text = format!(
            "wave {} of {} opens before the soak is over",
            wave + 2,
            rollout.id
        );
        findings.fatal(rollout.id, text);
    }
}

/// A rollout that runs on has not spent its budget. After a resume the operator answers for what was before.
fn budget(rollout: &Rollout, counted: Outcomes, findings: &mut Findings) {
    if rollout.state != RolloutState::Running || rollout.resumed_at.is_some() {
        return;
    }
    let failed = counted.failed as usize;
    let succeeded = counted.succeeded as usize;
    let present = (counted.total - counted.excluded) as usize;
    let limit = &rollout.spec.budget.failures;
    let finished = failed + succeeded;
    let is_spent = limit.max_hosts.is_some_and(|most| failed > most as usize)
        || match limit.max {
            Amount::Count(count) => failed > count as usize,
            Amount::Percent(percent) => {
                finished >= present.min(limit.min_sample as usize)
                    && failed > percent.of_rounded_down(finished)
            }
        };
    if is_spent {
        let text = format!(
            "{} runs on though {failed} of {finished} hosts failed",
            rollout.id
        );
        findings.fatal(rollout.id, text);
    }
}

fn in_flight(after: &After<'_>, rollout: &Rollout, members: &[&Member], findings: &mut Findings) {
    let id = rollout.id;
    let new_permit = |member: &&&Member| {
        let old = after.old_member(id, &member.host).and_then(|old| old.grant);
        member.grant.is_some() && member.grant != old
    };
    let waves: BTreeSet<u16> = members.iter().filter(new_permit).map(|m| m.wave).collect();
    for wave in waves {
        let of_wave: Vec<&Member> = members.iter().copied().filter(|m| m.wave == wave).collect();
        let counted = after.outcomes(id, Some(wave));
        let present = (counted.total - counted.excluded) as usize;
        let spec = rollout.spec.waves.get(usize::from(wave));
        let max = spec
            .and_then(|s| s.max_in_flight)
            .unwrap_or(rollout.spec.pace.max_in_flight);
        let ramp = spec.and_then(|s| s.ramp);
        let grown = ramp.map_or(usize::MAX, |ramp| {
            // Its successes have ended, so they are not among those in motion.
            let mut whole = after.members(id);
            whole.retain(|m| m.wave == wave);
            gates::grown(ramp, &whole, present)
        });
        let down = |member: &Member| {
            after
                .host(&member.host)
                .is_some_and(|view| may_be_down(view, member, after.now))
        };
        let now = of_wave.iter().filter(|m| down(m)).count();
        let before = of_wave
            .iter()
            .filter_map(|m| after.old_member(id, &m.host))
            .filter(|m| down(m))
            .count();
        if now > max.limit(present).min(grown).max(before) {
            let text = format!(
                "{now} hosts of wave {} of {id} are in flight, at most {max} may be, and {grown} by the ramp",
                wave + 1
            );
            findings.fatal(id, text);
        }
    }
}
