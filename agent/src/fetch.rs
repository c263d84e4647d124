//! Brings carried bytes to the host: resumes where it stopped, and tries again for as long as it is let.
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
use comber_runtime::fsx::{self, FileError};
use thiserror::Error;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::watch;

pub use https::{HttpsBody, HttpsSource, MakeTls};

use crate::link::LinkView;
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
}

impl Default for Patience {
    /// A dropped connection costs a second or so; a controller that is down is asked every minute on average.
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_secs(2),
            backoff_max: Duration::from_mins(2),
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
            Self::TooLong { .. } | Self::Write { .. } | Self::Staging(_) => false,
        }
    }
}

/// Fetches artifacts.
#[derive(Debug)]
pub struct Fetcher<S> {
    source: S,
    staging: PathBuf,
    patience: Patience,
    link: watch::Receiver<LinkView>,
}

impl<S: Source> Fetcher<S> {
    /// Keeps its parts in `<state_dir>/staging`. The link tells when a source that was away may be back.
    pub fn new(
        source: S,
        state_dir: &Path,
        patience: Patience,
        link: watch::Receiver<LinkView>,
    ) -> Self {
        Self {
            source,
            staging: state_dir.join("staging"),
            patience,
            link,
        }
    }

    /// Where the bytes come from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The directory of the parts.
    pub fn staging(&self) -> &Path {
        &self.staging
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

    /// Brings all bytes and makes them durable. A source that is away is asked again without end: giving up is for
    /// whoever drops the future. Parts of other artifacts are removed: a host has one assignment.
    ///
    /// Cancelled or failed, it leaves what came, and the next call goes on from there.
    pub async fn fetch(&self, artifact: &Artifact) -> Result<Unverified, FetchError> {
        fsx::create_dir_durable(&self.staging, 0o700)?;
        let path = self.part(&artifact.digest);
        self.sweep(Some(&path));
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
        loop {
            let before = part.have;
            let opened = self.link.borrow().opened;
            let failed = match self.once(part, digest).await {
                Ok(()) => return Ok(()),
                Err(error) if !error.is_retryable() => return Err(error),
                Err(error) => error,
            };
            if part.have > before {
                backoff.reset();
            }
            let pause = backoff.next_random();
            let error = comber_runtime::telemetry::error_chain(&failed);
            tracing::info!(%digest, have = part.have, ?pause, error, "fetching goes on after a pause");
            if self.comes_back(opened, pause).await {
                // The hosts that lost the controller have their links back in one moment, so each draws a pause anew.
                backoff.reset();
                tokio::time::sleep(backoff.next_random()).await;
            }
        }
    }

    /// Waits for the pause, or less where the link was opened again since: true then. A long pause is for a controller
    /// that is away, and must not outlast that.
    async fn comes_back(&self, opened: u64, pause: Duration) -> bool {
        let mut link = self.link.clone();
        tokio::select! {
            // Both arms are cancel-safe: a timer, and a look at the newest value.
            () = tokio::time::sleep(pause) => false,
            Ok(_) = link.wait_for(|view| view.opened != opened) => true,
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

    /// Removes the bytes of all artifacts.
    pub fn discard_all(&self) {
        self.sweep(None);
    }

    fn sweep(&self, keep: Option<&Path>) {
        let Ok(entries) = std::fs::read_dir(&self.staging) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_part = path.extension().is_some_and(|ending| ending == PART);
            if is_part && Some(&*path) != keep {
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

#[cfg(test)]
mod tests;
