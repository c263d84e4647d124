//! Takes hosts back to what they had: which of them, to what, and when the rollout is through with it.
//!
//! A host only ever goes back to what it had when this rollout first assigned it work, and that was committed on it.
//! Where that is not possible, the reason is kept with the host.

use comber_model::event::EventKind;
use comber_model::rollout::{Member, MemberState, RollBack, RollBackScope, RolloutState};
use comber_model::{Action, HostId, ReleaseId, RolloutId};

use super::supersede;
use crate::scratch::Scratch;
use crate::{HostView, fence};

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    for id in scratch.rollouts_in(&[RolloutState::Halted, RolloutState::Aborted]) {
        begin_again(scratch, id);
    }
    for id in scratch.rollouts_in(&[RolloutState::RollingBack]) {
        mark(scratch, id);
        for host in scratch.attention(id).iter().copied() {
            arrived(scratch, id, host);
        }
        end(scratch, id);
    }
}

fn scope(scratch: &Scratch<'_>, id: RolloutId) -> Option<(u16, RolloutState)> {
    scratch
        .rollout(id)
        .roll_back
        .map(|RollBackScope::WavesFrom { wave, then }| (wave, then))
}

/// The way back of a member that succeeded; absent where it is not to go back.
pub(super) fn way_back(scratch: &Scratch<'_>, id: RolloutId, member: &Member) -> Option<RollBack> {
    use RolloutState as S;
    let (from, _) = scope(scratch, id)?;
    let goes_back = matches!(scratch.state(id), S::RollingBack | S::Halted | S::Aborted);
    if !goes_back || member.wave < from || member.roll_back.is_some() {
        return member.roll_back.clone();
    }
    let why = obstacle(scratch, id, member);
    Some(why.map_or(RollBack::Wanted, |why| RollBack::Impossible { why }))
}

fn obstacle(scratch: &Scratch<'_>, id: RolloutId, member: &Member) -> Option<String> {
    if scratch
        .host(&member.host)
        .is_some_and(|view| view.host.retired_at.is_some())
    {
        return Some("the host was retired".to_owned());
    }
    let others = scratch.input.rollouts.keys().copied();
    let took_over = |other: &RolloutId| {
        !matches!(scratch.state(*other), RolloutState::Draft)
            && supersede::is_member_of_later(scratch, *other, id, &member.host)
            && supersede::claims(scratch, *other, &member.host)
    };
    if let Some(later) = others.into_iter().find(took_over) {
        return Some(supersede::taken_over(later));
    }
    let release = &scratch.rollout(id).spec.release;
    if scratch
        .release(id)
        .is_some_and(|release| release.manifest.irreversible)
    {
        return Some(format!("{release} is irreversible"));
    }
    match &member.before {
        None => Some("what the host had before is not known".to_owned()),
        Some(None) => None,
        Some(Some(version)) => {
            let before = ReleaseId {
                name: release.name.clone(),
                version: version.clone(),
            };
            let is_gone = !scratch.input.releases.contains_key(&before);
            is_gone.then(|| format!("{before}, which the host had, is not published any more"))
        }
    }
}

/// What the host is told to do, to be back on what it had.
pub(super) fn target(
    scratch: &Scratch<'_>,
    id: RolloutId,
    member: &Member,
) -> Option<(ReleaseId, Action)> {
    let release = scratch.rollout(id).spec.release.clone();
    match member.before.clone()? {
        None => Some((release, Action::Remove)),
        Some(version) => {
            let before = ReleaseId {
                name: release.name,
                version,
            };
            let artifact = scratch.input.releases.get(&before)?.artifact;
            Some((before, Action::Install { artifact }))
        }
    }
}

/// Every member in scope that the rollout has changed is to go back.
fn mark(scratch: &mut Scratch<'_>, id: RolloutId) {
    let changed =
        |m: &Member| m.state == MemberState::Succeeded { already: false } && m.roll_back.is_none();
    let members: Vec<Member> = scratch
        .members(id)
        .filter(|(_, m)| changed(m))
        .map(|(_, m)| m.clone())
        .collect();
    for mut member in members {
        member.roll_back = way_back(scratch, id, &member);
        let impossible = match &member.roll_back {
            Some(RollBack::Impossible { why }) => Some(why.clone()),
            Some(RollBack::Wanted | RollBack::Done | RollBack::Failed { .. }) | None => None,
        };
        scratch.set_member(id, member.clone(), |_| String::new());
        if let Some(why) = impossible {
            let text = format!("{} cannot go back: {why}", member.host);
            scratch.tell_of_member(id, &member, EventKind::HostRolledBack, text);
        }
    }
}

/// A host that is back already, without having been told.
fn arrived(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId) {
    let (Some(view), Some(member)) = (scratch.host(host), scratch.member(id, host)) else {
        return;
    };
    let untold = scratch.assignment(host).is_none();
    if member.roll_back != Some(RollBack::Wanted)
        || !untold
        || !has_what_it_had(scratch, id, member, view)
    {
        return;
    }
    let mut member = member.clone();
    member.roll_back = Some(RollBack::Done);
    scratch.set_member(id, member.clone(), |_| String::new());
    let text = format!("{host} is back on what it had");
    scratch.tell_of_member(id, &member, EventKind::HostRolledBack, text);
}

fn has_what_it_had(scratch: &Scratch<'_>, id: RolloutId, member: &Member, view: &HostView) -> bool {
    let Some(status) = view.status.as_ref().filter(|s| !s.state.is_active()) else {
        return false;
    };
    let name = &scratch.rollout(id).spec.release.name;
    let now = status
        .installed
        .get(name)
        .map(|installed| &installed.version);
    view.link.is_up()
        && member
            .before
            .as_ref()
            .is_some_and(|before| before.as_ref() == now)
}

/// A way back that opens again after the end, when a host that was away returns: the rollout rolls back once more.
fn begin_again(scratch: &mut Scratch<'_>, id: RolloutId) {
    let Some((wave, _)) = scope(scratch, id) else {
        return;
    };
    let hosts = scratch.attention(id);
    let wanted = |host: &&&HostId| {
        scratch
            .member(id, host)
            .is_some_and(|m| m.roll_back == Some(RollBack::Wanted))
    };
    let Some(host) = hosts.iter().find(wanted) else {
        return;
    };
    let mut rollout = scratch.rollout(id).clone();
    let then = rollout.state;
    rollout.roll_back = Some(RollBackScope::WavesFrom { wave, then });
    rollout.state = RolloutState::RollingBack;
    rollout.since = scratch.now;
    scratch.set_rollout(rollout);
    let text = format!("{id} rolls back again: {host} is back with the release");
    scratch.tell(id, EventKind::RolloutRollingBack, text);
}

fn end(scratch: &mut Scratch<'_>, id: RolloutId) {
    let Some((wave, then)) = scope(scratch, id) else {
        return;
    };
    let is_open = |host: &&HostId| {
        let (Some(view), Some(member)) = (scratch.host(host), scratch.member(id, host)) else {
            return false;
        };
        let is_wanted = member.roll_back == Some(RollBack::Wanted);
        // A host that may be activating can still succeed, and has to go back then.
        let may_succeed = !member.is_settled() && fence::is_in_flight(member, view, scratch.now);
        is_wanted || (member.wave >= wave && may_succeed)
    };
    let hosts = scratch.attention(id);
    if hosts.iter().any(is_open) {
        return;
    }
    let mut rollout = scratch.rollout(id).clone();
    rollout.state = then;
    rollout.since = scratch.now;
    scratch.set_rollout(rollout);
    let text = format!("{id} was rolled back and is {then}");
    scratch.tell(id, EventKind::RolloutRolledBack, text);
}
