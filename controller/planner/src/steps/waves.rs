//! Opens waves: the first at once, each next one when its gate holds and the soak is over.
//!
//! No wave is ever skipped, and none opens while a wave before it is worse than its gate asked.

use comber_model::RolloutId;
use comber_model::event::EventKind;
use comber_model::rollout::{Member, MemberState, RolloutState};

use crate::scratch::Scratch;
use crate::{gate, time};

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
            None if is_running => open(scratch, id, 0),
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
    let Some(soaked) = soaked.filter(|_| is_running) else {
        return;
    };
    scratch.wake_at(soaked);
    if soaked <= scratch.now {
        let text = format!("{id}: {} passed", scratch.rollout(id).spec.wave_name(last));
        scratch.tell_of_wave(id, last, EventKind::WavePassed, text);
        open(scratch, id, last + 1);
    }
}

fn open(scratch: &mut Scratch<'_>, id: RolloutId, wave: usize) {
    let mut rollout = scratch.rollout(id).clone();
    rollout.waves[wave].opened_at = Some(scratch.now);
    let name = rollout.spec.wave_name(wave);
    scratch.set_rollout(rollout);
    let hosts = scratch.tally(id).wave(wave).present();
    let text = format!("{id}: {name} opened with {hosts} hosts");
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
        comber_model::rollout::WaveSize::Count(count) => count as usize,
        comber_model::rollout::WaveSize::Percent(_)
        | comber_model::rollout::WaveSize::Selector(_)
        | comber_model::rollout::WaveSize::Rest => 1,
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
