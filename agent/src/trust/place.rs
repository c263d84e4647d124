//! Where the record is kept, and how a host comes to its first root.
//!
//! ```text
//!   <state>/trust/record.json   what is trusted, only forward
//!   <state>/trust/pinned        sha256 of the first root: a record that is gone was there once
//!   <state>/trust/lock          held while the record is replaced
//! ```
//!
//! Invariant: a root is taken from whoever offers one only where there never was another; later only an administrator of
//! this host begins anew.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use comber_runtime::fsx::{self, FileError};
use comber_trust::{Record, RecordError, RootFacts, VerifyError, look_at_root};
use thiserror::Error;

use crate::lock::{Lock, LockError};

const DIR: &str = "trust";
const RECORD: &str = "record.json";
const PINNED: &str = "pinned";
const LOCK: &str = "lock";
/// A digest and a newline.
const PINNED_MAX: u64 = 128;

/// Why a root is not pinned.
#[derive(Debug, Error)]
pub enum PinError {
    /// No root of anybody.
    #[error("the root cannot be used")]
    Root(#[source] VerifyError),
    /// One was pinned before.
    #[error(
        "a root was pinned on this host before (sha256 {pinned}), and the publisher's own chain of roots changes it; to begin \
         anew from another: comber-agent trust reset FILE"
    )]
    Before {
        /// That one.
        pinned: String,
    },
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The disk.
    #[error("the record of what is trusted cannot be kept")]
    File(#[from] FileError),
    /// Another process keeps it.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// What pinning came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinned {
    /// This root.
    Now(RootFacts),
    /// There was one before, which stays: its sha256.
    Before(String),
}

/// The files of one host.
#[derive(Debug, Clone)]
pub(super) struct Place {
    dir: PathBuf,
}

impl Place {
    pub(super) fn of(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join(DIR),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn record(&self) -> PathBuf {
        self.dir.join(RECORD)
    }

    /// The sha256 of the root that this host began with; `None` where it never had one.
    pub(super) fn pinned(&self) -> Option<String> {
        let path = self.dir.join(PINNED);
        match fsx::read_limited(&path, PINNED_MAX) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The record came first and may be all that a crash left.
                self.record().exists().then(|| "not noted".to_owned())
            }
            Err(error) => Some(format!("not readable: {error}")),
        }
    }

    /// Blocking.
    pub(super) fn lock(&self) -> Result<Lock, PinError> {
        fsx::create_dir_durable(&self.dir, 0o700)?;
        Ok(Lock::take(&self.dir.join(LOCK))?)
    }

    fn write(&self, root: &str) -> Result<RootFacts, PinError> {
        let facts = look_at_root(root).map_err(PinError::Root)?;
        Record::pinned(root.to_owned()).save(&self.record())?;
        let noted = format!("{}\n", facts.sha256);
        fsx::write_atomic(&self.dir.join(PINNED), noted.as_bytes(), 0o600)?;
        Ok(facts)
    }
}

/// Begins with this root where the host never had one. Blocking.
pub fn pin(state_dir: &Path, root: &str) -> Result<Pinned, PinError> {
    let place = Place::of(state_dir);
    let _lock = place.lock()?;
    match place.pinned() {
        Some(before) => Ok(Pinned::Before(before)),
        None => place.write(root).map(Pinned::Now),
    }
}

/// Begins anew with this root, whatever was trusted: for an administrator of this host, who knows whose it is. Blocking.
pub fn reset(state_dir: &Path, root: &str) -> Result<RootFacts, PinError> {
    let place = Place::of(state_dir);
    let _lock = place.lock()?;
    place.write(root)
}

/// Forgets whom this host believed, when it leaves its fleet. Blocking.
pub fn forget(state_dir: &Path) -> Result<(), FileError> {
    let place = Place::of(state_dir);
    for file in [place.dir.join(PINNED), place.record()] {
        match fsx::remove_durable(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
