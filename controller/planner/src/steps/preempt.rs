//! An emergency does not wait for permits that nobody has used: they are taken back, from the host that it wants itself
//! and from as many of its failure domain as it needs room for.
//!
//! The host is told to drop its work, and is free once it says that it did, or its permit is surely dead. One that had
//! begun finishes alone: an activation is never interrupted.

use std::collections::BTreeMap;

use comber_model::rollout::{MemberState, RolloutState, Urgency};
use comber_model::{BudgetName, Hold, HostId, RolloutId};

use super::{assign, observe, permits};
use crate::books::Room;
use crate::fence;
use crate::scratch::Scratch;

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    use RolloutState as S;
    let mut ids = scratch.rollouts_in(&[S::Running, S::Completed, S::RollingBack]);
    ids.retain(|id| scratch.rollout(*id).urgency() == Urgency::Emergency);
    let mut blocked: BTreeMap<(BudgetName, String), usize> = BTreeMap::new();
    let mut room = None;
    for id in &ids {
        for host in scratch.attention(*id).iter().copied() {
            free_host(scratch, *id, host);
            if permits::asks(scratch, *id, host) && !scratch.has_permit(host) {
                let room = room.get_or_insert_with(|| {
                    let in_flight: Vec<&HostId> = assign::in_flight(scratch).collect();
                    Room::new(scratch.input, in_flight.into_iter())
                });
                if let Some(Hold::DisruptionBudget { budget, domain, .. }) = room.hold(host) {
                    *blocked.entry((budget, domain)).or_insert(0) += 1;
                }
            }
        }
    }
    let Some(room) = room else { return };
    for ((budget, domain), wanted) in blocked {
        make_room(scratch, room.permitted(&budget, &domain), wanted);
    }
}

/// Takes the host from a rollout that is less urgent and has given it a permit.
fn free_host(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId) {
    let Some(owner) = scratch
        .assignment(host)
        .map(|assignment| assignment.rollout)
    else {
        return;
    };
    if owner != id && assign::is_wanted(scratch, id, host) {
        recall(scratch, owner, host);
    }
}

/// Takes permits back from so many of these hosts, those of the least urgent rollouts first. Those that were told
/// already and have not answered count.
fn make_room(scratch: &mut Scratch<'_>, permitted: Vec<&HostId>, wanted: usize) {
    let mut can_yield: Vec<(Urgency, RolloutId, &HostId)> = Vec::new();
    let mut yielding = 0;
    for host in permitted {
        match scratch
            .assignment(host)
            .map(|assignment| assignment.rollout)
        {
            None => yielding += 1,
            Some(owner) if !scratch.has_permit(host) => {
                // It works for another rollout now than the one whose permit it still has to give back.
                yielding += usize::from(
                    scratch
                        .member(owner, host)
                        .is_none_or(|m| m.grant.is_none()),
                );
            }
            Some(owner) => can_yield.push((urgency(scratch, owner), owner, host)),
        }
    }
    can_yield.sort();
    for (_, owner, host) in can_yield.into_iter().take(wanted.saturating_sub(yielding)) {
        recall(scratch, owner, host);
    }
}

fn urgency(scratch: &Scratch<'_>, id: RolloutId) -> Urgency {
    if scratch.input.rollouts.contains_key(&id) {
        scratch.rollout(id).urgency()
    } else {
        Urgency::Emergency
    }
}

/// Takes a permit that is not used, and the work with it; the try does not count. Not on the way back: a host that goes
/// back mends something.
fn recall(scratch: &mut Scratch<'_>, owner: RolloutId, host: &HostId) {
    let (Some(member), Some(view)) = (scratch.member(owner, host), scratch.host(host)) else {
        return;
    };
    let is_unused = member.grant.is_some()
        && scratch.has_permit(host)
        && member.state == MemberState::Activating
        && member.roll_back.is_none()
        && view.link.is_up()
        && observe::waits_for_permit(member, view)
        && !fence::is_active_for(member, view);
    if !is_unused || urgency(scratch, owner) == Urgency::Emergency {
        return;
    }
    let member = member.clone();
    scratch.release_host(owner, host);
    assign::put_back(
        scratch,
        owner,
        member,
        "a permit is taken back for an emergency",
    );
}
