//! Who takes part: the first selection of a started rollout, and afterwards the hosts that changed.
//!
//! Only hosts named in the input's `changed` are matched against selectors again, and only once per plan. A host that
//! has confirmed receipt stays a member whatever its labels become: its work is under way.

use comber_model::event::EventKind;
use comber_model::rollout::{
    ExcludedReason, Member, MemberState, RollBack, RolloutState, WaveProgress,
};
use comber_model::{Generation, HostId, RolloutId};

use crate::cover;
use crate::scratch::Scratch;
use crate::select::{self, Judgement, Selectors};
use crate::{gate, order};

pub(crate) fn run(scratch: &mut Scratch<'_>) {
    let changed: Vec<&HostId> = scratch.input.changed.iter().collect();
    for id in scratch.rollouts_in(&RolloutState::ALL) {
        let state = scratch.state(id);
        if scratch.rollout(id).waves.is_empty() {
            let starts_at = scratch.rollout(id).spec.starts_at();
            let is_time = starts_at.is_none_or(|at| at <= scratch.now);
            if state == RolloutState::Running
                && is_time
                && order::waits_for(scratch.input, scratch.rollout(id)).is_none()
            {
                select_first(scratch, id);
            }
        } else if !changed.is_empty() {
            match_changed(scratch, id, &changed);
        }
    }
}

fn select_first(scratch: &mut Scratch<'_>, id: RolloutId) {
    let mut rollout = scratch.rollout(id).clone();
    let Some(release) = scratch.release(id) else {
        return;
    };
    let selection = select::select(scratch.input, id, &rollout.spec, release);
    rollout.cover = selection.cover;
    rollout.waves = vec![WaveProgress::default(); rollout.spec.waves.len()];
    scratch.set_rollout(rollout);
    for (wave, hosts) in selection.waves.iter().enumerate() {
        for (order, host) in hosts.iter().enumerate() {
            let place = Place::new(wave, order);
            let mut member = place.member(scratch, host, MemberState::Waiting);
            if let Some(environments) = selection.environments.get(*host) {
                member.environments.clone_from(environments);
            }
            scratch.set_member(id, member, |_| String::new());
        }
    }
    for (order, host) in selection.not_applicable.iter().enumerate() {
        let reason = ExcludedReason::NotApplicable;
        let place = Place::new(0, order);
        let member = place.member(scratch, host, MemberState::Excluded { reason });
        scratch.set_member(id, member, |_| String::new());
    }
}

fn match_changed(scratch: &mut Scratch<'_>, id: RolloutId, changed: &[&HostId]) {
    let Some(release) = scratch.release(id) else {
        return;
    };
    let view = &scratch.input.rollouts[&id];
    let parse = || Selectors::of_hosts(&view.rollout.spec, release);
    let selectors = view.selectors.get_or_init(parse);
    let mut last: Option<Place> = None;
    for host in changed {
        let Some(view) = scratch.host(host) else {
            continue;
        };
        let member = scratch.member(id, host).cloned();
        if view.host.retired_at.is_some() {
            if let Some(member) = member {
                retire(scratch, id, member);
            }
            continue;
        }
        match (selectors.judge(&select::subject(view)), member) {
            (Judgement::Selected, member) => join(scratch, id, host, member, &mut last),
            (Judgement::NotApplicable, None) => {
                join_excluded(scratch, id, host, &mut last);
            }
            (Judgement::NotApplicable, Some(member)) => {
                leave(scratch, id, member, ExcludedReason::NotApplicable);
            }
            (Judgement::NotSelected, Some(member)) => {
                leave(scratch, id, member, ExcludedReason::NoLongerSelected);
            }
            (Judgement::NotSelected, None) => {}
        }
    }
}

/// True while late joiners are taken in.
fn takes_in(scratch: &Scratch<'_>, id: RolloutId) -> bool {
    use RolloutState as S;
    matches!(scratch.state(id), S::Running | S::Paused | S::Completed)
}

/// A host that matches now: into the last open wave, unless it is in already.
fn join(
    scratch: &mut Scratch<'_>,
    id: RolloutId,
    host: &HostId,
    member: Option<Member>,
    last: &mut Option<Place>,
) {
    use ExcludedReason as R;
    if !takes_in(scratch, id) {
        return;
    }
    let Some(member) = member else {
        if let Some(place) = next_place(scratch, id, last) {
            let mut member = place.member(scratch, host, MemberState::Waiting);
            let cover = scratch.rollout(id).cover.as_ref();
            if let Some((cover, view)) = cover.zip(scratch.host(host)) {
                member.environments = cover::of_joiner(cover, view);
            }
            scratch.set_member(id, member, |_| String::new());
            say_joined(scratch, id, host);
        }
        return;
    };
    let MemberState::Excluded { reason } = member.state else {
        return;
    };
    // What was superseded or cancelled was so by a person's decision; the other reasons are no longer true.
    if matches!(reason, R::NotApplicable | R::NoLongerSelected | R::Retired)
        && member.grant.is_none()
        && let Some(place) = next_place(scratch, id, last)
    {
        let again = Member {
            wave: place.wave,
            order: place.order,
            state: MemberState::Waiting,
            since: scratch.now,
            ..member
        };
        scratch.set_member(id, again, |m| format!("{} is selected again", m.host));
    }
}

fn join_excluded(
    scratch: &mut Scratch<'_>,
    id: RolloutId,
    host: &HostId,
    last: &mut Option<Place>,
) {
    if !takes_in(scratch, id) {
        return;
    }
    if let Some(place) = next_place(scratch, id, last) {
        let reason = ExcludedReason::NotApplicable;
        let member = place.member(scratch, host, MemberState::Excluded { reason });
        scratch.set_member(id, member, |_| String::new());
    }
}

/// A host that does not match any more leaves, as long as it has not confirmed receipt.
fn leave(scratch: &mut Scratch<'_>, id: RolloutId, member: Member, reason: ExcludedReason) {
    let before_receipt = matches!(
        member.state,
        MemberState::Waiting | MemberState::Unreached { .. }
    );
    if before_receipt && member.grant.is_none() {
        exclude(scratch, id, member, reason);
    }
}

fn retire(scratch: &mut Scratch<'_>, id: RolloutId, mut member: Member) {
    // What it could still use of a permit is remembered with the member until that is dead.
    scratch.release_host(id, &member.host);
    if member.roll_back == Some(RollBack::Wanted) {
        let why = "the host was retired".to_owned();
        member.roll_back = Some(RollBack::Impossible { why });
        scratch.set_member(id, member.clone(), |_| String::new());
    }
    let is_over = member.is_settled() && !matches!(member.state, MemberState::Unreached { .. });
    if !is_over {
        exclude(scratch, id, member, ExcludedReason::Retired);
    }
}

/// Sets a member aside and takes its work away.
pub(super) fn exclude(
    scratch: &mut Scratch<'_>,
    id: RolloutId,
    mut member: Member,
    reason: ExcludedReason,
) {
    scratch.release_host(id, &member.host);
    member.state = MemberState::Excluded { reason };
    member.since = scratch.now;
    member.clock = None;
    scratch.set_member(id, member, |m| format!("{} is set aside: {reason}", m.host));
}

fn say_joined(scratch: &mut Scratch<'_>, id: RolloutId, host: &HostId) {
    if let Some(member) = scratch.member(id, host).cloned() {
        let wave = scratch.rollout(id).spec.wave_name(usize::from(member.wave));
        let text = format!("{host} joins late, in {wave}");
        scratch.tell_of_member(id, &member, EventKind::OutcomeChanged, text);
    }
}

/// Where a member stands.
#[derive(Clone, Copy)]
struct Place {
    wave: u16,
    order: u32,
}

impl Place {
    fn new(wave: usize, order: usize) -> Self {
        Self {
            wave: u16::try_from(wave).unwrap_or(u16::MAX),
            order: u32::try_from(order).unwrap_or(u32::MAX),
        }
    }

    fn member(self, scratch: &Scratch<'_>, host: &HostId, state: MemberState) -> Member {
        Member {
            host: host.clone(),
            wave: self.wave,
            order: self.order,
            state,
            since: scratch.now,
            attempts: 0,
            generation: Generation::default(),
            before: None,
            clock: None,
            grant: None,
            last_failure: None,
            roll_back: None,
            environments: Vec::new(),
        }
    }
}

/// The place behind the last member of the last open wave, found once per plan and rollout.
fn next_place(scratch: &Scratch<'_>, id: RolloutId, last: &mut Option<Place>) -> Option<Place> {
    let place = if let Some(place) = *last {
        Place {
            order: place.order + 1,
            ..place
        }
    } else {
        // While none is open yet, nothing is proved: a late one stands as far behind as can be.
        let rollout = scratch.rollout(id);
        let last = || u16::try_from(rollout.waves.len().checked_sub(1)?).ok();
        let wave = gate::last_open(rollout).or_else(last)?;
        let members = scratch.members(id).filter(|(_, m)| m.wave == wave);
        let order = members
            .map(|(_, m)| m.order)
            .max()
            .map_or(0, |order| order + 1);
        Place { wave, order }
    };
    *last = Some(place);
    Some(place)
}
