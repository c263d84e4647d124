//! What the host was like before an activation, on disk until the attempt has ended: the checks after it compare.
//!
//! Touches `before.json` in the state directory and nothing else. One note for each permit that is used, taken before
//! anything is changed: an activation that is taken up again after a crash must not note what it broke itself.
//! Invariant: a note that cannot be read is an error, and never taken for a host on which nothing had failed.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use comber_machine::{Change, Moment};
use comber_runtime::fsx::{self, FileError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::reboot::Mark;

const FILE: &str = "before.json";
/// The version written by this code.
const VERSION: u32 = 1;
/// The answer of systemd that goes in is at most 256 KiB.
const SIZE_MAX: u64 = 1 << 20;

/// Keeps the note of one state directory.
#[derive(Debug, Clone)]
pub struct BeforeFile {
    path: PathBuf,
}

/// What was noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Of which change.
    pub change: Change,
    /// Under which permit.
    pub leave: Moment,
    /// In which boot.
    pub boot_id: String,
    /// What was failed; absent where systemd was not there to say it.
    pub failed_units: Option<BTreeSet<String>>,
    /// What the host said of a reboot.
    pub reboot: Mark,
}

/// A note that cannot be kept or read.
#[derive(Debug, Error)]
pub enum BeforeError {
    /// The disk.
    #[error("cannot keep what the host was like before the activation")]
    File(#[from] FileError),
    /// It is not what any version wrote.
    #[error("{} does not say what the host was like before the activation", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A newer agent wrote it.
    #[error("{} has version {found}, this agent reads up to {VERSION}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// What is on disk around the note.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    v: u32,
    before: T,
}

/// Only the version.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

impl BeforeFile {
    /// In that state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(FILE),
        }
    }

    /// The note of this change. Absent where an agent that takes none began the activation.
    pub fn of(&self, change: &Change) -> Result<Option<Before>, BeforeError> {
        Ok(self.read()?.filter(|before| before.change == *change))
    }

    /// True where this permit's note is there. One that cannot be read is of another attempt, or of no use to this one.
    pub fn is_taken(&self, change: &Change, leave: &Moment) -> bool {
        let noted = self.of(change).ok().flatten();
        noted.is_some_and(|before| before.leave == *leave)
    }

    /// Keeps a note in place of the one before, durably. Blocking.
    pub fn keep(&self, before: &Before) -> Result<(), BeforeError> {
        let envelope = Envelope { v: VERSION, before };
        let bytes = serde_json::to_vec(&envelope).map_err(|source| self.malformed(source))?;
        Ok(fsx::write_atomic(&self.path, &bytes, 0o600)?)
    }

    /// Forgets it, once the attempt has ended. One that stays is told apart by its permit.
    pub fn forget(&self) {
        match fsx::remove_durable(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let error = comber_runtime::telemetry::error_chain(&error);
                tracing::warn!(error, "what was noted before the activation is left behind");
            }
        }
    }

    fn read(&self) -> Result<Option<Before>, BeforeError> {
        let bytes = match fsx::read_limited(&self.path, SIZE_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found: Versioned =
            serde_json::from_slice(&bytes).map_err(|source| self.malformed(source))?;
        if found.v > VERSION {
            return Err(BeforeError::TooNew {
                path: self.path.clone(),
                found: found.v,
            });
        }
        let read: Envelope<Before> =
            serde_json::from_slice(&bytes).map_err(|source| self.malformed(source))?;
        Ok(Some(read.before))
    }

    fn malformed(&self, source: serde_json::Error) -> BeforeError {
        BeforeError::Malformed {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
