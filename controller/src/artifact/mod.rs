//! The bytes of releases on disk: `<dir>/<2 hex>/<digest>`, checked before they get there and never changed after.
//!
//! An upload grows in `<dir>/uploads/<digest>` and can be broken off anywhere; what is acknowledged is fsynced. It
//! becomes an artifact by one rename, after the whole bundle was checked. Invariant: a file outside of `uploads` is a
//! sound bundle of the digest that is its name.

mod error;
mod upload;

use std::collections::BTreeSet;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comber_bundle::{Contents, Limits, inspect};
use comber_model::Digest;
use comber_runtime::fsx;
use jiff::Timestamp;
use parking_lot::Mutex;

pub use error::ArtifactError;
pub use upload::Upload;

/// An upload that nobody went on with for so long is removed when the controller starts.
const STALE: Duration = Duration::from_hours(24);

/// The directory of artifacts.
#[derive(Debug)]
pub struct Artifacts {
    dir: PathBuf,
    max_size: u64,
    busy: Arc<Mutex<BTreeSet<Digest>>>,
}

/// Where an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Bytes that are there.
    pub received: u64,
    /// True where the artifact is there, whole and checked.
    pub complete: bool,
}

/// Keeps others away from an upload; lets them on when it goes.
#[derive(Debug)]
struct Claim {
    busy: Arc<Mutex<BTreeSet<Digest>>>,
    digest: Digest,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.busy.lock().remove(&self.digest);
    }
}

impl Artifacts {
    /// Opens the directory, makes it where it is not there, and removes stale uploads. No artifact may be longer than
    /// `max_size` bytes, unpacked or carried.
    pub fn open(dir: &Path, max_size: u64, now: Timestamp) -> Result<Self, ArtifactError> {
        let uploads = dir.join("uploads");
        let make = |path: &Path| {
            fsx::create_dir_durable(path, 0o750)
                .map_err(|source| ArtifactError::file("make the directory", &source))
        };
        make(dir)?;
        make(&uploads)?;
        let artifacts = Self {
            dir: dir.to_owned(),
            max_size,
            busy: Arc::default(),
        };
        Self::remove_stale(&uploads, now)?;
        Ok(artifacts)
    }

    /// Where an artifact is, if it is there.
    pub fn path(&self, digest: Digest) -> Option<PathBuf> {
        Some(self.place(digest)).filter(|path| path.is_file())
    }

    /// Where an upload stands, to begin or resume it.
    pub fn stat(&self, digest: Digest, carried_length: u64) -> Result<Stat, ArtifactError> {
        if carried_length > self.max_size {
            return Err(ArtifactError::TooLarge {
                length: carried_length,
                max: self.max_size,
            });
        }
        if let Some(path) = self.path(digest) {
            let length = fs::metadata(path).map_or(0, |meta| meta.len());
            return Ok(Stat {
                received: length,
                complete: true,
            });
        }
        let received = fs::metadata(self.partial(digest)).map_or(0, |meta| meta.len());
        // Longer than it can be: somebody else's mistake; it begins anew.
        let received = if received > carried_length {
            0
        } else {
            received
        };
        Ok(Stat {
            received,
            complete: false,
        })
    }

    /// Goes on with an upload at `offset`, which must be what is there.
    pub async fn upload(
        &self,
        digest: Digest,
        carried_length: u64,
        offset: u64,
    ) -> Result<Upload, ArtifactError> {
        let claim = self.claim(digest)?;
        let stat = self.stat(digest, carried_length)?;
        if stat.complete || stat.received != offset {
            return Err(ArtifactError::Offset {
                asked: offset,
                there: stat.received,
            });
        }
        Upload::open(self.partial(digest), claim, offset, carried_length).await
    }

    /// Checks a whole upload and makes it an artifact; durable on return. Where it is one already, it is checked again:
    /// the answer is always about the bytes on the disk.
    pub async fn finish(&self, digest: Digest) -> Result<Contents, ArtifactError> {
        let claim = self.claim(digest)?;
        let (partial, place) = (self.partial(digest), self.place(digest));
        let limits = Limits {
            length: self.max_size,
        };
        let work = move || {
            let _claim = claim;
            finish(&partial, &place, digest, limits)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| ArtifactError::stopped())?
    }

    /// Removes an artifact; fine where there is none.
    pub fn remove(&self, digest: Digest) -> Result<(), ArtifactError> {
        let place = self.place(digest);
        if place.exists() {
            fsx::remove_durable(&place)
                .map_err(|source| ArtifactError::file("remove the artifact", &source))?;
        }
        Ok(())
    }

    fn claim(&self, digest: Digest) -> Result<Claim, ArtifactError> {
        if self.busy.lock().insert(digest) {
            return Ok(Claim {
                busy: Arc::clone(&self.busy),
                digest,
            });
        }
        Err(ArtifactError::Busy { digest })
    }

    fn place(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.dir.join(&name[..2]).join(name)
    }

    fn partial(&self, digest: Digest) -> PathBuf {
        self.dir.join("uploads").join(digest.to_string())
    }

    fn remove_stale(uploads: &Path, now: Timestamp) -> Result<(), ArtifactError> {
        let entries = fs::read_dir(uploads)
            .map_err(|source| ArtifactError::io("read the directory", uploads, source))?;
        for entry in entries.flatten() {
            let modified = entry.metadata().and_then(|meta| meta.modified());
            let modified = modified
                .ok()
                .and_then(|time| Timestamp::try_from(time).ok());
            let old = modified.is_some_and(|at| now.duration_since(at) > stale());
            if old {
                tracing::info!(upload = %entry.path().display(), "removes a stale upload");
                fs::remove_file(entry.path()).map_err(|source| {
                    ArtifactError::io("remove a stale upload", &entry.path(), source)
                })?;
            }
        }
        Ok(())
    }
}

fn stale() -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(STALE).unwrap_or(jiff::SignedDuration::MAX)
}

fn finish(
    partial: &Path,
    place: &Path,
    digest: Digest,
    limits: Limits,
) -> Result<Contents, ArtifactError> {
    let source = if place.is_file() { place } else { partial };
    let file = fs::File::open(source).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ArtifactError::Missing { digest },
        _ => ArtifactError::io("open the upload", source, error),
    })?;
    let contents = inspect(BufReader::with_capacity(256 << 10, file), limits);
    let contents = match contents {
        Ok(contents) if contents.artifact.digest == digest => contents,
        result => {
            // It can never become right: the next upload begins anew.
            if source == partial {
                fs::remove_file(partial).map_err(|error| {
                    ArtifactError::io("remove the refused upload", partial, error)
                })?;
            }
            return Err(match result {
                Ok(other) => ArtifactError::OtherDigest {
                    asked: digest,
                    found: other.artifact.digest,
                },
                Err(source) => ArtifactError::Bundle {
                    source: Box::new(source),
                },
            });
        }
    };
    if source == partial {
        let parent = place.parent().unwrap_or(place);
        fsx::create_dir_durable(parent, 0o750)
            .map_err(|source| ArtifactError::file("make the directory", &source))?;
        fs::rename(partial, place)
            .map_err(|source| ArtifactError::io("put the artifact in its place", place, source))?;
        fsx::fsync_dir(parent)
            .map_err(|source| ArtifactError::file("sync the directory", &source))?;
    }
    Ok(contents)
}

#[cfg(test)]
mod tests;
