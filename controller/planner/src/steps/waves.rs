//! Opens waves: the first at once, each next one when its gate holds and the soak is over.
//!
//! No wave is ever skipped, and none opens while a wave before it is worse than its gate asked. What costs more than
//! counts is looked at last, and only while all else holds: hosts that were lost since, and then questions to others.

use comber_model::event::EventKind;
use comber_model::rollout::{DryRule, Gate, Member, MemberState, RolloutState, Round, WaveSize};
use comber_model::{Amount, Hold, RolloutId};
use jiff::Timestamp;

use crate::questions::Result;
use crate::scratch::Scratch;
use crate::{gate, questions, time};

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    for id in scratch.rollouts_in(&[RolloutState::Running, RolloutState::Paused]) {
        let is_running = scratch.state(id) == RolloutState::Running;
        if scratch.rollout(id).waves.is_empty() {
            if let Some(at) = scratch.rollout(id).spec.starts_at().filter(|_| is_running) {
                scratch.wake_at(at);
            }
            if is_running && is_let_go(scratch, id) {
                scratch.wake_soon();
            }
            continue;
        }
        match gate::last_open(scratch.rollout(id)) {
            None if is_running => try_to_open(scratch, id, 0),
            None => {}
            Some(last) => next(scratch, id, usize::from(last), is_running),
        }
    }
}

/// True where what it waited for is completed by this very plan: the next one selects its hosts.
fn is_let_go(scratch: &Scratch<'_>, id: RolloutId) -> bool {
    let is_new = |before: &RolloutId| {
        let old = scratch.input.rollouts.get(before);
        old.is_some_and(|old| old.rollout.state != scratch.state(*before))
    };
    scratch.rollout(id).spec.after.iter().any(is_new)
}

fn next(scratch: &mut Scratch<'_>, id: RolloutId, last: usize, is_running: bool) {
    if last + 1 >= scratch.rollout(id).waves.len() {
        return;
    }
    if last == 0 && is_running {
        refill(scratch, id);
    }
    let mut rollout = scratch.rollout(id).clone();
    let tally = scratch.tally(id);
    let good = (0..=last).all(|wave| gate::holds(&rollout.spec, tally, wave));
    let progress = &mut rollout.waves[last];
    progress.good_since = match progress.good_since {
        Some(since) if good => Some(since),
        None if good => Some(scratch.now),
        Some(_) | None => None,
    };
    let soaked = progress
        .good_since
        .map(|since| time::after(since, rollout.spec.waves[last].soak));
    scratch.set_rollout(rollout);
    if !is_running {
        return;
    }
    match soaked {
        Some(soaked) if soaked <= scratch.now => try_to_open(scratch, id, last + 1),
        Some(soaked) => {
            scratch.wake_at(soaked);
            forget_round(scratch, id, last + 1);
        }
        None => forget_round(scratch, id, last + 1),
    }
}

/// Opens a wave whose counts are good, where the rest of its gate holds too.
fn try_to_open(scratch: &mut Scratch<'_>, id: RolloutId, wave: usize) {
    let starts = scratch.rollout(id).spec.wave_starts_at(wave);
    if let Some(at) = starts.filter(|at| *at > scratch.now) {
        scratch.wake_at(at);
        return forget_round(scratch, id, wave);
    }
    let gate = scratch.rollout(id).spec.waves[wave].gate.clone();
    let mut dry = Vec::new();
    for (rule, hold) in held_by(scratch, id, wave) {
        if !gate.dry_run.contains(&rule) {
            return forget_round(scratch, id, wave);
        }
        dry.push(hold.to_string());
    }
    if !questions_pass(scratch, id, (wave, &gate)) {
        return;
    }
    if let Some(last) = wave.checked_sub(1) {
        let text = format!("{id}: {} passed", scratch.rollout(id).spec.wave_name(last));
        scratch.tell_of_wave(id, last, EventKind::WavePassed, text);
    }
    open(scratch, id, wave, &dry);
}

/// Rules beyond counts that do not hold.
fn held_by(scratch: &Scratch<'_>, id: RolloutId, wave: usize) -> Vec<(DryRule, Hold)> {
    let rollout = scratch.rollout(id);
    let uncovered = gate::uncovered(rollout, scratch.tally(id), wave);
    let unhealthy = rollout.spec.waves[wave].gate.healthy.and_then(|_| {
        let members = scratch.members(id).map(|(_, member)| member);
        let host = |host: &comber_model::HostId| scratch.host(host);
        gate::unhealthy(&rollout.spec, wave, members, (&host, scratch.now))
    });
    let uncovered = uncovered.map(|hold| (DryRule::Coverage, hold));
    let unhealthy = unhealthy.map(|hold| (DryRule::Healthy, hold));
    uncovered.into_iter().chain(unhealthy).collect()
}

/// Whether what others were asked lets the wave open. Asks, asks again, and pauses the rollout when that leads nowhere.
fn questions_pass(scratch: &mut Scratch<'_>, id: RolloutId, (wave, gate): (usize, &Gate)) -> bool {
    if gate.questions().next().is_none() {
        return true;
    }
    let Some(round) = scratch.rollout(id).waves[wave].round.clone() else {
        ask(scratch, id, (wave, gate), 1);
        return false;
    };
    match questions::result(gate, &round, scratch.now) {
        Result::Pass => true,
        // The budget step has halted the rollout already, or will in the next plan.
        Result::Fail { .. } => false,
        Result::Open { .. } => {
            scratch.wake_at(questions::deadline(&round));
            false
        }
        Result::Inconclusive { question, why } if round.number >= gate.tries => {
            pause(
                scratch,
                id,
                (wave, round.number),
                &format!("{question}: {why}"),
            );
            false
        }
        Result::Inconclusive { .. } => {
            let again: Timestamp = questions::next_try(gate, &round);
            scratch.wake_at(again);
            if again <= scratch.now {
                ask(scratch, id, (wave, gate), round.number + 1);
            }
            false
        }
    }
}

fn ask(scratch: &mut Scratch<'_>, id: RolloutId, (wave, gate): (usize, &Gate), number: u32) {
    let mut rollout = scratch.rollout(id).clone();
    let round = Round {
        number,
        asked_at: scratch.now,
        answers: Vec::new(),
    };
    scratch.wake_at(questions::deadline(&round));
    rollout.waves[wave].round = Some(round);
    let name = rollout.spec.wave_name(wave);
    scratch.set_rollout(rollout);
    let asked: Vec<String> = gate.questions().map(|q| q.to_string()).collect();
    let (asked, tries) = (asked.join(", "), gate.tries);
    let text = format!("{id}: the gate of {name} asks {asked} (try {number} of {tries})");
    scratch.tell_of_wave(id, wave, EventKind::GateAsked, text);
}

fn pause(scratch: &mut Scratch<'_>, id: RolloutId, (wave, tries): (usize, u32), why: &str) {
    let mut rollout = scratch.rollout(id).clone();
    rollout.state = RolloutState::Paused;
    rollout.since = scratch.now;
    let name = rollout.spec.wave_name(wave);
    scratch.set_rollout(rollout);
    let text = format!(
        "{id} paused itself: the gate of {name} was asked {tries} times and nothing is clear; {why}"
    );
    scratch.tell(id, EventKind::RolloutPaused, text);
}

/// What was asked is asked again when all else holds again.
fn forget_round(scratch: &mut Scratch<'_>, id: RolloutId, wave: usize) {
    if scratch.rollout(id).waves[wave].round.is_some() {
        let mut rollout = scratch.rollout(id).clone();
        rollout.waves[wave].round = None;
        scratch.set_rollout(rollout);
    }
}

fn open(scratch: &mut Scratch<'_>, id: RolloutId, wave: usize, dry: &[String]) {
    let mut rollout = scratch.rollout(id).clone();
    rollout.waves[wave].opened_at = Some(scratch.now);
    let name = rollout.spec.wave_name(wave);
    scratch.set_rollout(rollout);
    let hosts = scratch.tally(id).wave(wave).present();
    let mut text = format!("{id}: {name} opened with {hosts} hosts");
    for held in dry {
        text = format!("{text}; but for a dry run it would wait: {held}");
    }
    scratch.tell_of_wave(id, wave, EventKind::WaveOpened, text);
}

/// Where every host of the first wave was set aside, others take their place: without a canary nothing is proved.
fn refill(scratch: &mut Scratch<'_>, id: RolloutId) {
    let first = scratch.tally(id).wave(0);
    if first.present() > 0 {
        return;
    }
    let mut waiting: Vec<Member> = scratch
        .members(id)
        .filter(|(_, m)| m.wave > 0 && m.state == MemberState::Waiting)
        .map(|(_, m)| m.clone())
        .collect();
    waiting.sort_by_key(|m| (m.wave, m.order));
    let wanted = match scratch.rollout(id).spec.waves[0].hosts {
        WaveSize::Count(count) | WaveSize::Representative(Amount::Count(count)) => count as usize,
        WaveSize::Percent(_)
        | WaveSize::Representative(Amount::Percent(_))
        | WaveSize::Selector(_)
        | WaveSize::Rest => 1,
    };
    let orders = scratch
        .members(id)
        .filter(|(_, m)| m.wave == 0)
        .map(|(_, m)| m.order);
    let next = orders.max().map_or(0, |order| order + 1);
    for (member, order) in waiting.into_iter().take(wanted).zip(next..) {
        let member = Member {
            wave: 0,
            order,
            since: scratch.now,
            ..member
        };
        scratch.set_member(id, member, |_| String::new());
    }
}
