//! How a member's attempt ends: shared by what hosts report and what the controller concludes from silence.
//!
//! Ending an attempt always takes its assignment away from the host, unless the host is active: then it ends alone.

use comber_model::event::EventKind;
use comber_model::rollout::{ExcludedReason, Member, MemberState, RolloutState};
use comber_model::{Failure, RolloutId};

use super::rollback;
use crate::fence;
use crate::scratch::Scratch;

/// The host runs the release and has proved healthy.
pub(super) fn succeed(scratch: &mut Scratch<'_>, id: RolloutId, mut member: Member) {
    let host = scratch.host(&member.host);
    if !host.is_some_and(|host| fence::is_active_for(&member, host)) {
        scratch.release_host(id, &member.host);
        member.grant = None;
    }
    let before = member.outcome();
    let corrected = was_concluded(&member.state);
    member.state = MemberState::Succeeded { already: false };
    member.since = scratch.now;
    member.clock = None;
    member.roll_back = rollback::way_back(scratch, id, &member);
    scratch.set_member(id, member, |m| {
        let text = format!("{} succeeded", m.host);
        if corrected {
            format!("{text}; corrected from {before}")
        } else {
            text
        }
    });
}

/// The attempt failed: another follows where the rollout file says so, or the member has failed.
pub(super) fn fail(scratch: &mut Scratch<'_>, id: RolloutId, mut member: Member, failure: Failure) {
    scratch.release_host(id, &member.host);
    let before = member.outcome();
    let corrected = was_concluded(&member.state);
    member.grant = None;
    member.clock = None;
    member.since = scratch.now;
    member.last_failure = Some(failure.clone());
    if may_retry(scratch, id, &member, &failure) {
        let pause = scratch.rollout(id).spec.retry.pause_after(member.attempts);
        let until = crate::time::after(scratch.now, pause);
        member.state = MemberState::Backoff { until };
        let text = format!("{} failed: {failure}; it is tried again", member.host);
        if before == member.outcome() {
            scratch.tell_of_member(id, &member, EventKind::OutcomeChanged, text.clone());
        }
        scratch.set_member(id, member, |_| text);
        return;
    }
    member.state = MemberState::Failed { failure };
    scratch.set_member(id, member, |m| {
        let text = failed_text(m);
        if corrected {
            format!("{text}; corrected from {before}")
        } else {
            text
        }
    });
}

/// The rollout was aborted before the host activated anything.
pub(super) fn cancel(scratch: &mut Scratch<'_>, id: RolloutId, mut member: Member) {
    member.state = MemberState::Excluded {
        reason: ExcludedReason::Cancelled,
    };
    member.since = scratch.now;
    member.clock = None;
    scratch.set_member(id, member, |m| format!("{} is cancelled", m.host));
}

pub(super) fn failed_text(member: &Member) -> String {
    match &member.state {
        MemberState::Failed { failure } => format!("{} failed: {failure}", member.host),
        MemberState::Waiting
        | MemberState::Unreached { .. }
        | MemberState::Received
        | MemberState::Activating
        | MemberState::Backoff { .. }
        | MemberState::Succeeded { .. }
        | MemberState::Excluded { .. } => format!("{} failed", member.host),
    }
}

/// True for a state that the controller concluded without word from the host.
fn was_concluded(state: &MemberState) -> bool {
    match state {
        MemberState::Failed { failure } => crate::attention::can_be_corrected(failure),
        MemberState::Excluded { .. } | MemberState::Unreached { overdue: true } => true,
        MemberState::Waiting
        | MemberState::Unreached { overdue: false }
        | MemberState::Received
        | MemberState::Activating
        | MemberState::Backoff { .. }
        | MemberState::Succeeded { .. } => false,
    }
}

/// A rollout that stopped for good, or was rolled back, tries nothing again.
fn may_retry(scratch: &Scratch<'_>, id: RolloutId, member: &Member, failure: &Failure) -> bool {
    use RolloutState as S;
    let rollout = scratch.rollout(id);
    let allowed = rollout
        .spec
        .retry
        .classes
        .get(&failure.class)
        .copied()
        .unwrap_or(0);
    let goes_on = matches!(
        rollout.state,
        S::Running | S::Paused | S::Completed | S::Halted
    );
    goes_on && rollout.roll_back.is_none() && member.attempts <= allowed
}
