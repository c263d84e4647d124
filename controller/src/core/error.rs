//! Why the core did not do what it was asked. Nothing was changed, unless it stopped.

use comber_model::Invalid;
use thiserror::Error;

use crate::store::ReadError;

/// An edit or read that was not carried out.
#[derive(Debug, Clone, Error)]
pub enum CoreError {
    /// There is no such thing.
    #[error("there is no {what}")]
    NotFound {
        /// What was asked for, for example `rollout r7`.
        what: String,
    },
    /// It cannot be done now; says why and what would help.
    #[error("{0}")]
    Refused(String),
    /// What was asked is wrong in itself.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Invalid>),
    /// Something else has that name.
    #[error("{0}")]
    Exists(String),
    /// The token does not let its holder in.
    #[error("{0}")]
    Unauthenticated(String),
    /// Whoever asks is known, and may not do this.
    #[error("{0}")]
    Denied(String),
    /// Events that old are not kept any more.
    #[error("events before number {oldest} are not kept any more; begin again with 0")]
    OutOfRange {
        /// The oldest that is kept.
        oldest: u64,
    },
    /// The controller is stopping, or its store failed. Whether an edit was carried out is seen after the restart.
    #[error("the controller has stopped: {0}")]
    Stopped(String),
}

impl CoreError {
    /// There is no such rollout, host, release or token.
    pub(crate) fn missing(kind: &str, name: impl std::fmt::Display) -> Self {
        Self::NotFound {
            what: format!("{kind} {name}"),
        }
    }
}

/// The stored state could not be read at start.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The store could not be read.
    #[error("the store cannot be read")]
    Read(#[from] ReadError),
    /// A record is not what this version writes, though the store vouches for its bytes.
    #[error(
        "record {key} cannot be read ({problem}); it was written by another version: start that version, or restore a backup with `comber-controller restore`"
    )]
    Record {
        /// Its key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}
