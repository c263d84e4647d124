//! The counters of the whole database: one small record, the fence of every batch that plans.

use comber_model::Generation;
use jiff::Timestamp;
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
    /// Since when operators have records. Before, each certificate of an operator was good for everything. The beginning
    /// of time where it was never otherwise; absent in a database that no version with such records has written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operators_since: Option<Timestamp>,
    /// An entry of the audit log that was durable before this record was written; the end is found from here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub audit_floor: u64,
    /// Number of the oldest entry of the audit log that is kept; 0 where none was ever removed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub oldest_audit: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Default for Meta {
    /// Of a new database: everything counts from 1.
    fn default() -> Self {
        Self {
            generation: Generation(0),
            next_rollout: 1,
            next_event: 1,
            oldest_event: 1,
            operators_since: Some(Timestamp::UNIX_EPOCH),
            audit_floor: 0,
            oldest_audit: 0,
        }
    }
}
