//! Why bytes could not be taken in or given out. Whatever is said here, no artifact was changed.

use std::io;
use std::path::{Path, PathBuf};

use comber_bundle::Refused;
use comber_model::Digest;
use comber_runtime::fsx::FileError;
use thiserror::Error;

/// A step on the artifact directory that failed.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// The disk is full. What was acknowledged is still there; the upload can be resumed.
    #[error("no space left for {path}; free some, or move artifacts to a larger disk with artifacts.dir", path = .path.display())]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The disk would be full. Told before a byte is taken, since the controller's own state may lie on the same disk.
    #[error(
        "not enough space in {dir}: {wanted} bytes are to come, {available} are free and {reserve} of them are kept for the controller itself; free some, or move artifacts to a larger disk with artifacts.dir",
        dir = .dir.display()
    )]
    Space {
        /// The directory of artifacts.
        dir: PathBuf,
        /// Bytes that are to come.
        wanted: u64,
        /// Bytes that are free.
        available: u64,
        /// Bytes that no upload may take.
        reserve: u64,
    },
    /// Longer than this controller takes.
    #[error(
        "the release has {length} bytes, at most {max} are taken; raise artifacts.max_size, or make it smaller"
    )]
    TooLarge {
        /// Its length.
        length: u64,
        /// The limit.
        max: u64,
    },
    /// The uploader and the controller disagree about what is there.
    #[error("the upload goes on at {there}, not at {asked}; ask again where it stands")]
    Offset {
        /// Where the uploader wanted to go on.
        asked: u64,
        /// What is there.
        there: u64,
    },
    /// The bundle is not sound.
    #[error("the bundle is refused; build it again with: comber release build")]
    Bundle {
        /// The rule it breaks.
        #[source]
        source: Box<Refused>,
    },
    /// The bundle is sound, but another one.
    #[error("the bundle is {found}, not {asked}; it was altered on its way: upload it again")]
    OtherDigest {
        /// What it was announced as.
        asked: Digest,
        /// What it is.
        found: Digest,
    },
    /// What was sound once is not any more: the disk lost or changed bytes. It was removed.
    #[error(
        "the artifact {digest} was damaged on the controller's disk and is removed; publish the release again, and look after that disk",
        digest = .digest.short()
    )]
    Damaged {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: Box<Refused>,
    },
    /// More bytes came than were announced.
    #[error(
        "more than the {length} bytes that were announced came; ask where the upload stands, and begin anew"
    )]
    Longer {
        /// What was announced.
        length: u64,
    },
    /// Somebody else uploads the same bytes.
    #[error("{digest} is being uploaded by somebody else; try again when that has ended", digest = .digest.short())]
    Busy {
        /// Which.
        digest: Digest,
    },
    /// Nothing was uploaded.
    #[error("nothing was uploaded for {digest}", digest = .digest.short())]
    Missing {
        /// Which.
        digest: Digest,
    },
    /// The operating system refused a step.
    #[error("cannot {step} {path}", path = .path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// What was said.
        #[source]
        source: io::Error,
    },
}

impl ArtifactError {
    /// A failed step; a full disk is told apart.
    pub(super) fn io(step: &'static str, path: &Path, source: io::Error) -> Self {
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        if full {
            Self::Full {
                path: path.to_owned(),
            }
        } else {
            Self::Io {
                step,
                path: path.to_owned(),
                source,
            }
        }
    }

    /// A failed step of the shared file functions on `path`.
    pub(super) fn file(step: &'static str, path: &Path, error: &FileError) -> Self {
        Self::io(step, path, io::Error::new(error.kind(), error.reason()))
    }

    /// The process stops while a check runs.
    pub(super) fn stopped() -> Self {
        let source = io::Error::other("the controller is stopping");
        Self::Io {
            step: "finish the check of",
            path: PathBuf::from("the upload"),
            source,
        }
    }
}
