//! Every way the store can refuse or fail, each naming the file and the remedy.
//!
//! Touches nothing. The invariant: a [`Fatal`] is never retried; once it exists, the process has to stop and
//! recovery at the next start decides from what is on disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::contract::{LeaseId, LimitError, Revision};

/// One step on one file failed in the operating system.
#[derive(Debug, Error)]
#[error("cannot {step} {}{}", .path.display(), remedy_for(.source))]
pub struct DiskError {
    /// What was tried, as a verb.
    pub step: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    pub(super) fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { step, path, source }
    }
}

/// The cause itself is printed by the error chain; this adds what to do where that is known.
fn remedy_for(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": the disk is full; free space on it or enlarge it, then start the controller again (nothing acknowledged is lost)"
        }
        io::ErrorKind::PermissionDenied => {
            ": make it belong to the user the controller runs as, then start the controller again"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ": the file system is read-only; look for disk errors in the kernel log, remount it, then start the controller again"
        }
        _ => "",
    }
}

/// Something on disk is not what was written there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{} {what}", .file.display())]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, continuing the sentence that its name begins.
    pub what: String,
}

impl Damage {
    pub(super) fn new(file: &Path, what: impl Into<String>) -> Self {
        Self {
            file: file.to_path_buf(),
            what: what.into(),
        }
    }
}

/// The store did not open; nothing in its directory was destroyed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store in {} is in use by another process: stop that controller first", .dir.display())]
    Locked {
        /// The store's directory.
        dir: PathBuf,
    },
    /// There is no database and none may be created.
    #[error("there is no store in {}, and there was one: check the path and that its file system is mounted, or restore a \
             backup with: comber-controller restore DIR", .dir.display())]
    Missing {
        /// The store's directory.
        dir: PathBuf,
    },
    /// A database is already where one was to be created.
    #[error("{} already holds files: give an empty directory", .dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// The files were written by a newer Comber.
    #[error("{} has format {found}, this controller knows up to {known}: run a newer controller", .file.display())]
    TooNew {
        /// The file.
        file: PathBuf,
        /// The format it says.
        found: u32,
        /// The newest format this program reads.
        known: u32,
    },
    /// A file is damaged and what it held is nowhere else.
    #[error(
        "{damage}, and the other files cannot replace it: move the directory aside and run `comber-controller restore BACKUP`"
    )]
    Damaged {
        /// What is wrong.
        damage: Damage,
    },
    /// Acknowledged commits are missing.
    #[error(
        "{damage}: commits up to revision {acknowledged} were acknowledged, the files prove only {found}; \
         move the directory aside and run `comber-controller restore BACKUP`"
    )]
    Lost {
        /// What is wrong.
        damage: Damage,
        /// The highest revision known to have been acknowledged; there may have been more.
        acknowledged: Revision,
        /// The highest revision that can be shown to be whole.
        found: Revision,
    },
    /// The operating system refused a step.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No randomness for the epoch.
    #[error("the system gives no random bytes")]
    Random,
    /// It stopped as soon as it was opened.
    #[error(transparent)]
    Stopped(Arc<Fatal>),
    /// A thread could not be started.
    #[error("cannot start a thread of the store")]
    Thread(#[source] io::Error),
}

/// Why the store stopped for good in this process.
#[derive(Debug, Error)]
pub enum Fatal {
    /// A write or a sync failed. What is on disk is unknown until it is read again after a restart.
    #[error("the store stopped: {0}")]
    Disk(#[source] DiskError),
    /// The tables failed or are damaged. They are rebuilt at the next start if need be.
    #[error("the store stopped: tables in {} failed ({what}); start the controller again, it rebuilds them", .dir.display())]
    Tables {
        /// Their directory.
        dir: PathBuf,
        /// What was said.
        what: String,
    },
    /// The writer ended without being told to.
    #[error("the store stopped: its writer ended unexpectedly; start the controller again")]
    Writer,
}

/// A transaction or a lease request that was not carried out, or whose end is not known.
#[derive(Clone, Debug, Error)]
pub enum CommitError {
    /// It is outside the limits; nothing was changed.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// It names a lease that ended or never was; nothing was changed.
    #[error("lease {:016x} is not held: grant a new one", .id.0)]
    LeaseUnknown {
        /// The lease.
        id: LeaseId,
    },
    /// Too much is waiting; nothing was changed.
    #[error("the store has a weight of {waiting} in commits waiting: try again later")]
    Overloaded {
        /// Commits in the queue; a large one counts more than once.
        waiting: usize,
    },
    /// The store stopped. The transaction may be found committed after a restart, or not.
    #[error(transparent)]
    Failed(#[from] Arc<Fatal>),
    /// The store was closed before this was submitted; nothing was changed.
    #[error("the store is closed")]
    Closed,
    /// No randomness for a lease's name; nothing was changed.
    #[error("the system gives no random bytes")]
    Random,
}

impl CommitError {
    /// Whether the same transaction may be submitted again to this store.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded { .. })
    }
}

/// A read that could not be answered truly.
#[derive(Clone, Debug, Error)]
pub enum ReadError {
    /// The tables failed, and the store stopped.
    #[error(transparent)]
    Failed(#[from] Arc<Fatal>),
    /// The process is ending, or the code that read panicked.
    #[error("the read was not finished")]
    Unfinished,
}

/// A backup, checkpoint or restore that was not made.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The operating system refused a step.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file does not hold what it should; it is not used.
    #[error("{0}: take another backup")]
    Damaged(Damage),
    /// The store stopped.
    #[error(transparent)]
    Failed(#[from] Arc<Fatal>),
    /// The store was closed first.
    #[error("the store is closed")]
    Closed,
    /// The new database could not be made.
    #[error(transparent)]
    Open(#[from] OpenError),
}
