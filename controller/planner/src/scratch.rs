//! The planner's private copy of what it changes: an overlay over the input, record by record.
//!
//! Steps read through it and write to it; the input is never touched and never cloned whole. Every change goes through
//! [`Scratch::set_member`], [`Scratch::set_rollout`] or [`Scratch::set_desired`], so that counts, events and the
//! number of changes always agree with the records.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use comber_model::event::{Event, EventKind};
use comber_model::release::Release;
use comber_model::rollout::{Member, Rollout, RolloutState, Urgency};
use comber_model::{Assignment, Desired, Generation, HostId, RolloutId};
use jiff::Timestamp;

use crate::overlay::Overlay;
use crate::tally::Tally;
use crate::windows::{Leave, Leaves};
use crate::{HostView, Plan, PlanInput, attention};

/// What the steps work on.
pub(crate) struct Scratch<'a> {
    /// What was before.
    pub(crate) input: &'a PlanInput,
    /// The time for which is planned.
    pub(crate) now: Timestamp,
    /// The generation of the plan in the making: what every assignment in it carries.
    pub(crate) generation: Generation,
    /// Records changed so far, for the step reports.
    pub(crate) changes: u32,
    rollouts: BTreeMap<RolloutId, Rollout>,
    members: BTreeMap<RolloutId, Overlay<'a, Member>>,
    /// The input's members and hosts in `attention`, found quickly.
    before: BTreeMap<RolloutId, Overlay<'a, &'a Member>>,
    hosts: Overlay<'a, &'a HostView>,
    /// What `attention` gave last, and after how many changes.
    looked_at: RefCell<BTreeMap<RolloutId, (u32, Attention<'a>)>>,
    /// Members to look at beside those of the input's `attention`.
    extra: BTreeMap<RolloutId, BTreeSet<&'a HostId>>,
    tallies: BTreeMap<RolloutId, Tally>,
    desired: Overlay<'a, Desired>,
    events: Vec<Event>,
    wake: Option<Timestamp>,
    leaves: Leaves,
}

/// Hosts to look at, by name.
pub(crate) type Attention<'a> = Rc<[&'a HostId]>;

impl<'a> Scratch<'a> {
    pub(crate) fn new(input: &'a PlanInput, now: Timestamp) -> Self {
        let mut hosts = Overlay::default();
        let mut before = BTreeMap::new();
        for (id, view) in &input.rollouts {
            let members: &mut Overlay<'a, &'a Member> = before.entry(*id).or_default();
            for host in &view.attention {
                if let Some(member) = view.members.get(host) {
                    members.insert(host, member);
                }
                if !hosts.contains(host)
                    && let Some(view) = input.hosts.get(host)
                {
                    hosts.insert(host, view);
                }
            }
        }
        Self {
            before,
            hosts,
            looked_at: RefCell::default(),
            input,
            now,
            generation: input.generation.next(),
            changes: 0,
            rollouts: BTreeMap::new(),
            members: BTreeMap::new(),
            extra: BTreeMap::new(),
            tallies: BTreeMap::new(),
            desired: Overlay::default(),
            events: Vec::new(),
            wake: None,
            leaves: Leaves::default(),
        }
    }

    /// Whether the member's host may begin to activate now, as far as time goes.
    pub(crate) fn leave(&self, id: RolloutId, member: &Member, view: &HostView) -> Leave {
        let goes_back = member.roll_back.is_some();
        let spec = &self.rollout(id).spec;
        let freezes = &self.input.freezes;
        self.leaves
            .of(freezes, (id, spec), (&view.host, goes_back), self.now)
    }

    /// The rollouts in one of `states`, by number.
    pub(crate) fn rollouts_in(&self, states: &[RolloutState]) -> Vec<RolloutId> {
        let ids = self.input.rollouts.keys().copied();
        ids.filter(|id| states.contains(&self.state(*id))).collect()
    }

    /// These rollouts, most urgent first, then in order of creation.
    pub(crate) fn by_urgency(&self, mut ids: Vec<RolloutId>) -> Vec<RolloutId> {
        ids.sort_by_key(|id| {
            let rollout = self.rollout(*id);
            // Past their due date, the one that was due first goes first: only those can be before it, and they end.
            let due = rollout
                .due_at()
                .filter(|_| rollout.urgency() == Urgency::Overdue);
            (std::cmp::Reverse(rollout.urgency()), due, *id)
        });
        ids
    }

    /// A rollout's record as planned so far. The number must come from the input.
    pub(crate) fn rollout(&self, id: RolloutId) -> &Rollout {
        self.rollouts
            .get(&id)
            .unwrap_or_else(|| &self.input.rollouts[&id].rollout)
    }

    pub(crate) fn state(&self, id: RolloutId) -> RolloutState {
        self.rollout(id).state
    }

    pub(crate) fn release(&self, id: RolloutId) -> Option<&'a Release> {
        self.input
            .releases
            .get(&self.rollout(id).spec.release)
            .map(AsRef::as_ref)
    }

    /// A rollout's counts as planned so far.
    pub(crate) fn tally(&self, id: RolloutId) -> &Tally {
        self.tallies
            .get(&id)
            .unwrap_or_else(|| &self.input.rollouts[&id].tally)
    }

    pub(crate) fn member(&self, id: RolloutId, host: &HostId) -> Option<&Member> {
        let changed = self.members.get(&id).and_then(|members| members.get(host));
        changed.or_else(|| self.member_before(id, host))
    }

    fn member_before(&self, id: RolloutId, host: &HostId) -> Option<&'a Member> {
        let quick = self.before.get(&id).and_then(|members| members.get(host));
        let slow = || self.input.rollouts.get(&id)?.members.get(host);
        quick.copied().or_else(slow)
    }

    /// Every member as planned so far. Costs a look at each: for what happens once per wave or rollout.
    pub(crate) fn members<'s>(
        &'s self,
        id: RolloutId,
    ) -> impl Iterator<Item = (&'a HostId, &'s Member)> {
        let changed = self.members.get(&id);
        let input: &'a PlanInput = self.input;
        let old = input.rollouts[&id].members.iter();
        old.filter(move |(host, _)| !changed.is_some_and(|c| c.contains(host)))
            .map(|(host, member)| -> (&'a HostId, &'s Member) { (host, member) })
            .chain(changed.map(Overlay::sorted).unwrap_or_default())
    }

    /// Members that time or their host's status alone can change, by name.
    pub(crate) fn attention(&self, id: RolloutId) -> Attention<'a> {
        let mut looked_at = self.looked_at.borrow_mut();
        match looked_at.get(&id) {
            Some((changes, hosts)) if *changes == self.changes => Rc::clone(hosts),
            Some(_) | None => {
                let hosts: Attention<'a> = self.find_attention(id).into();
                looked_at.insert(id, (self.changes, Rc::clone(&hosts)));
                hosts
            }
        }
    }

    fn find_attention(&self, id: RolloutId) -> Vec<&'a HostId> {
        let rollout = self.rollout(id);
        let input: &'a PlanInput = self.input;
        let base = &input.rollouts[&id].attention;
        let touched = self.members.get(&id);
        let is_as_before = |host: &HostId| {
            !self.rollouts.contains_key(&id) && touched.is_none_or(|t| !t.contains(host))
        };
        let needed = |host: &&'a HostId| {
            is_as_before(host)
                || self
                    .member(id, host)
                    .is_some_and(|m| attention::is_needed(rollout, m))
        };
        match self.extra.get(&id) {
            None => base.iter().filter(needed).collect(),
            Some(extra) => {
                let both = base.iter().chain(extra.iter().copied());
                let mut all: Vec<&HostId> = both.filter(needed).collect();
                // Two sorted runs: merged in one pass.
                all.sort();
                all.dedup();
                all
            }
        }
    }

    /// Rollouts of which this plan has added or changed members so far.
    pub(crate) fn touched_rollouts(&self) -> Vec<RolloutId> {
        self.members.keys().copied().collect()
    }

    /// Members added or changed by this plan so far.
    pub(crate) fn touched(&self, id: RolloutId) -> Vec<&'a HostId> {
        self.members
            .get(&id)
            .into_iter()
            .flat_map(Overlay::sorted)
            .map(|(host, _)| host)
            .collect()
    }

    pub(crate) fn host(&self, host: &HostId) -> Option<&'a HostView> {
        let quick = self.hosts.get(host).copied();
        quick.or_else(|| self.input.hosts.get(host))
    }

    /// What the host shall run as planned so far; absent for a host that is unknown.
    pub(crate) fn desired_now(&self, host: &HostId) -> Option<&Desired> {
        let old = || self.host(host).map(|view| &view.desired);
        self.desired.get(host).or_else(old)
    }

    pub(crate) fn desired(&self, host: &HostId) -> Desired {
        self.desired_now(host).cloned().unwrap_or_default()
    }

    /// True where the host may activate, as planned so far.
    pub(crate) fn has_permit(&self, host: &HostId) -> bool {
        self.desired_now(host)
            .is_some_and(|desired| desired.grant.is_some())
    }

    /// The host's assignment on behalf of this rollout.
    pub(crate) fn own_assignment(&self, id: RolloutId, host: &HostId) -> Option<&Assignment> {
        self.assignment(host)
            .filter(|assignment| assignment.rollout == id)
    }

    /// The host's assignment, of whatever rollout.
    pub(crate) fn assignment(&self, host: &HostId) -> Option<&Assignment> {
        self.desired_now(host)?.assignment.as_ref()
    }

    /// Asks for a plan at that time. Past times ask for nothing: their consequences are in this plan.
    pub(crate) fn wake_at(&mut self, at: Timestamp) {
        if at > self.now {
            self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        }
    }

    /// Asks for a plan at once, where this one could not finish.
    pub(crate) fn wake_soon(&mut self) {
        self.wake = Some(self.now);
    }

    /// Forgets all wakes: the steps ask again in the round that is last.
    pub(crate) fn begin_round(&mut self) {
        self.wake = None;
    }

    /// Changes a member, or adds one. Where its outcome changes, an event says so with the text.
    pub(crate) fn set_member(
        &mut self,
        id: RolloutId,
        member: Member,
        text: impl FnOnce(&Member) -> String,
    ) {
        let Some((key, _)) = self.input.hosts.get_key_value(&member.host) else {
            return;
        };
        let old = self.member(id, key);
        if old == Some(&member) {
            return;
        }
        let old_outcome = old.map(Member::outcome);
        let counted = self.tallies.remove(&id);
        let mut tally = counted.unwrap_or_else(|| self.input.rollouts[&id].tally.clone());
        tally.add(&member);
        if let Some(old) = self.member(id, key) {
            tally.remove(old);
        }
        self.tallies.insert(id, tally);
        self.changes += 1;
        self.extra.entry(id).or_default().insert(key);
        let outcome = member.outcome();
        if let Some(before) = old_outcome
            && before != outcome
        {
            let text = text(&member);
            let mut event = self.event(id, EventKind::OutcomeChanged, text);
            event.wave = Some(member.wave);
            event.host = Some(member.host.clone());
            event.change = Some((before, outcome));
            self.events.push(event);
        }
        self.members.entry(id).or_default().insert(key, member);
    }

    /// Changes a rollout's record and says what happened.
    pub(crate) fn set_rollout(&mut self, rollout: Rollout) {
        let id = rollout.id;
        let old = self.rollout(id);
        if *old == rollout {
            return;
        }
        let opened = |record: &Rollout| {
            record
                .waves
                .iter()
                .filter(|w| w.opened_at.is_some())
                .count()
        };
        let widened = opened(old) != opened(&rollout) || old.state != rollout.state;
        self.changes += 1;
        self.rollouts.insert(id, rollout);
        if widened {
            let rollout = self.rollout(id);
            let needed = self
                .members(id)
                .filter(|(_, m)| attention::is_needed(rollout, m));
            let hosts: Vec<&HostId> = needed.map(|(host, _)| host).collect();
            self.extra.entry(id).or_default().extend(hosts);
        }
    }

    pub(crate) fn set_desired(&mut self, host: &HostId, desired: Desired) {
        let Some((key, view)) = self.input.hosts.get_key_value(host) else {
            return;
        };
        if *self.desired.get(host).unwrap_or(&view.desired) != desired {
            self.changes += 1;
            self.desired.insert(key, desired);
        }
    }

    /// Gives the host new work, or none, under this plan's generation. A permit never outlives its assignment.
    pub(crate) fn assign(&mut self, host: &HostId, assignment: Option<Assignment>) {
        let desired = Desired {
            generation: self.generation,
            assignment,
            grant: None,
            acknowledged: self.desired(host).acknowledged,
        };
        self.set_desired(host, desired);
    }

    /// Takes the rollout's work away from the host, where it has any.
    pub(crate) fn release_host(&mut self, id: RolloutId, host: &HostId) {
        if self.own_assignment(id, host).is_some() {
            self.assign(host, None);
        }
    }

    /// Notes what happened to a rollout.
    pub(crate) fn tell(&mut self, id: RolloutId, kind: EventKind, text: String) {
        let event = self.event(id, kind, text);
        self.events.push(event);
    }

    /// True where this plan has said so of the rollout already.
    pub(crate) fn has_told(&self, id: RolloutId, kind: EventKind) -> bool {
        self.events
            .iter()
            .any(|event| event.rollout == Some(id) && event.kind == kind)
    }

    /// Notes what happened to a wave of a rollout.
    pub(crate) fn tell_of_wave(
        &mut self,
        id: RolloutId,
        wave: usize,
        kind: EventKind,
        text: String,
    ) {
        let mut event = self.event(id, kind, text);
        event.wave = u16::try_from(wave).ok();
        self.events.push(event);
    }

    /// Notes what happened to a member, where its outcome stays.
    pub(crate) fn tell_of_member(
        &mut self,
        id: RolloutId,
        member: &Member,
        kind: EventKind,
        text: String,
    ) {
        let mut event = self.event(id, kind, text);
        event.wave = Some(member.wave);
        event.host = Some(member.host.clone());
        self.events.push(event);
    }

    fn event(&self, id: RolloutId, kind: EventKind, text: String) -> Event {
        Event {
            at: self.now,
            kind,
            rollout: Some(id),
            wave: None,
            host: None,
            actor: None,
            text,
            change: None,
            outcomes: Some(self.tally(id).outcomes()),
        }
    }

    /// The plan: what differs from the input.
    pub(crate) fn into_plan(self) -> Plan {
        let input = self.input;
        let mut plan = Plan::empty(input.generation);
        let changed = |rollout: &Rollout| input.rollouts[&rollout.id].rollout != *rollout;
        plan.rollouts = self.rollouts.into_values().filter(changed).collect();
        for (id, members) in self.members {
            let old = &input.rollouts[&id].members;
            let changed = members
                .into_sorted()
                .into_iter()
                .map(|(_, member)| member)
                .filter(|m| old.get(&m.host) != Some(m));
            plan.members.extend(changed.map(|member| (id, member)));
        }
        for (host, desired) in self.desired.into_sorted() {
            if input.hosts[host].desired != desired {
                plan.desired.push((host.clone(), desired));
            }
        }
        plan.events = self.events;
        plan.next_wake = self.wake;
        plan
    }
}
