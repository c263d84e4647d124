//! Stops a rollout that goes wrong: budgets of failures and of silence, gates that cannot be met any more, and sources
//! that say fail.
//!
//! Runs before waves open and permits are given, so that no host is touched on the strength of counts that already
//! forbid it.

use comber_model::RolloutId;
use comber_model::event::EventKind;
use comber_model::rollout::{Halt, HaltReason, OnHalt, RollBackScope, RolloutState};

use crate::scratch::Scratch;
use crate::tally::Tally;
use crate::{gate, questions};

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    for id in scratch.rollouts_in(&[RolloutState::Running, RolloutState::Completed]) {
        if let Some(reason) = verdict(scratch, id) {
            halt(scratch, id, reason);
        }
    }
}

fn verdict(scratch: &Scratch<'_>, id: RolloutId) -> Option<HaltReason> {
    let rollout = scratch.rollout(id);
    let tally = scratch.tally(id);
    // After a resume, only what ended since counts: the operator has seen the rest.
    let since_resume;
    let counted = match rollout.resumed_at {
        None => tally,
        Some(resumed) => {
            let later = scratch.members(id).map(|(_, member)| member);
            since_resume = Tally::of(later.filter(|member| member.since > resumed));
            &since_resume
        }
    };
    let total = counted.total();
    let hosts = tally.total().present();
    if let Some(reason) = gate::failures_spent(&rollout.spec, &total, hosts) {
        return Some(reason);
    }
    let waves = 0..rollout.spec.waves.len();
    let mut own =
        waves.filter_map(|wave| gate::wave_budget_spent(&rollout.spec, wave, &counted.wave(wave)));
    if let Some(reason) = own.next() {
        return Some(reason);
    }
    if rollout.state == RolloutState::Completed {
        return None;
    }
    if let Some((wave, question, why)) = questions::failed(rollout, scratch.now) {
        let wave = gate::number(wave);
        return Some(HaltReason::GateFailed {
            wave,
            question,
            why,
        });
    }
    let open = gate::last_open(rollout).map_or(0, |last| usize::from(last) + 1);
    let asked = tally.sum(open).present();
    gate::unreached_spent(&rollout.spec, total.overdue, asked)
        .or_else(|| gate::impossible(rollout, tally))
}

fn halt(scratch: &mut Scratch<'_>, id: RolloutId, reason: HaltReason) {
    let mut rollout = scratch.rollout(id).clone();
    let wave = gate::last_open(&rollout).unwrap_or(0);
    let text = format!("{id} halted: {reason}");
    rollout.halt = Some(Halt {
        at: scratch.now,
        wave,
        reason,
    });
    rollout.since = scratch.now;
    rollout.state = RolloutState::Halted;
    // A wave has passed when the next one opened, so the last open one has not.
    let from = match rollout.spec.on_halt {
        OnHalt::Hold => None,
        OnHalt::RollBackWave => Some(wave),
        OnHalt::RollBackAll => Some(0),
    };
    if let Some(wave) = from {
        rollout.state = RolloutState::RollingBack;
        let then = RolloutState::Halted;
        rollout.roll_back = Some(RollBackScope::WavesFrom { wave, then });
    }
    scratch.set_rollout(rollout);
    scratch.tell(id, EventKind::RolloutHalted, text);
    if let Some(wave) = from {
        let name = scratch.rollout(id).spec.wave_name(usize::from(wave));
        let text = format!("{id} rolls back from {name} on");
        scratch.tell(id, EventKind::RolloutRollingBack, text);
    }
}
