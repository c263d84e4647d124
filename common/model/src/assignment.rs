//! What one host shall run: the desired state that the controller sends, and the permit to activate it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, Generation, ReleaseId, RolloutId, duration};

/// Immutable bytes, named by what they are when unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// sha256 of the uncompressed tar: the identity.
    pub digest: Digest,
    /// Bytes of the uncompressed tar. No host ever writes more.
    pub length: u64,
    /// Bytes as carried (zstd). Only how they travel, never who they are.
    pub carried_length: u64,
}

/// What the host shall do with the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Action {
    /// Bring the release to the host and activate it.
    Install {
        /// Its bytes.
        artifact: Artifact,
    },
    /// Take the product off the host: the way back for a host that had none of it before.
    Remove,
}

/// One host's work in one rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The rollout on whose behalf.
    pub rollout: RolloutId,
    /// What shall be active afterwards; for [`Action::Remove`], what shall be gone.
    pub release: ReleaseId,
    /// How to get there.
    pub action: Action,
    /// True where this undoes the rollout on a host that had succeeded.
    pub rolls_back: bool,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// True where the host shall try although it remembers the release as locally bad.
    pub retry_bad: bool,
    /// Whether a permit may be used while the controller cannot be reached.
    pub disconnected: bool,
}

/// The desired state of one host. Stored durably before it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// The plan that last changed the assignment.
    pub generation: Generation,
    /// The work; absent where the host has none, or where it was cancelled.
    pub assignment: Option<Assignment>,
    /// Leave to activate it.
    pub grant: Option<Grant>,
    /// Every report up to this number has been taken into account durably; the host may forget them.
    pub acknowledged: u64,
}

/// Names one request for a permit. Made at random by the agent for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub u64);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A permit as the controller remembers it.
///
/// The host counts `ttl` from when it asked; the controller counts the same from `granted_at`, which is later, plus
/// [`Grant::MARGIN`]. So the host's life of the permit always ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The request that it answers; it is worth nothing for another.
    pub nonce: Nonce,
    /// When the plan gave it, by the controller's steady clock.
    pub granted_at: Timestamp,
    /// How long it may be used.
    #[serde(with = "duration")]
    pub ttl: Duration,
}

impl Grant {
    /// Covers the rates of two clocks drifting apart over the longest life of a permit (1 h at 500 ppm is 1.8 s) and
    /// the moment between an agent's look at its clock and its durable entry of the activation.
    pub const MARGIN: Duration = Duration::from_secs(5);

    /// From this time on no host can begin to activate with it.
    pub fn dead_at(&self) -> Timestamp {
        let life = self.ttl + Self::MARGIN;
        self.granted_at.checked_add(life).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_waits_longer_than_the_host_may_act() {
        let grant = Grant {
            nonce: Nonce(1),
            granted_at: Timestamp::UNIX_EPOCH,
            ttl: Duration::from_mins(1),
        };
        assert_eq!(grant.dead_at(), Timestamp::from_second(65).unwrap());
    }
}
