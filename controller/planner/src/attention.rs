//! Which members a plan must look at though nothing was heard of them.
//!
//! Members left out here cost nothing per plan: those that have ended, and those whose wave is closed. They are still
//! found by what their host reports, by changed facts and labels, and when their wave opens.

use comber_model::rollout::{Member, MemberState, RollBack, Rollout, RolloutState};
use comber_model::{Failure, FailureClass};

/// True where time or the host's status alone can change the member.
pub(crate) fn is_needed(rollout: &Rollout, member: &Member) -> bool {
    let goes_back = match &member.roll_back {
        Some(RollBack::Wanted) => true,
        Some(RollBack::Failed { failure }) => can_be_corrected(failure),
        Some(RollBack::Done | RollBack::Impossible { .. }) | None => false,
    };
    goes_back || member.grant.is_some() || is_needed_forward(rollout, member)
}

fn is_needed_forward(rollout: &Rollout, member: &Member) -> bool {
    match &member.state {
        // An abort must cancel what waits in closed waves too.
        MemberState::Waiting => {
            rollout.state == RolloutState::Aborted || wave_is_open(rollout, member.wave)
        }
        MemberState::Unreached { .. }
        | MemberState::Received
        | MemberState::Activating
        | MemberState::Backoff { .. } => true,
        MemberState::Failed { failure } => can_be_corrected(failure),
        MemberState::Succeeded { .. } | MemberState::Excluded { .. } => false,
    }
}

/// True for a failure that the controller concluded and the host may refute.
pub(crate) fn can_be_corrected(failure: &Failure) -> bool {
    matches!(failure.class, FailureClass::Silent | FailureClass::Timeout)
}

/// True once the wave's hosts may be assigned work.
pub(crate) fn wave_is_open(rollout: &Rollout, wave: u16) -> bool {
    let progress = rollout.waves.get(usize::from(wave));
    progress.is_some_and(|progress| progress.opened_at.is_some())
}
