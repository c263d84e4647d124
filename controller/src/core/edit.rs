//! One edit of the world: memory and the records to write change together, here and nowhere else.
//!
//! An edit looks at everything first and refuses before it changes anything.

use std::sync::Arc;

use comber_model::calendar::Freeze;
use comber_model::disruption::{DisruptionBudget, Lock, LockId};
use comber_model::event::{Event, EventKind};
use comber_model::release::Release;
use comber_model::rollout::Rollout;
use comber_model::{BudgetName, FreezeName, Host, HostId, HostStatus};
use comber_planner::HostView;
use jiff::Timestamp;

use super::changes::{Changes, delete, put};
use super::revocations::Revocation;
use super::tokens::Token;
use super::{World, records};
use crate::store::Op;

/// Most events kept; older ones are removed.
pub(crate) const EVENTS_KEPT: u64 = 200_000;
/// Events removed at once.
const EVENTS_CUT: u64 = 90;
/// Revocations forgotten at once: they stand in one group with the change that they come with.
const REVOCATIONS_CUT: usize = 20;

/// The world in the hands of one edit, with the time and what will be written.
pub(crate) struct Edit<'a> {
    /// What is known.
    pub(crate) world: &'a mut World,
    /// What is to be written.
    pub(crate) changes: &'a mut Changes,
    /// The time by the steady clock.
    pub(crate) now: Timestamp,
    /// The time by the wall clock, by which the publisher's metadata ends.
    pub(crate) wall: Timestamp,
    /// Set where a plan should follow.
    pub(crate) plan: bool,
    /// Set where somebody is let in no more: open connections are looked at again.
    pub(crate) barred: bool,
}

impl Edit<'_> {
    /// A person's event, ready for its details.
    pub(crate) fn event_by(&self, kind: EventKind, actor: &str, text: impl Into<String>) -> Event {
        Event {
            at: self.now,
            kind,
            rollout: None,
            wave: None,
            host: None,
            actor: Some(actor.to_owned()),
            text: text.into(),
            change: None,
            outcomes: None,
        }
    }

    /// Numbers an event and gives its record, to stand in the group of the change that it tells of.
    pub(crate) fn event(&mut self, event: &Event) -> Op {
        let number = self.world.meta.next_event;
        self.world.meta.next_event += 1;
        put(records::event_key(number), event)
    }

    /// Replaces a host's record, keeps the rest of its view, and has selectors look at it again.
    pub(crate) fn put_host(&mut self, host: Host, events: Vec<Op>) {
        let id = host.id.clone();
        let mut group = vec![put(records::host_key(records::HOSTS, &id), &host)];
        group.extend(events);
        self.changes.group(group);
        let link = comber_model::Link::Down { since: self.now };
        let hosts = &mut self.world.input.hosts;
        if let Some(mut view) = hosts.get_mut(&id) {
            view.host = host;
        } else {
            hosts.insert(id.clone(), HostView::new(host, link));
        }
        self.world.input.changed.insert(id);
        self.plan = true;
    }

    /// Replaces what a host last said.
    pub(crate) fn put_status(&mut self, host: &HostId, status: HostStatus) {
        let key = records::host_key(records::STATUS, host);
        self.changes.group(vec![put(key, &status)]);
        if let Some(mut view) = self.world.input.hosts.get_mut(host) {
            view.status = Some(status);
        }
        self.plan = true;
    }

    /// Replaces a rollout's record.
    pub(crate) fn put_rollout(&mut self, rollout: Rollout, events: Vec<Op>) {
        let mut group = vec![put(records::rollout_key(rollout.id), &rollout)];
        group.extend(events);
        self.changes.group(group);
        self.world.input.put_rollout(rollout);
        self.plan = true;
    }

    /// Adds a release.
    pub(crate) fn put_release(&mut self, release: Release, events: Vec<Op>) {
        let mut group = vec![put(records::release_key(&release.id()), &release)];
        group.extend(events);
        self.changes.group(group);
        self.world
            .input
            .releases
            .insert(release.id(), Arc::new(release));
        self.plan = true;
    }

    /// Adds or replaces a freeze.
    pub(crate) fn put_freeze(&mut self, freeze: Freeze, events: Vec<Op>) {
        let mut group = vec![put(records::freeze_key(&freeze.name), &freeze)];
        group.extend(events);
        self.changes.group(group);
        let freezes = &mut self.world.input.freezes;
        freezes.insert(freeze.name.clone(), freeze);
        self.plan = true;
    }

    /// Removes a freeze.
    pub(crate) fn remove_freeze(&mut self, name: &FreezeName, events: Vec<Op>) {
        let mut group = vec![delete(records::freeze_key(name))];
        group.extend(events);
        self.changes.group(group);
        self.world.input.freezes.remove(name);
        self.plan = true;
    }

    /// Sets a budget.
    pub(crate) fn put_budget(&mut self, budget: DisruptionBudget, events: Vec<Op>) {
        let mut group = vec![put(records::budget_key(&budget.name), &budget)];
        group.extend(events);
        self.changes.group(group);
        self.world.input.hosts.put_budget(budget);
        self.plan = true;
    }

    /// Takes a budget away.
    pub(crate) fn remove_budget(&mut self, name: &BudgetName, events: Vec<Op>) {
        let mut group = vec![delete(records::budget_key(name))];
        group.extend(events);
        self.changes.group(group);
        self.world.input.hosts.remove_budget(name);
        self.plan = true;
    }

    /// Keeps a lock.
    pub(crate) fn put_lock(&mut self, lock: Lock, events: Vec<Op>) {
        let mut group = vec![put(records::lock_key(&lock.id), &lock)];
        group.extend(events);
        self.changes.group(group);
        self.world.input.hosts.put_lock(lock);
        self.plan = true;
    }

    /// Gives a lock back.
    pub(crate) fn remove_lock(&mut self, id: &LockId, events: Vec<Op>) {
        let mut group = vec![delete(records::lock_key(id))];
        group.extend(events);
        self.changes.group(group);
        self.world.input.hosts.remove_lock(id);
        self.plan = true;
    }

    /// Adds or replaces a token.
    pub(crate) fn put_token(&mut self, token: Token, events: Vec<Op>) {
        let mut group = vec![put(
            records::token_key(token.record.hash.as_bytes()),
            &token,
        )];
        group.extend(events);
        self.changes.group(group);
        self.world.tokens.insert(token.id(), token);
    }

    /// Removes a token.
    pub(crate) fn remove_token(&mut self, id: &str, events: Vec<Op>) {
        if let Some(token) = self.world.tokens.remove(id) {
            let key = records::token_key(token.record.hash.as_bytes());
            let mut group = vec![delete(key)];
            group.extend(events);
            self.changes.group(group);
        }
    }

    /// Adds a revoked certificate; gives its record, to stand in the group of the change that it comes with.
    pub(crate) fn put_revocation(&mut self, revocation: Revocation) -> Op {
        let op = put(records::revocation_key(&revocation.serial), &revocation);
        let revoked = &mut self.world.revoked;
        revoked.insert(revocation.serial.clone(), revocation);
        op
    }

    /// Forgets revoked certificates that could do nothing any more, a few at a time; gives what removes their records.
    pub(crate) fn forget_needless_revocations(
        &mut self,
        is_needless: impl Fn(&Revocation, Timestamp) -> bool,
    ) -> Vec<Op> {
        let now = self.now;
        let needless = self.world.revoked.values().filter(|r| is_needless(r, now));
        let serials: Vec<String> = needless
            .take(REVOCATIONS_CUT)
            .map(|revocation| revocation.serial.clone())
            .collect();
        serials
            .into_iter()
            .map(|serial| {
                self.world.revoked.remove(&serial);
                delete(records::revocation_key(&serial))
            })
            .collect()
    }

    /// Removes the oldest events where more are kept than should be; a little at a time.
    pub(crate) fn trim_events(&mut self) {
        let meta = &mut self.world.meta;
        if meta.next_event - meta.oldest_event > EVENTS_KEPT + EVENTS_CUT {
            let cut = meta.oldest_event..meta.oldest_event + EVENTS_CUT;
            meta.oldest_event = cut.end;
            self.changes.group(
                cut.map(|number| delete(records::event_key(number)))
                    .collect(),
            );
        }
    }
}
