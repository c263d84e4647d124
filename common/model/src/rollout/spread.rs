//! How a wave is spread over failure domains.

use serde::{Deserialize, Serialize};

use crate::disruption::DomainKey;

/// Most hosts of one failure domain that the rollout has down at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The label that divides hosts into domains; hosts without it share one.
    pub by: DomainKey,
    /// So many of each.
    pub max: u32,
}
