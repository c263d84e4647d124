//! Brings carried bytes to the host: resumes where it stopped, tries again until nothing moves any more.
//!
//! Writes `<state>/staging/<digest>.part` and nothing else; what the bytes are worth is for `trust` to say. Invariant:
//! the file never grows beyond the carried length of the assignment, whoever sends.

mod https;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use comber_model::{Artifact, Digest};
use comber_runtime::backoff::Backoff;
use comber_runtime::clock::Clock;
use comber_runtime::fsx::{self, FileError};
use thiserror::Error;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

pub use https::{HttpsBody, HttpsSource};

use crate::trust::Unverified;

/// The ending of bytes that are on their way.
const PART: &str = "part";

/// How patient a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The first pause after a failure is drawn from nothing to this.
    pub backoff_min: Duration,
    /// No pause is longer.
    pub backoff_max: Duration,
    /// Given up when no new byte came for this long.
    pub give_up: Duration,
}

impl Default for Patience {
    /// Half an hour outlasts a controller's upgrade and most cuts of a line; after it people should hear of it.
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_secs(2),
            backoff_max: Duration::from_mins(2),
            give_up: Duration::from_mins(30),
        }
    }
}

/// Where bytes come from.
pub trait Source: Send + Sync {
    /// An answer being read.
    type Body: Body;

    /// Asks for the artifact from the byte `from` on.
    fn open(
        &self,
        digest: &Digest,
        from: u64,
    ) -> impl Future<Output = Result<Self::Body, SourceError>> + Send;
}

/// An answer being read.
pub trait Body: Send {
    /// Where it begins: as asked for, or 0 where the source sends all of it.
    fn offset(&self) -> u64;

    /// The next bytes; `None` at the end.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, SourceError>> + Send;
}

/// A source that failed.
#[derive(Debug, Error)]
#[error("{problem}")]
pub struct SourceError {
    /// What happened, with its causes.
    pub problem: String,
    /// Whether the same request may succeed later.
    pub is_retryable: bool,
}

/// Why the bytes are not here.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The source said something that will stay so.
    #[error("the artifact cannot be had")]
    Source(#[from] SourceError),
    /// It went wrong for too long.
    #[error("no byte came for {after:?}; {have} of {wanted} bytes are here after {tries} tries")]
    GaveUp {
        /// As configured.
        after: Duration,
        /// Bytes that are here.
        have: u64,
        /// Carried bytes in all.
        wanted: u64,
        /// Tries since the last new byte.
        tries: u32,
        /// What went wrong last.
        #[source]
        last: Box<FetchError>,
    },
    /// The answer ended early.
    #[error("the answer ended after {have} of {wanted} bytes")]
    Short {
        /// Bytes that are here.
        have: u64,
        /// Carried bytes in all.
        wanted: u64,
    },
    /// More came than the assignment says.
    #[error("the server sends more than the {wanted} bytes that were assigned")]
    TooLong {
        /// Carried bytes in all.
        wanted: u64,
    },
    /// The disk does not take it.
    #[error("cannot write {}", path.display())]
    Write {
        /// The part.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The staging directory cannot be made.
    #[error("no place for the bytes")]
    Staging(#[from] FileError),
}

impl FetchError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Source(error) => error.is_retryable,
            Self::Short { .. } => true,
            Self::GaveUp { .. } | Self::TooLong { .. } | Self::Write { .. } | Self::Staging(_) => {
                false
            }
        }
    }
}

/// Fetches artifacts.
#[derive(Debug)]
pub struct Fetcher<S> {
    source: S,
    staging: PathBuf,
    patience: Patience,
    clock: Clock,
}

impl<S: Source> Fetcher<S> {
    /// Keeps its parts in `<state_dir>/staging`.
    pub fn new(source: S, state_dir: &Path, patience: Patience, clock: Clock) -> Self {
        Self {
            source,
            staging: state_dir.join("staging"),
            patience,
            clock,
        }
    }

    /// Where the bytes of that artifact are or will be.
    pub fn part(&self, digest: &Digest) -> PathBuf {
        self.staging.join(format!("{digest}.{PART}"))
    }

    /// Carried bytes that are still to come.
    pub fn missing(&self, artifact: &Artifact) -> u64 {
        let have = std::fs::metadata(self.part(&artifact.digest)).map_or(0, |part| part.len());
        artifact.carried_length.saturating_sub(have)
    }

    /// Brings all bytes and makes them durable. Parts of other artifacts are removed: a host has one assignment.
    ///
    /// Cancelled or failed, it leaves what came, and the next call goes on from there.
    pub async fn fetch(&self, artifact: &Artifact) -> Result<Unverified, FetchError> {
        fsx::create_dir_durable(&self.staging, 0o700)?;
        self.discard_others(&artifact.digest);
        let path = self.part(&artifact.digest);
        let mut part = Part::open(path.clone(), artifact.carried_length).await?;
        self.fill(&mut part, &artifact.digest).await?;
        part.finish().await?;
        fsx::fsync_dir(&self.staging)?;
        Ok(Unverified {
            path,
            artifact: *artifact,
        })
    }

    /// Removes the bytes: they were unpacked, or they are not what they should be.
    pub fn discard(&self, digest: &Digest) -> Result<(), FetchError> {
        Ok(fsx::remove_durable(&self.part(digest))?)
    }

    async fn fill(&self, part: &mut Part, digest: &Digest) -> Result<(), FetchError> {
        let mut backoff = Backoff::new(self.patience.backoff_min, self.patience.backoff_max);
        let mut moved_at = self.clock.boot();
        loop {
            let before = part.have;
            let failed = match self.once(part, digest).await {
                Ok(()) => return Ok(()),
                Err(error) if !error.is_retryable() => return Err(error),
                Err(error) => error,
            };
            if part.have > before {
                moved_at = self.clock.boot();
                backoff.reset();
            }
            let idle = self.clock.boot().saturating_sub(moved_at);
            let left = self.patience.give_up.saturating_sub(idle);
            if left.is_zero() {
                return Err(FetchError::GaveUp {
                    after: self.patience.give_up,
                    have: part.have,
                    wanted: part.wanted,
                    tries: backoff.tries() + 1,
                    last: Box::new(failed),
                });
            }
            let pause = backoff.next_random().min(left);
            let error = comber_runtime::telemetry::error_chain(&failed);
            tracing::info!(%digest, have = part.have, ?pause, error, "fetching goes on after a pause");
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, part: &mut Part, digest: &Digest) -> Result<(), FetchError> {
        if part.have == part.wanted {
            return Ok(());
        }
        let mut body = self.source.open(digest, part.have).await?;
        if body.offset() != part.have {
            // A source without ranges sends all of it; anything else would be no continuation.
            part.restart().await?;
        }
        while let Some(bytes) = body.chunk().await? {
            part.append(&bytes).await?;
        }
        if part.have < part.wanted {
            return Err(FetchError::Short {
                have: part.have,
                wanted: part.wanted,
            });
        }
        Ok(())
    }

    fn discard_others(&self, digest: &Digest) {
        let keep = self.part(digest);
        let Ok(entries) = std::fs::read_dir(&self.staging) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_part = path.extension().is_some_and(|ending| ending == PART);
            if is_part && path != keep {
                // It only costs space, and the next fetch tries again.
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// The file that is being filled.
struct Part {
    path: PathBuf,
    file: File,
    have: u64,
    wanted: u64,
}

impl Part {
    async fn open(path: PathBuf, wanted: u64) -> Result<Self, FetchError> {
        let open = async {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .await?;
            let have = file.seek(io::SeekFrom::End(0)).await?;
            Ok((file, have))
        };
        let (file, have) = open.await.map_err(write_to(&path))?;
        let mut part = Self {
            path,
            file,
            have,
            wanted,
        };
        if part.have > part.wanted {
            part.restart().await?;
        }
        Ok(part)
    }

    async fn restart(&mut self) -> Result<(), FetchError> {
        let restart = async {
            self.file.set_len(0).await?;
            self.file.rewind().await
        };
        restart.await.map_err(write_to(&self.path))?;
        self.have = 0;
        Ok(())
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        if bytes.len() as u64 > self.wanted - self.have {
            return Err(FetchError::TooLong {
                wanted: self.wanted,
            });
        }
        let write = async {
            self.file.write_all(bytes).await?;
            // Without it an error of this write would show at the next one, or never.
            self.file.flush().await
        };
        write.await.map_err(write_to(&self.path))?;
        self.have += bytes.len() as u64;
        Ok(())
    }

    async fn finish(self) -> Result<(), FetchError> {
        self.file.sync_all().await.map_err(write_to(&self.path))
    }
}

fn write_to(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Write { path, source }
}
