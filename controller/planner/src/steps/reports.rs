//! What hosts report: how attempts ended, and how ways back ended.
//!
//! Every report that the host still holds is looked at once, in order, and acknowledged in the same plan, also where it
//! belongs to nothing any more. A late report corrects what the controller had concluded meanwhile.

use comber_model::event::EventKind;
use comber_model::rollout::{ExcludedReason, Member, MemberState, RollBack, RolloutState};
use comber_model::{Generation, HostId, Report, ReportResult};

use super::membership::exclude;
use super::settle;
use crate::attention::can_be_corrected;
use crate::scratch::Scratch;

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    for (host, view) in scratch.input.hosts.heard() {
        let Some(status) = &view.status else { continue };
        let known = view.desired.acknowledged;
        let mut new: Vec<&Report> = status.reports.iter().filter(|r| r.number > known).collect();
        new.sort_by_key(|report| report.number);
        for report in &new {
            take_in(scratch, host, report);
        }
        if let Some(last) = new.last() {
            let mut desired = scratch.desired(host);
            desired.acknowledged = last.number;
            scratch.set_desired(host, desired);
        }
    }
}

fn take_in(scratch: &mut Scratch<'_>, host: &HostId, report: &Report) {
    let id = report.rollout;
    if !scratch.input.rollouts.contains_key(&id) {
        return;
    }
    let Some(member) = scratch.member(id, host).cloned() else {
        return;
    };
    // Nobody was ever told to do what no plan has planned.
    if report.generation == Generation::default() || report.generation > member.generation {
        return;
    }
    let is_latest = report.generation == member.generation;
    if member.roll_back.is_some() {
        if is_latest {
            end_way_back(scratch, member, report);
        }
        return;
    }
    if report.release != scratch.rollout(id).spec.release {
        return;
    }
    match &report.result {
        ReportResult::Committed => {
            if !matches!(member.state, MemberState::Succeeded { .. }) {
                settle::succeed(scratch, id, member);
            }
        }
        ReportResult::NotActivated { .. } if is_latest => end_unchanged(scratch, member, report),
        ReportResult::NotApplicable { .. } if is_latest => set_aside(scratch, member, report),
        ReportResult::RolledBack { .. } | ReportResult::Broken { .. } if is_latest => {
            end_failed(scratch, member, report);
        }
        ReportResult::NotActivated { .. }
        | ReportResult::NotApplicable { .. }
        | ReportResult::RolledBack { .. }
        | ReportResult::Broken { .. } => {}
    }
}

/// The attempt ended before anything was changed on the host.
fn end_unchanged(scratch: &mut Scratch<'_>, mut member: Member, report: &Report) {
    let id = report.rollout;
    let Some(failure) = report.result.failure().cloned() else {
        return;
    };
    match &member.state {
        MemberState::Unreached { .. } | MemberState::Received | MemberState::Activating => {
            if scratch.state(id) == RolloutState::Aborted {
                scratch.release_host(id, &member.host);
                member.grant = None;
                settle::cancel(scratch, id, member);
            } else {
                settle::fail(scratch, id, member, failure);
            }
        }
        // A silent host says now why it could not go on. After a timeout the controller cancelled the attempt, and the
        // host only confirms that.
        MemberState::Failed { failure: old } if can_be_corrected(old) => {
            if old.class == comber_model::FailureClass::Silent {
                settle::fail(scratch, id, member, failure);
            } else {
                member.grant = None;
                scratch.set_member(id, member, |_| String::new());
            }
        }
        MemberState::Excluded { .. } | MemberState::Waiting => {
            member.grant = None;
            scratch.set_member(id, member, |_| String::new());
        }
        MemberState::Failed { .. }
        | MemberState::Backoff { .. }
        | MemberState::Succeeded { .. } => {}
    }
}

/// The host found that the release is none for it: it is set aside as one whose facts say so from the start.
fn set_aside(scratch: &mut Scratch<'_>, mut member: Member, report: &Report) {
    let id = report.rollout;
    member.grant = None;
    match &member.state {
        MemberState::Excluded { .. } => scratch.set_member(id, member, |_| String::new()),
        MemberState::Succeeded { .. } => {}
        MemberState::Unreached { .. }
        | MemberState::Received
        | MemberState::Activating
        | MemberState::Waiting
        | MemberState::Backoff { .. }
        | MemberState::Failed { .. } => {
            member.last_failure = report.result.failure().cloned();
            exclude(scratch, id, member, ExcludedReason::NotApplicable);
        }
    }
}

/// The host was changed, and is back where it was or broken. This stands whatever was concluded before.
fn end_failed(scratch: &mut Scratch<'_>, member: Member, report: &Report) {
    let Some(failure) = report.result.failure().cloned() else {
        return;
    };
    let is_known = match &member.state {
        MemberState::Failed { failure } => !can_be_corrected(failure),
        MemberState::Succeeded { .. } | MemberState::Backoff { .. } => true,
        MemberState::Waiting
        | MemberState::Unreached { .. }
        | MemberState::Received
        | MemberState::Activating
        | MemberState::Excluded { .. } => false,
    };
    if !is_known {
        settle::fail(scratch, report.rollout, member, failure);
    }
}

/// The way back ended. The member's outcome stays what the rollout brought.
fn end_way_back(scratch: &mut Scratch<'_>, mut member: Member, report: &Report) {
    let is_open = match &member.roll_back {
        Some(RollBack::Wanted) => true,
        Some(RollBack::Failed { failure }) => can_be_corrected(failure),
        Some(RollBack::Done | RollBack::Impossible { .. }) | None => false,
    };
    if !is_open {
        return;
    }
    let id = report.rollout;
    scratch.release_host(id, &member.host);
    member.grant = None;
    member.clock = None;
    let (roll_back, text) = match report.result.failure() {
        None => (
            RollBack::Done,
            format!("{} is back on what it had", member.host),
        ),
        Some(failure) => {
            let text = format!("{} could not go back: {failure}", member.host);
            (
                RollBack::Failed {
                    failure: failure.clone(),
                },
                text,
            )
        }
    };
    member.roll_back = Some(roll_back);
    scratch.set_member(id, member.clone(), |_| String::new());
    scratch.tell_of_member(id, &member, EventKind::HostRolledBack, text);
}
