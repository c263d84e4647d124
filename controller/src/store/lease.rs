//! Leases: which records live by which lease, and when each ends.
//!
//! Memory only, owned by the writer thread; time comes in as a value. A lease is not stored: the process that held
//! it is gone when the store is opened again, as the lock on the directory shows, so opening removes all leased
//! records. The invariant: a record is in the set of exactly the lease that its last put named.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::contract::{Key, LeaseId};

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Duration,
    keys: HashSet<Key>,
}

/// All leases that are held.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: HashMap<LeaseId, Lease>,
}

impl Leases {
    pub(super) fn grant(&mut self, id: LeaseId, ttl: Duration, now: Duration) {
        let deadline = now.saturating_add(ttl);
        self.held.insert(
            id,
            Lease {
                ttl,
                deadline,
                keys: HashSet::new(),
            },
        );
    }

    /// Takes over keys whose lease ended with the process that held it.
    pub(super) fn adopt(&mut self, id: LeaseId, keys: Vec<Key>) {
        self.grant(id, Duration::MAX, Duration::ZERO);
        if let Some(lease) = self.held.get_mut(&id) {
            lease.keys.extend(keys);
        }
    }

    /// Moves the deadline to a whole life from now; false when the lease is not held.
    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Duration) -> bool {
        let Some(lease) = self.held.get_mut(&id) else {
            return false;
        };
        lease.deadline = lease.deadline.max(now.saturating_add(lease.ttl));
        true
    }

    pub(super) fn is_held(&self, id: LeaseId) -> bool {
        self.held.contains_key(&id)
    }

    /// Ends a lease and gives the keys to delete; `None` when it is not held.
    pub(super) fn end(&mut self, id: LeaseId) -> Option<Vec<Key>> {
        let mut keys: Vec<Key> = self.held.remove(&id)?.keys.into_iter().collect();
        keys.sort_unstable();
        Some(keys)
    }

    /// Leases whose deadline has come, in an order that does not depend on the run.
    pub(super) fn expired(&self, now: Duration) -> Vec<LeaseId> {
        let over = self.held.iter().filter(|(_, lease)| lease.deadline <= now);
        let mut ids: Vec<LeaseId> = over.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Notes that a key went from one lease to another.
    pub(super) fn moved(&mut self, key: &Key, from: Option<LeaseId>, to: Option<LeaseId>) {
        if let Some(lease) = from.and_then(|id| self.held.get_mut(&id)) {
            lease.keys.remove(key);
        }
        if let Some(lease) = to.and_then(|id| self.held.get_mut(&id)) {
            lease.keys.insert(key.clone());
        }
    }
}
