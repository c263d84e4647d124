//! The contract every store keeps, whatever is below it: keys, transactions, outcomes, pages and their limits.
//!
//! Pure values, no I/O. The invariant: a transaction that passes [`Txn::check`] is within the limits of every
//! implementation, so none of them may refuse it for its size.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

/// Name of a record: 1 to [`MAX_KEY_BYTES`] bytes, ordered bytewise.
pub type Key = Bytes;

/// Content of a record: up to [`MAX_VALUE_BYTES`] bytes that the store does not look into.
pub type Value = Bytes;

/// Operations and compares a transaction may hold, each; etcd's own default limit is 128.
pub const MAX_OPS: usize = 100;

/// Bytes of keys and values in one transaction; etcd refuses requests above 1.5 MB.
pub const MAX_TXN_BYTES: usize = 1024 * 1024;

/// Bytes of one value. Aim at 8 KB: above that, sled spreads a page over separate files.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Bytes of one key; the schema's keys are far below it.
pub const MAX_KEY_BYTES: usize = 1024;

/// Items one page may hold, so that a reader never holds up the writer for long.
pub const MAX_PAGE: usize = 10_000;

/// Count of committed transactions since the database began; each commit that changes something adds one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of the next commit; what to watch from after reading a page at this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a lease; random and never zero, so that no lease of an earlier process is taken for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// What must hold for a transaction to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// No record has this key.
    Absent(Key),
    /// Some record has this key.
    Exists(Key),
    /// The record was last written at exactly this revision.
    ModRev(Key, Revision),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write a record; with a lease, it goes when the lease does.
    Put {
        /// Its name.
        key: Key,
        /// Its whole new content.
        value: Value,
        /// The lease it lives by; `None` detaches it from any lease it had.
        lease: Option<LeaseId>,
    },
    /// Remove a record; nothing happens when there is none.
    Delete {
        /// Its name.
        key: Key,
    },
}

impl Op {
    /// The key this operation changes.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}

/// Compares and operations that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// All are applied, at one revision.
    pub ops: Vec<Op>,
}

impl Txn {
    /// An empty transaction, to be filled by the methods below.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requires that `key` has no record.
    #[must_use]
    pub fn absent(mut self, key: impl Into<Key>) -> Self {
        self.compares.push(Compare::Absent(key.into()));
        self
    }

    /// Requires that `key` has a record.
    #[must_use]
    pub fn exists(mut self, key: impl Into<Key>) -> Self {
        self.compares.push(Compare::Exists(key.into()));
        self
    }

    /// Requires that `key` was last written at `revision`.
    #[must_use]
    pub fn mod_rev(mut self, key: impl Into<Key>, revision: Revision) -> Self {
        self.compares.push(Compare::ModRev(key.into(), revision));
        self
    }

    /// Writes a record that lives until it is deleted.
    #[must_use]
    pub fn put(mut self, key: impl Into<Key>, value: impl Into<Value>) -> Self {
        let (key, value) = (key.into(), value.into());
        self.ops.push(Op::Put {
            key,
            value,
            lease: None,
        });
        self
    }

    /// Writes a record that goes when `lease` does.
    #[must_use]
    pub fn put_leased(
        mut self,
        key: impl Into<Key>,
        value: impl Into<Value>,
        lease: LeaseId,
    ) -> Self {
        let (key, value) = (key.into(), value.into());
        self.ops.push(Op::Put {
            key,
            value,
            lease: Some(lease),
        });
        self
    }

    /// Removes a record.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Key>) -> Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    /// Bytes of keys and values, as the limit counts them.
    pub fn bytes(&self) -> usize {
        self.ops.iter().map(Op::bytes).sum()
    }

    /// Checks the limits; a transaction that fails here is refused whole and never reaches the writer.
    pub fn check(&self) -> Result<(), LimitError> {
        if self.ops.len() > MAX_OPS {
            return Err(LimitError::TooManyOps {
                got: self.ops.len(),
            });
        }
        if self.compares.len() > MAX_OPS {
            return Err(LimitError::TooManyCompares {
                got: self.compares.len(),
            });
        }
        for compare in &self.compares {
            let (Compare::Absent(key) | Compare::Exists(key) | Compare::ModRev(key, _)) = compare;
            check_key(key)?;
        }
        let mut keys = std::collections::HashSet::with_capacity(self.ops.len());
        for op in &self.ops {
            check_op(op)?;
            if !keys.insert(op.key()) {
                return Err(LimitError::KeyTwice {
                    key: op.key().clone(),
                });
            }
        }
        match self.bytes() {
            got if got > MAX_TXN_BYTES => Err(LimitError::TxnTooLarge { got }),
            _ => Ok(()),
        }
    }
}

fn check_op(op: &Op) -> Result<(), LimitError> {
    check_key(op.key())?;
    match op {
        Op::Put { key, value, .. } if value.len() > MAX_VALUE_BYTES => {
            Err(LimitError::ValueTooLarge {
                key: key.clone(),
                got: value.len(),
            })
        }
        Op::Put { .. } | Op::Delete { .. } => Ok(()),
    }
}

fn check_key(key: &Key) -> Result<(), LimitError> {
    match key.len() {
        0 => Err(LimitError::EmptyKey),
        got if got > MAX_KEY_BYTES => Err(LimitError::KeyTooLarge { got }),
        _ => Ok(()),
    }
}

/// A transaction is outside the limits that every store keeps.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LimitError {
    /// More operations than one transaction may hold.
    #[error("transaction has {got} operations, {MAX_OPS} are allowed: split it")]
    TooManyOps {
        /// Operations found.
        got: usize,
    },
    /// More compares than one transaction may hold.
    #[error("transaction has {got} compares, {MAX_OPS} are allowed: split it")]
    TooManyCompares {
        /// Compares found.
        got: usize,
    },
    /// Two operations change one key, so their order would matter.
    #[error("transaction changes key {key:?} twice: keep the last change only")]
    KeyTwice {
        /// The key.
        key: Key,
    },
    /// Keys and values together are too long.
    #[error("transaction has {got} bytes, {MAX_TXN_BYTES} are allowed: split it")]
    TxnTooLarge {
        /// Bytes of keys and values.
        got: usize,
    },
    /// One value is too long.
    #[error(
        "value of key {key:?} has {got} bytes, {MAX_VALUE_BYTES} are allowed: keep it in a file by digest"
    )]
    ValueTooLarge {
        /// The key.
        key: Key,
        /// Bytes of its value.
        got: usize,
    },
    /// A key is too long.
    #[error("key has {got} bytes, {MAX_KEY_BYTES} are allowed: shorten it")]
    KeyTooLarge {
        /// Bytes of the key.
        got: usize,
    },
    /// A key is empty.
    #[error("key is empty: give it a name")]
    EmptyKey,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable; its records carry this revision. Without any change it is the revision it saw.
    Committed(Revision),
    /// A compare did not hold, and nothing was changed.
    Conflict,
}

/// A record as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Its content.
    pub value: Value,
    /// The revision that wrote it last.
    pub mod_rev: Revision,
    /// The lease it lives by.
    pub lease: Option<LeaseId>,
}

/// A record in a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub key: Key,
    /// What it holds.
    pub record: Versioned,
}

/// Some records of a prefix in key order, as they stood together at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The records.
    pub items: Vec<Item>,
    /// The revision they were read at; watch from the next one to miss nothing.
    pub revision: Revision,
    /// Whether more records follow the last one.
    pub more: bool,
}

/// One change a watcher sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A record was written.
    Put(Item),
    /// A record was removed, by a transaction or with its lease.
    Delete {
        /// Its name.
        key: Key,
        /// The revision that removed it.
        revision: Revision,
    },
}

impl Event {
    /// The key that changed.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(item) => &item.key,
            Self::Delete { key, .. } => key,
        }
    }
}
