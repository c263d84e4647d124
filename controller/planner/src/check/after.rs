//! What a plan leaves behind: the input's records, with those of the plan in their place.

use std::collections::BTreeMap;

use comber_model::rollout::{Member, Outcomes, Rollout};
use comber_model::{Desired, HostId, RolloutId};
use jiff::Timestamp;

use crate::{HostView, Plan, PlanInput};

/// The state after a plan, and the one before it.
pub(super) struct After<'a> {
    pub(super) input: &'a PlanInput,
    pub(super) plan: &'a Plan,
    pub(super) now: Timestamp,
    rollouts: BTreeMap<RolloutId, &'a Rollout>,
    members: BTreeMap<(RolloutId, &'a HostId), &'a Member>,
    desired: BTreeMap<&'a HostId, &'a Desired>,
}

impl<'a> After<'a> {
    pub(super) fn new(input: &'a PlanInput, plan: &'a Plan, now: Timestamp) -> Self {
        Self {
            input,
            plan,
            now,
            rollouts: plan
                .rollouts
                .iter()
                .map(|rollout| (rollout.id, rollout))
                .collect(),
            members: plan
                .members
                .iter()
                .map(|(id, m)| ((*id, &m.host), m))
                .collect(),
            desired: plan
                .desired
                .iter()
                .map(|(host, desired)| (host, desired))
                .collect(),
        }
    }

    pub(super) fn rollout(&self, id: RolloutId) -> Option<&'a Rollout> {
        let changed = self.rollouts.get(&id).copied();
        changed.or_else(|| Some(&self.input.rollouts.get(&id)?.rollout))
    }

    pub(super) fn old_member(&self, id: RolloutId, host: &HostId) -> Option<&'a Member> {
        self.input.rollouts.get(&id)?.members.get(host)
    }

    pub(super) fn member(&self, id: RolloutId, host: &HostId) -> Option<&'a Member> {
        let changed = self.members.get(&(id, host)).copied();
        changed.or_else(|| self.old_member(id, host))
    }

    /// Every member of a rollout afterwards.
    pub(super) fn members(&self, id: RolloutId) -> Vec<&'a Member> {
        let old = self
            .input
            .rollouts
            .get(&id)
            .into_iter()
            .flat_map(|view| view.members.values());
        let kept = old.filter(|member| !self.members.contains_key(&(id, &member.host)));
        let changed = self
            .plan
            .members
            .iter()
            .filter(|(other, _)| *other == id)
            .map(|(_, m)| m);
        kept.chain(changed).collect()
    }

    /// Members that are in motion or were changed by the plan.
    pub(super) fn moving(&self, id: RolloutId) -> Vec<&'a Member> {
        let view = self.input.rollouts.get(&id);
        let attention = view.into_iter().flat_map(|view| {
            let hosts = view.attention.iter();
            hosts.filter_map(|host| view.members.get(host))
        });
        let kept = attention.filter(|member| !self.members.contains_key(&(id, &member.host)));
        kept.chain(self.changed(id)).collect()
    }

    fn changed(&self, id: RolloutId) -> impl Iterator<Item = &'a Member> {
        let changed = self.plan.members.iter();
        changed
            .filter(move |(other, _)| *other == id)
            .map(|(_, member)| member)
    }

    /// Outcomes afterwards, of one wave or of all: what is kept of the rollout, and what the plan changes of that.
    pub(super) fn outcomes(&self, id: RolloutId, wave: Option<u16>) -> Outcomes {
        let is_meant = |member: &&Member| wave.is_none_or(|wave| member.wave == wave);
        let view = self.input.rollouts.get(&id);
        let mut outcomes = match (view, wave) {
            (None, _) => Outcomes::default(),
            (Some(view), None) => view.tally.outcomes(),
            (Some(view), Some(wave)) => view.tally.wave(usize::from(wave)).outcomes,
        };
        for member in self.changed(id) {
            let old = self.old_member(id, &member.host);
            if is_meant(&member) {
                outcomes.add(member.outcome());
            }
            if let Some(old) = old.filter(is_meant) {
                outcomes.remove(old.outcome());
            }
        }
        outcomes
    }

    pub(super) fn host(&self, host: &HostId) -> Option<&'a HostView> {
        self.input.hosts.get(host)
    }

    pub(super) fn desired(&self, host: &'a HostId, view: &'a HostView) -> &'a Desired {
        self.desired.get(host).copied().unwrap_or(&view.desired)
    }
}

/// True while the host, as last heard, works on this generation beyond the point of return.
pub(super) fn is_active(view: &HostView, member: &Member) -> bool {
    view.status.as_ref().is_some_and(|status| {
        status.state.is_active()
            && status.attempt.as_ref().map(|attempt| attempt.generation) == Some(member.generation)
    })
}

/// True where the host is down for this member, or may be. A retired host is no part of the fleet that may be down.
pub(super) fn may_be_down(view: &HostView, member: &Member, now: Timestamp) -> bool {
    if view.host.retired_at.is_some() {
        return false;
    }
    let permitted = match member.grant {
        Some(grant) if now < grant.dead_at() => true,
        Some(_) => !view.link.is_up(),
        None => false,
    };
    permitted || is_active(view, member)
}
