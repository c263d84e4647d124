//! Ends a rollout when nothing more is planned for any of its hosts.
//!
//! Hosts that return afterwards, or join, still catch up: completed means that nobody is waited for.

use comber_model::RolloutId;
use comber_model::event::EventKind;
use comber_model::rollout::RolloutState;

use crate::gate;
use crate::scratch::Scratch;

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    for id in scratch.rollouts_in(&[RolloutState::Running]) {
        if is_complete(scratch, id) {
            complete(scratch, id);
        }
    }
}

fn is_complete(scratch: &Scratch<'_>, id: RolloutId) -> bool {
    let rollout = scratch.rollout(id);
    let tally = scratch.tally(id);
    let Some(last) = gate::last_open(rollout).map(usize::from) else {
        return false;
    };
    // A wave whose hosts were all set aside has nothing to open for.
    let closed_are_empty =
        (last + 1..rollout.waves.len()).all(|wave| tally.wave(wave).present() == 0);
    closed_are_empty && !tally.total().has_unsettled()
}

fn complete(scratch: &mut Scratch<'_>, id: RolloutId) {
    let mut rollout = scratch.rollout(id).clone();
    rollout.state = RolloutState::Completed;
    rollout.since = scratch.now;
    let last = gate::last_open(&rollout).map_or(0, usize::from);
    let name = rollout.spec.wave_name(last);
    // What was never needed is open to late joiners all the same.
    for wave in &mut rollout.waves {
        wave.opened_at.get_or_insert(scratch.now);
    }
    scratch.set_rollout(rollout);
    scratch.tell_of_wave(
        id,
        last,
        EventKind::WavePassed,
        format!("{id}: {name} passed"),
    );
    scratch.tell(
        id,
        EventKind::RolloutCompleted,
        format!("{id} is completed"),
    );
}
