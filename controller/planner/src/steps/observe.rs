//! What hosts' states say: receipt, activation, waiting for a permit, and coming back.
//!
//! Hosts say where they stand, not what changed; so this step compares the member with the host and moves it there,
//! however many messages were missed.

use comber_model::rollout::{
    AttemptClock, ExcludedReason, Member, MemberState, RollBack, RolloutState,
};
use comber_model::{AgentState, FailureClass, HostId, RolloutId};

use crate::scratch::Scratch;
use crate::{HostView, fence, time};

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    for id in scratch.rollouts_in(&RolloutState::ALL) {
        for host in scratch.attention(id).iter().copied() {
            let Some(view) = scratch.host(host) else {
                continue;
            };
            end_of_permit(scratch, id, host, view);
            come_back(scratch, id, host, view);
            activation(scratch, id, host, view);
            receipt(scratch, id, host, view);
            clock(scratch, id, host, view);
        }
    }
}

/// A permit that is over and was not used, as the host's presence shows, is forgotten.
fn end_of_permit(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId, view: &HostView) {
    let Some(member) = scratch.member(id, host) else {
        return;
    };
    let Some(grant) = member.grant else { return };
    // Its work was taken back before it was begun, and the host has said that it heard so.
    let is_given_back = member.state == MemberState::Waiting && fence::is_out(member, view);
    if is_given_back && !fence::is_active_for(member, view) {
        let mut member = member.clone();
        member.grant = None;
        return scratch.set_member(id, member, |_| String::new());
    }
    if scratch.now < grant.dead_at() {
        scratch.wake_at(grant.dead_at());
        return;
    }
    // A retired host is refused, so that nothing more will be heard of it.
    let is_heard = view.link.is_up() || view.host.retired_at.is_some();
    if !is_heard || fence::is_active_for(member, view) {
        return;
    }
    let mut member = member.clone();
    member.grant = None;
    if member.state == MemberState::Activating {
        member.state = MemberState::Received;
        member.since = scratch.now;
    }
    scratch.set_member(id, member, |_| String::new());
}

/// A host that counted as silent is here again: it is judged by what it does from now on.
fn come_back(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId, view: &HostView) {
    let Some(member) = scratch.member(id, host) else {
        return;
    };
    let can_come_back =
        member.roll_back.is_some() || matches!(member.state, MemberState::Failed { .. });
    if !can_come_back || !view.link.is_up() {
        return;
    }
    let mut member = member.clone();
    if let Some(RollBack::Failed { failure }) = &member.roll_back {
        if failure.class == FailureClass::Silent {
            member.roll_back = Some(RollBack::Wanted);
            member.since = scratch.now;
            member.clock = None;
            scratch.set_member(id, member, |_| String::new());
        }
        return;
    }
    let is_silent = matches!(&member.state, MemberState::Failed { failure } if failure.class == FailureClass::Silent);
    let Some(state) = is_silent
        .then(|| state_after_return(scratch, id, &member, view))
        .flatten()
    else {
        return;
    };
    member.clock = matches!(state, MemberState::Received | MemberState::Activating)
        .then(|| full_clock(scratch, id));
    member.state = state;
    member.since = scratch.now;
    scratch.set_member(id, member, |m| {
        format!(
            "{} is back; corrected from failed(silent) to {}",
            m.host,
            m.outcome()
        )
    });
}

/// Where a silent member stands once its host is back; absent where it stays failed.
fn state_after_return(
    scratch: &Scratch<'_>,
    id: RolloutId,
    member: &Member,
    view: &HostView,
) -> Option<MemberState> {
    use RolloutState as S;
    if fence::is_active_for(member, view) {
        return Some(MemberState::Activating);
    }
    if is_assigned(scratch, id, member) {
        // A host that lost its state has to accept the assignment again.
        let accepted = has_accepted(member, view);
        let unreached = MemberState::Unreached { overdue: false };
        return Some(if accepted {
            MemberState::Received
        } else {
            unreached
        });
    }
    let goes_on = matches!(
        scratch.state(id),
        S::Running | S::Paused | S::Completed | S::Halted
    );
    goes_on.then_some(MemberState::Waiting)
}

/// The host began to activate: its permit is used.
fn activation(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId, view: &HostView) {
    let Some(member) = scratch.member(id, host) else {
        return;
    };
    if !fence::is_active_for(member, view) {
        return;
    }
    let mut member = member.clone();
    member.grant = None;
    let moves = match member.state {
        MemberState::Unreached { .. } | MemberState::Received => true,
        MemberState::Waiting => {
            // It was taken back too late; the try counts after all.
            member.attempts += 1;
            true
        }
        MemberState::Excluded { reason } => reason == ExcludedReason::Cancelled,
        MemberState::Activating
        | MemberState::Backoff { .. }
        | MemberState::Succeeded { .. }
        | MemberState::Failed { .. } => false,
    };
    if moves && member.roll_back.is_none() {
        member.state = MemberState::Activating;
        member.since = scratch.now;
    }
    scratch.set_member(id, member, |m| {
        format!(
            "{} has begun to activate before it could be stopped",
            m.host
        )
    });
}

/// The host has accepted its assignment.
fn receipt(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId, view: &HostView) {
    let Some(member) = scratch.member(id, host) else {
        return;
    };
    if !has_accepted(member, view) || !is_assigned(scratch, id, member) {
        return;
    }
    let is_new = matches!(member.state, MemberState::Unreached { .. })
        || (member.roll_back == Some(RollBack::Wanted) && member.clock.is_none());
    if !is_new {
        return;
    }
    let mut member = member.clone();
    let clock = full_clock(scratch, id);
    if member.roll_back == Some(RollBack::Wanted) {
        member.clock = member.clock.or(Some(clock));
    } else if matches!(member.state, MemberState::Unreached { .. }) {
        member.state = MemberState::Received;
        member.since = scratch.now;
        member.clock = Some(clock);
        super::assign::note_before(scratch, id, &mut member, view);
    }
    scratch.set_member(id, member, |m| format!("{} confirmed receipt", m.host));
}

/// The attempt's clock stands still while the host is there and waits for its permit.
fn clock(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId, view: &HostView) {
    let Some(member) = scratch.member(id, host) else {
        return;
    };
    let now = scratch.now;
    let waits = waits_for_permit(member, view) && member.grant.is_none();
    let is_active = fence::is_active_for(member, view);
    let clock = match member.clock {
        Some(AttemptClock::Running { deadline }) if waits && deadline > now => {
            AttemptClock::Stopped {
                left: time::between(now, deadline),
            }
        }
        Some(AttemptClock::Stopped { left }) if !waits => AttemptClock::Running {
            deadline: time::after(now, left),
        },
        None if is_active && !member.is_settled() => full_clock(scratch, id),
        Some(AttemptClock::Running { .. } | AttemptClock::Stopped { .. }) | None => return,
    };
    let mut member = member.clone();
    member.clock = Some(clock);
    scratch.set_member(id, member, |_| String::new());
}

/// The whole time of an attempt, from now.
fn full_clock(scratch: &Scratch<'_>, id: RolloutId) -> AttemptClock {
    let limit = scratch.rollout(id).spec.pace.attempt_deadline;
    AttemptClock::Running {
        deadline: time::after(scratch.now, limit),
    }
}

fn has_accepted(member: &Member, view: &HostView) -> bool {
    view.status
        .as_ref()
        .is_some_and(|status| status.generation >= member.generation)
}

/// True where the host asks for a permit for this member's attempt, and is there to get it.
pub(crate) fn waits_for_permit(member: &Member, view: &HostView) -> bool {
    let Some(status) = &view.status else {
        return false;
    };
    let attempt = status.attempt.as_ref();
    view.link.is_up()
        && status.state == AgentState::AwaitingPermit
        && attempt.is_some_and(|a| a.generation == member.generation)
}

/// True while the host's desired state is the member's last assignment.
pub(crate) fn is_assigned(scratch: &Scratch<'_>, id: RolloutId, member: &Member) -> bool {
    scratch.desired_now(&member.host).is_some_and(|desired| {
        desired.generation == member.generation
            && desired.assignment.as_ref().is_some_and(|a| a.rollout == id)
    })
}
