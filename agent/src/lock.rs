//! One agent per state directory, and one writer of its identity at a time: locks that end with their process.
//!
//! The kernel drops a lock however its holder ends, so nothing stale is ever left. Invariant: while a [`Lock`] lives, no
//! other process holds one on the same file.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

/// Held by `comber-agent run`.
pub const AGENT_LOCK: &str = "agent.lock";
/// Held while the identity is being replaced.
pub const IDENTITY_LOCK: &str = "identity.lock";

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Why there is no lock.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another comber-agent is running with this state directory ({path} is locked); stop it first", path = path.display())]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock, or says at once that another process has it.
    pub fn try_take(path: &Path) -> Result<Self, LockError> {
        Self::take_with(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Whether another process holds the lock now. Changes nothing on disk.
    pub fn is_held(path: &Path) -> bool {
        // A shared lock is refused exactly while somebody holds the exclusive one.
        File::open(path).is_ok_and(|file| {
            flock(&file, FlockOperation::NonBlockingLockShared)
                == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }

    /// The number of the process that holds the lock, where one does that has written it down.
    pub fn holder(path: &Path) -> Option<i32> {
        if !Self::is_held(path) {
            return None;
        }
        let text = fs::read_to_string(path).ok()?;
        text.trim().parse().ok().filter(|pid| *pid > 0)
    }

    /// Writes this process's number into the file, for whoever must end its holder. Not durable: it counts only while
    /// the lock is held.
    pub fn sign(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file
            .write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    }

    /// Takes the lock, waiting for another process to be done. Blocking.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        Self::take_with(path, FlockOperation::LockExclusive)
    }

    fn take_with(path: &Path, operation: FlockOperation) -> Result<Self, LockError> {
        let failed = |source| LockError::File {
            path: path.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match flock(&file, operation) {
            Ok(()) => Ok(Self { file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held {
                path: path.to_owned(),
            }),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(AGENT_LOCK);
        let first = Lock::try_take(&path).unwrap();
        let refused = Lock::try_take(&path).unwrap_err();
        assert!(matches!(refused, LockError::Held { .. }), "{refused}");
        assert!(Lock::is_held(&path));
        first.sign().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(Lock::holder(&path), Some(own));
        drop(first);
        assert!(!Lock::is_held(&path));
        assert_eq!(Lock::holder(&path), None, "what is written counts no more");
        Lock::try_take(&path).unwrap();
    }
}
