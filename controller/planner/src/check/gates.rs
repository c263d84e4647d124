//! Rules about gates beyond counts: starts of waves, environments, hosts that stay well, questions to others; and the
//! budgets of single waves and classes, and the ramp.
//!
//! Written again from what the rollout file says, on members and answers themselves.

use std::collections::BTreeSet;

use comber_model::rollout::{
    DryRule, Member, MemberState, Outcome, Question, Ramp, Rollout, RolloutState, Verdict,
};
use comber_model::{AgentState, Amount, FailureClass, Link};

use super::Findings;
use super::after::After;

pub(super) fn check(
    after: &After<'_>,
    old: &Rollout,
    new: &Rollout,
    members: &[&Member],
    findings: &mut Findings,
) {
    let is_open = |rollout: &Rollout, wave: usize| {
        let progress = rollout.waves.get(wave);
        progress.is_some_and(|progress| progress.opened_at.is_some())
    };
    for wave in 0..new.waves.len() {
        // A completed rollout may count waves as open whose hosts all were set aside.
        if is_open(old, wave) || !is_open(new, wave) || new.state == RolloutState::Completed {
            continue;
        }
        let number = wave + 1;
        if new
            .spec
            .wave_starts_at(wave)
            .is_some_and(|at| after.now < at)
        {
            findings.fatal(
                new.id,
                format!("wave {number} of {} opens before its start", new.id),
            );
        }
        if !is_covered(new, wave, members) {
            let text = format!(
                "wave {number} of {} opens though too little is covered",
                new.id
            );
            findings.fatal(new.id, text);
        }
        if !is_healthy(after, new, wave, members) {
            let text = format!(
                "wave {number} of {} opens though too many hosts are lost",
                new.id
            );
            findings.fatal(new.id, text);
        }
        if !all_pass(new, wave) {
            let text = format!(
                "wave {number} of {} opens though not all asked say pass",
                new.id
            );
            findings.fatal(new.id, text);
        }
    }
}

/// A rollout that runs on has spent no budget of a class or a wave. After a resume the operator answers for what was before.
pub(super) fn budgets(rollout: &Rollout, members: &[&Member], findings: &mut Findings) {
    if rollout.state == RolloutState::Running && rollout.resumed_at.is_none() {
        class_budgets(rollout, members, findings);
    }
}

fn is_covered(rollout: &Rollout, wave: usize, members: &[&Member]) -> bool {
    let gate = &rollout.spec.waves[wave].gate;
    let (Some(share), Some(cover)) = (gate.coverage, &rollout.cover) else {
        return true;
    };
    let proven: BTreeSet<u16> = members
        .iter()
        .filter(|m| usize::from(m.wave) < wave && m.outcome() == Outcome::Succeeded)
        .flat_map(|m| m.environments.iter().copied())
        .collect();
    let missing = cover.environments.len() - proven.len();
    let may_miss = cover.environments.len() - share.of_rounded_up(cover.environments.len());
    wave == 0 || missing <= may_miss || gate.dry_run.contains(&DryRule::Coverage)
}

fn is_healthy(after: &After<'_>, rollout: &Rollout, wave: usize, members: &[&Member]) -> bool {
    let gate = &rollout.spec.waves[wave].gate;
    let Some(share) = gate.healthy.filter(|_| wave > 0) else {
        return true;
    };
    let release = &rollout.spec.release;
    let (mut well, mut all) = (0, 0);
    for member in members {
        let view = after.host(&member.host);
        let Some(view) = view.filter(|view| view.host.retired_at.is_none()) else {
            continue;
        };
        if usize::from(member.wave) + 1 != wave || member.outcome() != Outcome::Succeeded {
            continue;
        }
        let there = match view.link {
            Link::Up { .. } => true,
            Link::Down { since } => {
                let away = after.now.duration_since(since);
                away < rollout
                    .spec
                    .budget
                    .silent
                    .after
                    .try_into()
                    .unwrap_or_default()
            }
        };
        let sound = view.status.as_ref().is_none_or(|status| {
            let own = status.installed.get(&release.name);
            status.state != AgentState::Broken
                && own.is_some_and(|own| own.version == release.version)
        });
        all += 1;
        well += usize::from(there && sound);
    }
    well >= share.of_rounded_up(all) || gate.dry_run.contains(&DryRule::Healthy)
}

fn all_pass(rollout: &Rollout, wave: usize) -> bool {
    let gate = &rollout.spec.waves[wave].gate;
    let round = rollout.waves[wave].round.as_ref();
    gate.questions().enumerate().all(|(index, question)| {
        let dry = match question {
            Question::Prometheus(_) => DryRule::Prometheus,
            Question::Webhook(_) => DryRule::Webhook,
        };
        let said = round.and_then(|round| {
            let mut answers = round.answers.iter();
            answers.find(|answer| usize::from(answer.question) == index)
        });
        gate.dry_run.contains(&dry) || said.is_some_and(|said| said.verdict == Verdict::Pass)
    })
}

/// A rollout pauses by itself only where a gate was asked often enough, and its last round is over and unclear.
pub(super) fn may_pause(after: &After<'_>, old: &Rollout) -> bool {
    old.waves
        .iter()
        .zip(&old.spec.waves)
        .any(|(progress, spec)| {
            let Some(round) = progress
                .round
                .as_ref()
                .filter(|_| progress.opened_at.is_none())
            else {
                return false;
            };
            let late = after.now.duration_since(round.asked_at).as_secs() >= 120;
            let is_unclear = round
                .answers
                .iter()
                .any(|answer| answer.verdict == Verdict::Inconclusive);
            let is_whole = round.answers.len() == spec.gate.questions().count();
            round.number >= spec.gate.tries && (late || is_unclear && is_whole)
        })
}

/// Shares and counts of single classes, over the rollout and in each wave; and the budgets of waves.
fn class_budgets(rollout: &Rollout, members: &[&Member], findings: &mut Findings) {
    let whole = &rollout.spec.budget;
    let default = whole.failures.min_sample;
    for (class, limit) in &whole.per_class {
        let sample = limit.min_sample.unwrap_or(default);
        if exceeds(limit.max, sample, (members, Some(*class))) {
            let text = format!("{} runs on though too many failed of {class}", rollout.id);
            findings.fatal(rollout.id, text);
        }
    }
    for (wave, spec) in rollout.spec.waves.iter().enumerate() {
        let Some(budget) = &spec.budget else { continue };
        let own: Vec<&Member> = members
            .iter()
            .copied()
            .filter(|m| usize::from(m.wave) == wave)
            .collect();
        let failures = budget.failures.as_ref();
        let most = failures.and_then(|limit| limit.max_hosts);
        let sample = failures.map_or(10, |limit| limit.min_sample);
        let mut spent = failures.is_some_and(|limit| exceeds(limit.max, sample, (&own, None)))
            || most.is_some_and(|most| exceeds(Amount::Count(most), 0, (&own, None)));
        for (class, limit) in &budget.per_class {
            let sample = limit.min_sample.unwrap_or(sample);
            spent |= exceeds(limit.max, sample, (&own, Some(*class)));
        }
        if spent {
            let text = format!(
                "{} runs on though wave {} spent its budget",
                rollout.id,
                wave + 1
            );
            findings.fatal(rollout.id, text);
        }
    }
}

fn exceeds(max: Amount, sample: u32, (members, only): (&[&Member], Option<FailureClass>)) -> bool {
    let (mut failed, mut finished, mut present) = (0_usize, 0_usize, 0_usize);
    for member in members {
        match member.outcome() {
            Outcome::Excluded { .. } => continue,
            Outcome::Failed { class } => {
                finished += 1;
                failed += usize::from(only.is_none_or(|only| only == class));
            }
            Outcome::Succeeded => finished += 1,
            Outcome::Pending | Outcome::Unreached => {}
        }
        present += 1;
    }
    match max {
        Amount::Count(count) => failed > count as usize,
        Amount::Percent(percent) => {
            finished >= present.min(sample as usize) && failed > percent.of_rounded_down(finished)
        }
    }
}

/// Hosts in flight that a ramp allows by now: the sizes of its steps are counted off from the successes.
pub(super) fn grown(ramp: Ramp, members: &[&Member], present: usize) -> usize {
    let by_attempt = MemberState::Succeeded { already: false };
    let mut left = members.iter().filter(|m| m.state == by_attempt).count();
    let failed = members
        .iter()
        .filter(|m| matches!(m.outcome(), Outcome::Failed { .. }))
        .count();
    let mut sizes = vec![ramp.start as usize];
    while let Some(size) = sizes.last().copied().filter(|size| left >= *size) {
        left -= size;
        sizes.push(size.saturating_mul(ramp.factor as usize));
    }
    sizes.truncate((sizes.len().saturating_sub(failed)).max(1));
    let size = sizes.last().copied().unwrap_or(0);
    size.min(ramp.max.map_or(usize::MAX, |max| max.limit(present)))
}
