//! What a batch of edits and a plan write, in order, cut into transactions of the store's size.
//!
//! Operations of one group belong together and are never torn apart. Groups stand in the order in which they may become
//! durable: members and desired states before the rollout that says they are there.

use std::collections::BTreeSet;

use serde::Serialize;

use super::audit::{Note, Scribe, Source};
use super::records;
use crate::store::{MAX_OPS, MAX_TXN_BYTES, Op, Txn};

/// Room that is left in each transaction for the compare, the counters and the planner's entry of the audit log.
const RESERVED_OPS: usize = 3;
const RESERVED_BYTES: usize = 8192;
/// Most entries of the audit log that one group brings, and the most that one takes.
const ENTRIES_MAX: usize = 16;
const ENTRY_BYTES: usize = 4096;

/// Operations to be made durable.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    groups: Vec<Group>,
    source: Source,
}

/// Operations that belong together, and who is behind them.
#[derive(Debug)]
struct Group {
    source: Source,
    note: Option<Note>,
    ops: Vec<Op>,
}

impl Changes {
    /// True where nothing is to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Adds operations that must become durable together.
    pub(crate) fn group(&mut self, ops: Vec<Op>) {
        if !ops.is_empty() {
            self.groups.push(Group {
                source: self.source.clone(),
                note: None,
                ops,
            });
        }
    }

    /// Says who is behind what follows.
    pub(crate) fn attribute(&mut self, source: Source) {
        self.source = source;
    }

    /// Adds a line of the audit log that no record stands behind.
    pub(crate) fn note(&mut self, note: Note) {
        self.groups.push(Group {
            source: Source::Silent,
            note: Some(note),
            ops: Vec::new(),
        });
    }

    /// The transactions, each within the limits, in order, and with its entries of the audit log.
    pub(crate) fn into_txns(self, scribe: &mut Scribe<'_>) -> Vec<Txn> {
        let mut txns = Vec::new();
        let mut txn = Txn::new();
        let mut keys = BTreeSet::new();
        for group in self.groups {
            let entries = usize::from(group.note.is_some()) + group.ops.len().min(ENTRIES_MAX);
            let bytes: usize = group.ops.iter().map(size).sum();
            let full = txn.ops.len() + group.ops.len() + entries > MAX_OPS - RESERVED_OPS
                || txn.bytes() + bytes + entries * ENTRY_BYTES > MAX_TXN_BYTES - RESERVED_BYTES;
            // A key stands once in a transaction; its later value goes into the next.
            let again = group.ops.iter().any(|op| keys.contains(op.key()));
            if (full || again) && !txn.ops.is_empty() {
                txn.ops.extend(scribe.planned_entry());
                txns.push(std::mem::take(&mut txn));
                keys.clear();
            }
            keys.extend(group.ops.iter().map(|op| op.key().clone()));
            let told = scribe.group(&group.source, group.note, &group.ops);
            txn.ops.extend(group.ops);
            txn.ops.extend(told);
        }
        txn.ops.extend(scribe.planned_entry());
        if !txn.ops.is_empty() {
            txns.push(txn);
        }
        txns
    }
}

/// Writes a record.
pub(crate) fn put<T: Serialize>(key: String, record: &T) -> Op {
    Op::Put {
        key: key.into(),
        value: records::encode(record).into(),
        lease: None,
    }
}

/// Removes a record.
pub(crate) fn delete(key: String) -> Op {
    Op::Delete { key: key.into() }
}

fn size(op: &Op) -> usize {
    match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete { key } => key.len(),
    }
}

#[cfg(test)]
mod tests {
    use comber_model::audit::Head;
    use jiff::Timestamp;

    use super::*;
    use crate::store::{Options, Store};

    fn txns(changes: Changes) -> Vec<Txn> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let mut scribe = Scribe::new(Head::START, Timestamp::UNIX_EPOCH, &store);
        changes.into_txns(&mut scribe)
    }

    #[test]
    fn groups_stay_whole_and_in_order() {
        let mut changes = Changes::default();
        for number in 0..100 {
            changes.group(
                (0..3)
                    .map(|part| put(format!("/k/{number:03}/{part}"), &part))
                    .collect(),
            );
        }
        let txns = txns(changes);
        assert!(txns.len() > 3);
        let mut keys = Vec::new();
        for txn in &txns {
            txn.check().unwrap();
            assert_eq!(txn.ops.len() % 3, 0, "a group was torn apart");
            keys.extend(txn.ops.iter().map(|op| op.key().clone()));
        }
        assert!(keys.is_sorted() && keys.len() == 300);
    }

    #[test]
    fn a_key_written_twice_keeps_its_order() {
        let mut changes = Changes::default();
        changes.group(vec![put("/k".to_owned(), &1)]);
        changes.group(vec![put("/k".to_owned(), &2)]);
        let txns = txns(changes);
        assert_eq!(txns.len(), 2);
        assert_eq!(txns[1].ops[0], put("/k".to_owned(), &2));
    }

    #[test]
    fn large_values_are_spread() {
        let mut changes = Changes::default();
        for number in 0..40 {
            changes.group(vec![put(format!("/k/{number}"), &"x".repeat(60_000))]);
        }
        let txns = txns(changes);
        assert!(txns.len() > 1);
        for txn in &txns {
            txn.check().unwrap();
        }
    }
}
