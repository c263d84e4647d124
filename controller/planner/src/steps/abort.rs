//! Carries out an abort: takes work away from every host that has not begun to activate, and says when none can any
//! more.
//!
//! A host with a permit is not taken for cancelled before it said so or its permit is surely dead.

use comber_model::RolloutId;
use comber_model::event::EventKind;
use comber_model::rollout::{Member, MemberState, RollBack, RolloutState};

use super::settle;
use crate::scratch::Scratch;
use crate::{HostView, fence};

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    for id in scratch.rollouts_in(&[RolloutState::Aborted]) {
        let hosts = scratch.attention(id);
        let was_open = has_unresolved_before(scratch, id);
        for host in hosts.iter().copied() {
            let Some(view) = scratch.host(host) else {
                continue;
            };
            let Some(member) = scratch.member(id, host).cloned() else {
                continue;
            };
            if member.roll_back != Some(RollBack::Wanted) {
                stop(scratch, id, member, view);
            }
        }
        if was_open && !has_unresolved(scratch, id) && !is_told(scratch, id) {
            let text = format!("{id} is fenced: no host can activate it any more");
            scratch.tell(id, EventKind::RolloutFenced, text);
        }
    }
}

fn stop(scratch: &mut Scratch<'_>, id: RolloutId, member: Member, view: &HostView) {
    let is_active = fence::is_active_for(&member, view);
    if is_active {
        return;
    }
    scratch.release_host(id, &member.host);
    // What is set aside is looked at again only when its host is heard of.
    if matches!(member.state, MemberState::Excluded { .. }) {
        return;
    }
    let Some(grant) = member.grant else {
        if has_not_begun(&member.state) {
            settle::cancel(scratch, id, member);
        }
        return;
    };
    let acknowledged = fence::is_out(&member, view);
    let is_dead = scratch.now >= grant.dead_at();
    if !acknowledged && !is_dead {
        scratch.wake_at(grant.dead_at());
        return;
    }
    let mut member = member;
    // A host that is away may have used its permit in time; the remembered permit has it looked at on return.
    let is_cancelled = has_not_begun(&member.state) || member.state == MemberState::Activating;
    if acknowledged || !is_cancelled {
        member.grant = None;
    }
    if is_cancelled {
        settle::cancel(scratch, id, member);
    } else {
        scratch.set_member(id, member, |_| String::new());
    }
}

fn has_not_begun(state: &MemberState) -> bool {
    match state {
        MemberState::Waiting
        | MemberState::Unreached { .. }
        | MemberState::Received
        | MemberState::Backoff { .. } => true,
        // One without a permit has shown that it began; one with a permit is looked at by its permit.
        MemberState::Activating
        | MemberState::Succeeded { .. }
        | MemberState::Failed { .. }
        | MemberState::Excluded { .. } => false,
    }
}

fn has_unresolved_before(scratch: &Scratch<'_>, id: RolloutId) -> bool {
    let view = &scratch.input.rollouts[&id];
    let members = view
        .attention
        .iter()
        .filter_map(|host| view.members.get(host));
    members.into_iter().any(fence::is_unresolved)
}

fn has_unresolved(scratch: &Scratch<'_>, id: RolloutId) -> bool {
    let hosts = scratch.attention(id);
    hosts
        .iter()
        .filter_map(|host| scratch.member(id, host))
        .any(fence::is_unresolved)
}

/// The rounds of one plan say it once.
fn is_told(scratch: &Scratch<'_>, id: RolloutId) -> bool {
    scratch.has_told(id, EventKind::RolloutFenced)
}
