//! Gives hosts their work: whose wave is open and whose host is free, most urgent rollout first.
//!
//! A host has one assignment over all rollouts. It is taken from another rollout only by a more urgent one, or where
//! the other has given the host up or has halted; never while the host is active or may become so by a permit.

use comber_model::release::Release;
use comber_model::rollout::{Member, MemberState, Outcome, RollBack, Rollout, RolloutState};
use comber_model::{Action, Assignment, HostId, ReleaseId, RolloutId};

use super::rollback;
use crate::attention::wave_is_open;
use crate::overlay::Overlay;
use crate::scratch::Scratch;
use crate::{HostView, fence};

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    let bound = bound_hosts(scratch);
    let ids = scratch.rollouts_in(&[
        RolloutState::Running,
        RolloutState::Completed,
        RolloutState::RollingBack,
    ]);
    for id in scratch.by_urgency(ids) {
        for host in scratch.attention(id).iter().copied() {
            let Some(view) = scratch.host(host) else {
                continue;
            };
            let Some(member) = scratch.member(id, host).cloned() else {
                continue;
            };
            if view.host.retired_at.is_some() || is_bound(&bound, host, view) {
                continue;
            }
            if member.roll_back == Some(RollBack::Wanted) {
                if scratch.state(id) == RolloutState::RollingBack {
                    send_back(scratch, id, member);
                }
            } else if wants_work(scratch, id, &member, view) {
                send_forward(scratch, id, member, view);
            }
        }
    }
}

/// Hosts that are active or may become so by a permit, of whatever rollout.
pub(super) fn in_flight<'a>(scratch: &Scratch<'a>) -> impl Iterator<Item = &'a HostId> {
    let ids = scratch.rollouts_in(&RolloutState::ALL).into_iter();
    ids.flat_map(move |id| {
        let hosts = scratch.attention(id).to_vec().into_iter();
        hosts.filter(move |host| {
            let view = scratch.host(host);
            let member = scratch.member(id, host);
            view.zip(member)
                .is_some_and(|(view, member)| fence::is_in_flight(member, view, scratch.now))
        })
    })
}

/// The same, for quick questions: nobody else may give them work.
fn bound_hosts<'a>(scratch: &Scratch<'a>) -> Overlay<'a, ()> {
    let mut bound = Overlay::default();
    for host in in_flight(scratch) {
        bound.insert(host, ());
    }
    bound
}

fn is_bound(bound: &Overlay<'_, ()>, host: &HostId, view: &HostView) -> bool {
    bound.contains(host) || view.status.as_ref().is_some_and(|s| s.state.is_active())
}

/// True where the rollout has work for the host that it does not have yet.
pub(super) fn is_wanted(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId) -> bool {
    let (Some(view), Some(member)) = (scratch.host(host), scratch.member(id, host).cloned()) else {
        return false;
    };
    let goes_back = member.roll_back == Some(RollBack::Wanted);
    let lacks = |release| lacking(release, view).is_some();
    let is_ready = !scratch.release(id).is_none_or(lacks);
    view.host.retired_at.is_none()
        && if goes_back {
            scratch.state(id) == RolloutState::RollingBack
        } else {
            is_ready && wants_work(scratch, id, &member, view)
        }
}

/// True where the member is to be given its work, as soon as its host is free.
fn wants_work(scratch: &mut Scratch<'_>, id: RolloutId, member: &Member, view: &HostView) -> bool {
    let rollout = scratch.rollout(id);
    let gives = matches!(
        rollout.state,
        RolloutState::Running | RolloutState::Completed
    );
    if !gives || !wave_is_open(rollout, member.wave) {
        return false;
    }
    match member.state {
        MemberState::Waiting => true,
        MemberState::Backoff { until } => {
            scratch.wake_at(until);
            until <= scratch.now
        }
        // Its assignment went to another rollout while it was away.
        MemberState::Unreached { overdue: true } => {
            view.link.is_up() && !super::observe::is_assigned(scratch, id, member)
        }
        MemberState::Unreached { overdue: false }
        | MemberState::Received
        | MemberState::Activating
        | MemberState::Succeeded { .. }
        | MemberState::Failed { .. }
        | MemberState::Excluded { .. } => false,
    }
}

fn send_forward(scratch: &mut Scratch<'_>, id: RolloutId, mut member: Member, view: &HostView) {
    let Some(release) = scratch.release(id) else {
        return;
    };
    let host = member.host.clone();
    if has_already(release, view) && !is_same_product(scratch, &host, release) {
        member.state = MemberState::Succeeded { already: true };
        member.since = scratch.now;
        scratch.set_member(id, member, |m| {
            format!("{} has {} already", m.host, release.id())
        });
        return;
    }
    if lacking(release, view).is_some() || !take_over(scratch, id, &host) {
        return;
    }
    let spec = scratch.rollout(id).spec.clone();
    member.attempts += 1;
    member.generation = scratch.generation;
    note_before(scratch, id, &mut member, view);
    member.state = MemberState::Unreached { overdue: false };
    member.since = scratch.now;
    member.clock = None;
    member.grant = None;
    let assignment = Assignment {
        rollout: id,
        release: spec.release.clone(),
        action: Action::Install {
            artifact: release.artifact,
        },
        rolls_back: false,
        attempt: member.attempts,
        retry_bad: member.attempts > 1,
        disconnected: spec.pace.disconnected,
    };
    scratch.assign(&host, Some(assignment));
    scratch.set_member(id, member, |m| {
        format!("{} is assigned {}", m.host, spec.release)
    });
}

fn send_back(scratch: &mut Scratch<'_>, id: RolloutId, mut member: Member) {
    if scratch
        .own_assignment(id, &member.host)
        .is_some_and(|assignment| assignment.rolls_back)
    {
        return;
    }
    let Some((release, action)) = rollback::target(scratch, id, &member) else {
        return;
    };
    if !take_over(scratch, id, &member.host) {
        return;
    }
    member.generation = scratch.generation;
    member.since = scratch.now;
    member.clock = None;
    member.grant = None;
    let assignment = Assignment {
        rollout: id,
        release,
        action,
        rolls_back: true,
        attempt: 1,
        // What the host had may be remembered as bad from long ago; it is still what it ran last.
        retry_bad: true,
        disconnected: scratch.rollout(id).spec.pace.disconnected,
    };
    scratch.assign(&member.host, Some(assignment));
    scratch.set_member(id, member, |_| String::new());
}

/// Makes the host free for this rollout, where that is allowed; says whether it is free now.
fn take_over(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId) -> bool {
    let Some(owner) = scratch
        .assignment(host)
        .map(|assignment| assignment.rollout)
    else {
        return true;
    };
    if owner == id || !scratch.input.rollouts.contains_key(&owner) {
        return true;
    }
    let Some(member) = scratch.member(owner, host).cloned() else {
        return true;
    };
    if !yields(scratch.rollout(owner), &member, scratch.rollout(id)) {
        return false;
    }
    if member.outcome() == Outcome::Pending || member.outcome() == Outcome::Unreached {
        put_back(scratch, owner, member, &format!("works on {id} first"));
    }
    true
}

/// True where the owner of a host that is not active gives it up to the other rollout.
fn yields(owner: &Rollout, member: &Member, other: &Rollout) -> bool {
    let goes_back = member.roll_back == Some(RollBack::Wanted);
    let is_done = member.is_settled() && !goes_back;
    let has_stopped = match owner.state {
        // A pause is short, and what it holds is ready.
        RolloutState::Running | RolloutState::Paused | RolloutState::Completed => false,
        RolloutState::RollingBack => !goes_back,
        RolloutState::Draft | RolloutState::Halted | RolloutState::Aborted => true,
    };
    is_done || has_stopped || other.urgency() > owner.urgency()
}

/// The attempt was not begun in earnest, so it does not count as a try.
pub(super) fn put_back(scratch: &mut Scratch<'_>, owner: RolloutId, mut member: Member, why: &str) {
    member.attempts = member.attempts.saturating_sub(1);
    member.clock = None;
    // One that was given up stays so, and waits for its host to be there.
    if !member.is_settled() {
        member.state = MemberState::Waiting;
        member.since = scratch.now;
    }
    scratch.set_member(owner, member, |m| format!("{}: {why}", m.host));
}

/// True where the host runs this very release.
fn has_already(release: &Release, view: &HostView) -> bool {
    let installed = view
        .status
        .as_ref()
        .and_then(|s| s.installed.get(&release.manifest.name));
    installed.is_some_and(|installed| {
        installed.version == release.manifest.version && installed.digest == release.artifact.digest
    })
}

fn is_same_product(scratch: &Scratch<'_>, host: &HostId, release: &Release) -> bool {
    scratch
        .assignment(host)
        .is_some_and(|a| a.release.name == release.manifest.name)
}

/// What the release requires and the host lacks, as far as the host has said.
pub(crate) fn lacking(release: &Release, view: &HostView) -> Option<ReleaseId> {
    let status = view.status.as_ref()?;
    let lacks = |required: &&ReleaseId| {
        let installed = status.installed.get(&required.name);
        installed.is_none_or(|installed| installed.version != required.version)
    };
    release.manifest.requires.iter().find(lacks).cloned()
}

/// Remembers what the host has of the rollout's product now, where that was not known and the host has said it.
pub(super) fn note_before(
    scratch: &Scratch<'_>,
    id: RolloutId,
    member: &mut Member,
    view: &HostView,
) {
    let name = &scratch.rollout(id).spec.release.name;
    if let (None, Some(status)) = (&member.before, &view.status) {
        let installed = status.installed.get(name);
        member.before = Some(installed.map(|installed| installed.version.clone()));
    }
}
