//! The counters of the whole database: one small record, the fence of every batch that plans.

use comber_model::Generation;
use serde::{Deserialize, Serialize};

/// The counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Generation of the last committed plan.
    pub generation: Generation,
    /// Number of the next rollout.
    pub next_rollout: u32,
    /// Number of the next event.
    pub next_event: u64,
    /// Number of the oldest event that is kept.
    pub oldest_event: u64,
}

impl Default for Meta {
    /// Of a new database: everything counts from 1.
    fn default() -> Self {
        Self {
            generation: Generation(0),
            next_rollout: 1,
            next_event: 1,
            oldest_event: 1,
        }
    }
}
