//! Deciding a group of transactions one after the other, before any of them is durable.
//!
//! Reads the tables, changes nothing but the leases and itself. The invariant: each transaction sees exactly the
//! effects of those before it, and the group's frame, changes and hash describe the same end.

use std::collections::HashMap;

use super::contract::{Compare, Event, Item, Key, LeaseId, Op, Outcome, Revision, Txn, Versioned};
use super::error::{CommitError, Fatal};
use super::export::after;
use super::lease::Leases;
use super::record::{self, State};
use super::segment::Frame;
use super::tables::Tables;
use super::watch::Change;

/// A group in the making.
pub(super) struct Group<'a> {
    tables: &'a Tables,
    base: Revision,
    pub(super) state: State,
    /// What the group leaves of each key it touched; `None` is a removed record.
    overlay: HashMap<Key, Option<Versioned>>,
    txns: Vec<Vec<Op>>,
    pub(super) changes: Vec<Change>,
    pub(super) bytes: usize,
}

impl<'a> Group<'a> {
    pub(super) fn new(tables: &'a Tables, state: State) -> Self {
        Self {
            tables,
            base: state.revision,
            state,
            overlay: HashMap::new(),
            txns: Vec::new(),
            changes: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.txns.is_empty()
    }

    /// Decides one transaction. The outer error stops the store, the inner one is the submitter's.
    pub(super) fn decide(
        &mut self,
        txn: Txn,
        leases: &mut Leases,
    ) -> Result<Result<Outcome, CommitError>, Fatal> {
        for compare in &txn.compares {
            if !self.holds(compare)? {
                return Ok(Ok(Outcome::Conflict));
            }
        }
        if let Some(id) = unknown_lease(&txn, leases) {
            return Ok(Err(CommitError::LeaseUnknown { id }));
        }
        self.apply(txn.ops, leases)?;
        Ok(Ok(Outcome::Committed(self.state.revision)))
    }

    /// Applies operations at the next revision, if they change anything at all.
    pub(super) fn apply(&mut self, ops: Vec<Op>, leases: &mut Leases) -> Result<(), Fatal> {
        let revision = self.state.revision.next();
        let mut kept = Vec::with_capacity(ops.len());
        let mut events = Vec::with_capacity(ops.len());
        for op in ops {
            let old = self.get(op.key())?;
            if old.is_none() && matches!(op, Op::Delete { .. }) {
                continue;
            }
            self.bytes += op.key().len() + size(&op);
            let (key, new) = after(op.clone(), revision);
            self.replace(&key, old, new.clone(), leases);
            events.push(match new {
                Some(record) => Event::Put(Item { key, record }),
                None => Event::Delete { key, revision },
            });
            kept.push(op);
        }
        if !kept.is_empty() {
            self.state.revision = revision;
            self.txns.push(kept);
            self.changes.push(Change { revision, events });
        }
        Ok(())
    }

    fn replace(
        &mut self,
        key: &Key,
        old: Option<Versioned>,
        new: Option<Versioned>,
        leases: &mut Leases,
    ) {
        if let Some(old) = &old {
            self.state.set.remove(record::hash(key, old));
        }
        if let Some(new) = &new {
            self.state.set.add(record::hash(key, new));
        }
        leases.moved(
            key,
            old.and_then(|r| r.lease),
            new.as_ref().and_then(|r| r.lease),
        );
        self.overlay.insert(key.clone(), new);
    }

    fn holds(&self, compare: &Compare) -> Result<bool, Fatal> {
        Ok(match compare {
            Compare::Absent(key) => self.get(key)?.is_none(),
            Compare::Exists(key) => self.get(key)?.is_some(),
            Compare::ModRev(key, revision) => self
                .get(key)?
                .is_some_and(|found| found.mod_rev == *revision),
        })
    }

    fn get(&self, key: &Key) -> Result<Option<Versioned>, Fatal> {
        match self.overlay.get(key) {
            Some(found) => Ok(found.clone()),
            None => self.tables.get(key),
        }
    }

    /// What the journal is to hold of this group.
    pub(super) fn take_frame(&mut self) -> Frame {
        let txns = std::mem::take(&mut self.txns);
        Frame {
            first: self.base.next(),
            txns,
            set: self.state.set,
        }
    }

    /// What the tables are to hold of this group.
    pub(super) fn take_overlay(&mut self) -> HashMap<Key, Option<Versioned>> {
        std::mem::take(&mut self.overlay)
    }
}

fn unknown_lease(txn: &Txn, leases: &Leases) -> Option<LeaseId> {
    txn.ops.iter().find_map(|op| match op {
        Op::Put {
            lease: Some(id), ..
        } if !leases.is_held(*id) => Some(*id),
        Op::Put { .. } | Op::Delete { .. } => None,
    })
}

fn size(op: &Op) -> usize {
    match op {
        Op::Put { value, .. } => value.len(),
        Op::Delete { .. } => 0,
    }
}
