//! Silence has deadlines: hosts never reached, gone after receipt, or busy for too long.
//!
//! Each deadline moves the member to a state that says so, so that no wave waits for ever on a host that says nothing.
//! What the host says later corrects it.

use comber_model::event::EventKind;
use comber_model::rollout::{AttemptClock, CountsAs, Member, MemberState, RollBack, RolloutState};
use comber_model::{Failure, FailureClass, HostId, Link, RolloutId, duration};
use jiff::Timestamp;

use super::observe::is_assigned;
use super::settle;
use crate::attention::wave_is_open;
use crate::scratch::Scratch;
use crate::{HostView, fence, time};

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    for id in scratch.rollouts_in(&RolloutState::ALL) {
        for host in scratch.attention(id).iter().copied() {
            let Some(view) = scratch.host(host) else {
                continue;
            };
            let Some(member) = scratch.member(id, host).cloned() else {
                continue;
            };
            if member.roll_back == Some(RollBack::Wanted) {
                way_back(scratch, id, member, view);
                continue;
            }
            match &member.state {
                MemberState::Unreached { overdue: false } => unreached(scratch, id, member),
                MemberState::Waiting => never_free(scratch, id, member, view),
                MemberState::Received | MemberState::Activating => {
                    gone(scratch, id, member, view);
                    too_long(scratch, id, host, view);
                }
                MemberState::Unreached { overdue: true }
                | MemberState::Backoff { .. }
                | MemberState::Succeeded { .. }
                | MemberState::Failed { .. }
                | MemberState::Excluded { .. } => {}
            }
        }
    }
}

/// True once `at` has come; asks for a plan then where it has not.
fn is_due(scratch: &mut Scratch<'_>, at: Timestamp) -> bool {
    scratch.wake_at(at);
    at <= scratch.now
}

fn unreached(scratch: &mut Scratch<'_>, id: RolloutId, mut member: Member) {
    let after = scratch.rollout(id).spec.budget.unreached.after;
    if is_due(scratch, time::after(member.since, after)) {
        member.state = MemberState::Unreached { overdue: true };
        let text = format!(
            "{} did not confirm receipt within {}; its wave goes on without it",
            member.host,
            duration::format(after)
        );
        scratch.set_member(id, member.clone(), |_| text.clone());
        scratch.tell_of_member(id, &member, EventKind::OutcomeChanged, text);
    }
}

/// A host that is away and bound to another rollout cannot even be asked; it is given up like one that does not answer.
fn never_free(scratch: &mut Scratch<'_>, id: RolloutId, mut member: Member, view: &HostView) {
    use RolloutState as S;
    let Link::Down { since } = view.link else {
        return;
    };
    let moves = matches!(scratch.state(id), S::Running | S::Completed);
    if !moves || !wave_is_open(scratch.rollout(id), member.wave) {
        return;
    }
    let opened = scratch.rollout(id).waves[usize::from(member.wave)].opened_at;
    let from = member.since.max(since).max(opened.unwrap_or(since));
    let after = scratch.rollout(id).spec.budget.unreached.after;
    if is_due(scratch, time::after(from, after)) {
        member.state = MemberState::Unreached { overdue: true };
        member.since = scratch.now;
        scratch.set_member(id, member, |m| {
            format!(
                "{} is away and could not be given work; its wave goes on without it",
                m.host
            )
        });
    }
}

/// A host with work in hand that went away.
fn gone(scratch: &mut Scratch<'_>, id: RolloutId, member: Member, view: &HostView) {
    let silent = scratch.rollout(id).spec.budget.silent.clone();
    let Link::Down { since } = view.link else {
        return;
    };
    if silent.counts_as == CountsAs::Pending || !is_due(scratch, time::after(since, silent.after)) {
        return;
    }
    let mut member = member;
    let failure = silent_failure(since, scratch.now);
    member.last_failure = Some(failure.clone());
    member.state = MemberState::Failed { failure };
    member.since = scratch.now;
    member.clock = None;
    scratch.set_member(id, member, settle::failed_text);
}

fn silent_failure(since: Timestamp, now: Timestamp) -> Failure {
    let away = duration::format(time::between(since, now));
    Failure::new(
        FailureClass::Silent,
        format!("not heard of for {away} with work in hand"),
    )
}

/// An attempt past its deadline. A host that is or may be active is left to end it alone; its report corrects this.
fn too_long(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId, view: &HostView) {
    let Some(member) = scratch.member(id, host).cloned() else {
        return;
    };
    let Some(AttemptClock::Running { deadline }) = member.clock else {
        return;
    };
    let works = matches!(
        member.state,
        MemberState::Received | MemberState::Activating
    );
    if !works || !is_due(scratch, deadline) {
        return;
    }
    let failure = timeout_failure(scratch, id, view);
    if !fence::is_in_flight(&member, view, scratch.now) {
        settle::fail(scratch, id, member, failure);
        return;
    }
    let mut member = member;
    member.last_failure = Some(failure.clone());
    member.state = MemberState::Failed { failure };
    member.since = scratch.now;
    member.clock = None;
    scratch.set_member(id, member, settle::failed_text);
}

fn timeout_failure(scratch: &Scratch<'_>, id: RolloutId, view: &HostView) -> Failure {
    let limit = duration::format(scratch.rollout(id).spec.pace.attempt_deadline);
    let state = view
        .status
        .as_ref()
        .map_or("unknown", |status| status.state.as_str());
    Failure::new(
        FailureClass::Timeout,
        format!("the attempt did not end within {limit}; the host is {state}"),
    )
}

/// The same three deadlines for a way back.
fn way_back(scratch: &mut Scratch<'_>, id: RolloutId, member: Member, view: &HostView) {
    let budget = scratch.rollout(id).spec.budget.clone();
    let began = scratch.rollout(id).since;
    if let Link::Down { since } = view.link
        && is_due(scratch, time::after(since.max(began), budget.silent.after))
    {
        let failure = silent_failure(since, scratch.now);
        end_way_back(scratch, id, member, failure);
        return;
    }
    let deadline = match member.clock {
        Some(AttemptClock::Running { deadline }) => deadline,
        None if is_assigned(scratch, id, &member) => {
            time::after(member.since.max(began), budget.unreached.after)
        }
        Some(AttemptClock::Stopped { .. }) | None => return,
    };
    if is_due(scratch, deadline) {
        let failure = timeout_failure(scratch, id, view);
        end_way_back(scratch, id, member, failure);
    }
}

/// The host's assignment stays, so that a host that returns still goes back.
fn end_way_back(scratch: &mut Scratch<'_>, id: RolloutId, mut member: Member, failure: Failure) {
    let text = format!("{} could not go back: {failure}", member.host);
    member.roll_back = Some(RollBack::Failed { failure });
    member.clock = None;
    scratch.set_member(id, member.clone(), |_| String::new());
    scratch.tell_of_member(id, &member, EventKind::HostRolledBack, text);
}
