//! Notes which rollouts are past their due date, once for each; from then on they go before others that are not.
//!
//! What is noted is kept with the rollout, so that the order of work follows from the records alone.

use comber_model::RolloutId;
use comber_model::event::EventKind;
use comber_model::rollout::RolloutState;

use crate::scratch::Scratch;

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    use RolloutState as S;
    for id in scratch.rollouts_in(&[S::Running, S::Paused, S::Halted, S::RollingBack]) {
        let rollout = scratch.rollout(id);
        let (Some(due), None) = (rollout.due_at(), rollout.overdue_at) else {
            continue;
        };
        if scratch.now < due {
            scratch.wake_at(due);
        } else {
            note(scratch, id);
        }
    }
}

fn note(scratch: &mut Scratch<'_>, id: RolloutId) {
    let outcomes = scratch.tally(id).outcomes();
    let mut rollout = scratch.rollout(id).clone();
    rollout.overdue_at = Some(scratch.now);
    let text = format!(
        "{id} is past its due date: {} of {} hosts are not done",
        outcomes.pending + outcomes.unreached,
        outcomes.total - outcomes.excluded
    );
    scratch.set_rollout(rollout);
    scratch.tell(id, EventKind::RolloutOverdue, text);
}
