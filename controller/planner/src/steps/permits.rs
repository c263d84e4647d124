//! Gives permits to hosts that ask, within their windows and what may be down at once: in
//! their wave, in their failure domain of the rollout, and by every disruption budget over all rollouts; and takes permits back where a
//! rollout is held or a freeze has begun.
//!
//! Only a host that is connected and asks gets one, and only for the request it made: a permit lying about unused
//! would count as a host that is down.

use std::collections::BTreeMap;
use std::time::Duration;

use comber_model::rollout::{AttemptClock, Member, MemberState, RollBack, RolloutState};
use comber_model::{Grant, HostId, Nonce, RolloutId};
use jiff::Timestamp;

use super::assign;
use super::observe::{is_assigned, waits_for_permit};
use crate::books::Room;
use crate::scratch::Scratch;
use crate::spread::Spreads;
use crate::windows::Leave;
use crate::{HostView, fence, gate, time};

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    let ids = scratch.rollouts_in(&RolloutState::ALL);
    for id in &ids {
        let hosts = scratch.attention(*id);
        withdraw(scratch, *id, &hosts);
    }
    // Counted once for all rollouts, when the first host asks that a budget may hold.
    let mut room = None;
    for id in scratch.by_urgency(ids) {
        let hosts = scratch.attention(id);
        if !hosts.is_empty() {
            give(scratch, id, &hosts, &mut room);
        }
    }
}

/// True where the rollout may let this member activate, forward or back.
fn may_activate(state: RolloutState, member: &Member) -> bool {
    let goes_back = member.roll_back == Some(RollBack::Wanted);
    match state {
        RolloutState::Running | RolloutState::Completed => member.roll_back.is_none(),
        RolloutState::RollingBack => goes_back,
        RolloutState::Draft
        | RolloutState::Paused
        | RolloutState::Halted
        | RolloutState::Aborted => false,
    }
}

fn withdraw(scratch: &mut Scratch<'_>, id: RolloutId, hosts: &[&HostId]) {
    for host in hosts {
        if !scratch.has_permit(host) {
            continue;
        }
        let Some(member) = scratch.member(id, host) else {
            continue;
        };
        let is_open = scratch
            .host(host)
            .is_some_and(|view| matches!(scratch.leave(id, member, view), Leave::Open { .. }));
        let keeps = may_activate(scratch.state(id), member) && member.grant.is_some() && is_open;
        if keeps || scratch.own_assignment(id, host).is_none() {
            continue;
        }
        let mut desired = scratch.desired(host);
        desired.grant = None;
        scratch.set_desired(host, desired);
    }
}

/// A host that asks, in the order in which they are answered: by wave and place.
type Asking<'a> = (u16, u32, &'a HostId, Nonce, Duration);

fn give<'a>(
    scratch: &mut Scratch<'a>,
    id: RolloutId,
    hosts: &[&'a HostId],
    room: &mut Option<Room<'a>>,
) {
    let asking = asking(scratch, id, hosts);
    if asking.is_empty() {
        return;
    }
    let room = room.get_or_insert_with(|| Room::new(scratch.input, assign::in_flight(scratch)));
    let (mut in_flight, mut spreads) = down_by_wave(scratch, id, hosts);
    for (wave, _, host, nonce, life) in asking {
        let down = in_flight.entry(wave).or_insert(0);
        let index = usize::from(wave);
        let counts = scratch.tally(id).wave(index);
        let rollout = scratch.rollout(id);
        let (_, limit) = gate::in_flight_limit(&rollout.spec, index, &counts);
        let (Some(member), Some(view)) = (scratch.member(id, host), scratch.host(host)) else {
            continue;
        };
        let counts_already = fence::is_in_flight(member, view, scratch.now);
        let is_free = || {
            *down < limit
                && spreads.hold(rollout, wave, &view.host).is_none()
                && room.hold(host).is_none()
        };
        if counts_already || is_free() {
            if !counts_already {
                *down += 1;
                spreads.take(rollout, &view.host);
                room.take(host);
            }
            let member = member.clone();
            grant(scratch, id, member, (nonce, life));
        }
    }
}

/// Hosts that ask and may be answered as far as time goes, in their order.
fn asking<'a>(scratch: &mut Scratch<'a>, id: RolloutId, hosts: &[&'a HostId]) -> Vec<Asking<'a>> {
    let mut asking: Vec<Asking<'a>> = Vec::new();
    let mut opens = None;
    for host in hosts {
        let (Some(view), Some(member)) = (scratch.host(host), scratch.member(id, host)) else {
            continue;
        };
        if let Some(nonce) = request(scratch, id, member, view) {
            match scratch.leave(id, member, view) {
                Leave::Open { until } => {
                    let life = life(scratch, id, until);
                    asking.push((member.wave, member.order, *host, nonce, life));
                }
                Leave::Shut(hold) => opens = opens.into_iter().chain(hold.until()).min(),
            }
        }
    }
    if let Some(opens) = opens {
        scratch.wake_at(opens);
    }
    asking.sort();
    asking
}

/// True where the host asks for a permit of this rollout, and time lets it have one.
pub(super) fn asks(scratch: &Scratch<'_>, id: RolloutId, host: &HostId) -> bool {
    let (Some(view), Some(member)) = (scratch.host(host), scratch.member(id, host)) else {
        return false;
    };
    request(scratch, id, member, view).is_some()
        && matches!(scratch.leave(id, member, view), Leave::Open { .. })
}

/// The request of a host that is to be answered.
fn request(
    scratch: &Scratch<'_>,
    id: RolloutId,
    member: &Member,
    view: &HostView,
) -> Option<Nonce> {
    let nonce = view.status.as_ref()?.attempt.as_ref()?.nonce?;
    let may_move = match member.state {
        MemberState::Received | MemberState::Activating => true,
        MemberState::Succeeded { .. } => member.roll_back.is_some(),
        MemberState::Waiting
        | MemberState::Unreached { .. }
        | MemberState::Backoff { .. }
        | MemberState::Failed { .. }
        | MemberState::Excluded { .. } => false,
    };
    let is_answered = member
        .grant
        .is_some_and(|g| g.nonce == nonce && scratch.now < g.dead_at());
    let asks = waits_for_permit(member, view)
        && is_assigned(scratch, id, member)
        && view.host.retired_at.is_none();
    let allowed = may_move && may_activate(scratch.state(id), member);
    (asks && allowed && !is_answered).then_some(nonce)
}

/// Hosts of the rollout that are or may be down, by wave and by failure domain.
fn down_by_wave(
    scratch: &Scratch<'_>,
    id: RolloutId,
    hosts: &[&HostId],
) -> (BTreeMap<u16, usize>, Spreads) {
    let (mut counts, mut spreads) = (BTreeMap::new(), Spreads::default());
    for host in hosts {
        if let (Some(view), Some(member)) = (scratch.host(host), scratch.member(id, host))
            && fence::is_in_flight(member, view, scratch.now)
        {
            *counts.entry(member.wave).or_insert(0) += 1;
            spreads.take(scratch.rollout(id), &view.host);
        }
    }
    (counts, spreads)
}

/// How long a permit may live: never beyond what is open, in whole seconds, so that it is stored as it is.
fn life(scratch: &Scratch<'_>, id: RolloutId, until: Timestamp) -> Duration {
    let whole = scratch.rollout(id).spec.pace.permit;
    let left = time::between(scratch.now, until);
    if left < whole {
        Duration::from_secs(left.as_secs())
    } else {
        whole
    }
}

fn grant(
    scratch: &mut Scratch<'_>,
    id: RolloutId,
    mut member: Member,
    (nonce, ttl): (Nonce, Duration),
) {
    let grant = Grant {
        nonce,
        granted_at: scratch.now,
        ttl,
    };
    scratch.wake_at(grant.dead_at());
    member.grant = Some(grant);
    if let Some(AttemptClock::Stopped { left }) = member.clock {
        member.clock = Some(AttemptClock::Running {
            deadline: time::after(scratch.now, left),
        });
    }
    if member.state == MemberState::Received {
        member.state = MemberState::Activating;
        member.since = scratch.now;
    }
    let mut desired = scratch.desired(&member.host);
    desired.grant = Some(grant);
    scratch.set_desired(&member.host, desired);
    scratch.set_member(id, member, |_| String::new());
}
