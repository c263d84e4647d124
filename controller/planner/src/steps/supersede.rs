//! One product, one rollout per host: a rollout started later takes its hosts over from earlier ones.
//!
//! A host that is active, or may become so by a permit, stays with the earlier rollout until that attempt has ended.

use comber_model::rollout::{ExcludedReason, Member, MemberState, RollBack, RolloutState};
use comber_model::{HostId, RolloutId};

use super::membership::exclude;
use crate::fence;
use crate::scratch::Scratch;

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    use RolloutState as S;
    let started = scratch.rollouts_in(&[
        S::Running,
        S::Paused,
        S::Halted,
        S::RollingBack,
        S::Completed,
        S::Aborted,
    ]);
    for id in &started {
        let fresh = scratch.touched_rollouts();
        for host in candidates(scratch, *id, &fresh) {
            supersede(scratch, *id, host, &started);
        }
    }
}

/// Members of an earlier rollout that may be taken over: those it works on, and those that joined a later one just now.
fn candidates<'a>(scratch: &Scratch<'a>, id: RolloutId, fresh: &[RolloutId]) -> Vec<&'a HostId> {
    let mut hosts = scratch.attention(id).to_vec();
    hosts.extend(scratch.touched(id));
    for later in fresh.iter().filter(|later| is_later(scratch, **later, id)) {
        let joined = scratch.touched(*later);
        hosts.extend(
            joined
                .into_iter()
                .filter(|host| scratch.member(id, host).is_some()),
        );
    }
    hosts.sort();
    hosts.dedup();
    hosts
}

fn supersede(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId, started: &[RolloutId]) {
    let Some(member) = scratch.member(id, host).cloned() else {
        return;
    };
    let goes_back = member.roll_back == Some(RollBack::Wanted);
    if !goes_back && !is_unfinished(&member) {
        return;
    }
    let takes_over = |other: &&RolloutId| {
        is_member_of_later(scratch, **other, id, host)
            && (!goes_back || claims(scratch, **other, host))
    };
    let Some(later) = started.iter().find(takes_over).copied() else {
        return;
    };
    let view = scratch.host(host);
    if view.is_some_and(|view| fence::is_in_flight(&member, view, scratch.now)) {
        return;
    }
    if goes_back {
        give_up_way_back(scratch, id, member, later);
    } else {
        exclude(scratch, id, member, ExcludedReason::Superseded);
    }
}

fn give_up_way_back(
    scratch: &mut Scratch<'_>,
    id: RolloutId,
    mut member: Member,
    later: RolloutId,
) {
    scratch.release_host(id, &member.host);
    member.clock = None;
    member.roll_back = Some(RollBack::Impossible {
        why: taken_over(later),
    });
    scratch.set_member(id, member, |_| String::new());
}

pub(super) fn taken_over(later: RolloutId) -> String {
    format!("rollout {later} has taken the host over")
}

fn is_unfinished(member: &Member) -> bool {
    match &member.state {
        MemberState::Waiting
        | MemberState::Unreached { .. }
        | MemberState::Received
        | MemberState::Activating
        | MemberState::Backoff { .. } => true,
        MemberState::Succeeded { .. }
        | MemberState::Failed { .. }
        | MemberState::Excluded { .. } => false,
    }
}

/// True where a rollout has changed the host, or still may: an earlier one then cannot take it back.
pub(super) fn claims(scratch: &Scratch<'_>, id: RolloutId, host: &HostId) -> bool {
    let aborted = scratch.state(id) == RolloutState::Aborted;
    scratch
        .member(id, host)
        .is_some_and(|member| match &member.state {
            MemberState::Succeeded { .. } => true,
            MemberState::Failed { .. } | MemberState::Excluded { .. } => false,
            MemberState::Waiting
            | MemberState::Unreached { .. }
            | MemberState::Received
            | MemberState::Activating
            | MemberState::Backoff { .. } => !aborted,
        })
}

/// True where `later` brings the same product, was started after `id`, and means this host.
pub(super) fn is_member_of_later(
    scratch: &Scratch<'_>,
    later: RolloutId,
    id: RolloutId,
    host: &HostId,
) -> bool {
    is_later(scratch, later, id)
        && scratch
            .member(later, host)
            .is_some_and(|m| !matches!(m.state, MemberState::Excluded { .. }))
}

fn is_later(scratch: &Scratch<'_>, later: RolloutId, id: RolloutId) -> bool {
    let (a, b) = (scratch.rollout(later), scratch.rollout(id));
    a.spec.release.name == b.spec.release.name && (a.started_at, a.id) > (b.started_at, b.id)
}
