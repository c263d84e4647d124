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

    /// A failed step of the shared file functions.
    pub(super) fn file(step: &'static str, error: &FileError) -> Self {
        let kind = error.kind();
        let text = comber_runtime::telemetry::error_chain(error);
        Self::io(step, Path::new(""), io::Error::new(kind, text))
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
