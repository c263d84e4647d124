//! One upload while it grows.

use std::path::PathBuf;

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::{ArtifactError, Claim};

/// An open upload. Dropped without [`Upload::finish`] it keeps what came, without a promise that it is durable.
#[derive(Debug)]
pub struct Upload {
    file: File,
    path: PathBuf,
    offset: u64,
    received: u64,
    carried_length: u64,
    _claim: Claim,
}

impl Upload {
    pub(super) async fn open(
        path: PathBuf,
        claim: Claim,
        offset: u64,
        carried_length: u64,
    ) -> Result<Self, ArtifactError> {
        let failed = |source| ArtifactError::io("open the upload", &path, source);
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        let mut file = options.open(&path).await.map_err(failed)?;
        file.set_len(offset).await.map_err(failed)?;
        file.seek(std::io::SeekFrom::End(0)).await.map_err(failed)?;
        Ok(Self {
            file,
            path,
            offset,
            received: offset,
            carried_length,
            _claim: claim,
        })
    }

    /// Adds bytes; more than were announced are refused.
    pub async fn append(&mut self, data: &[u8]) -> Result<(), ArtifactError> {
        let received = self.received.saturating_add(data.len() as u64);
        if received > self.carried_length {
            let length = self.carried_length;
            return Err(ArtifactError::Longer { length });
        }
        if let Err(source) = self.file.write_all(data).await {
            return Err(self.failed("write the upload", source).await);
        }
        self.received = received;
        Ok(())
    }

    /// Makes everything that came durable, the name of a new upload too; gives how much that is.
    pub async fn finish(mut self) -> Result<u64, ArtifactError> {
        let mut synced = self.file.flush().await;
        if synced.is_ok() {
            synced = self.file.sync_data().await;
        }
        if let (Ok(()), Some(dir)) = (&synced, self.path.parent()) {
            synced = sync_dir(dir).await;
        }
        match synced {
            Ok(()) => Ok(self.received),
            Err(source) => Err(self.failed("sync the upload", source).await),
        }
    }

    /// Where the disk is full, gives back what this call took: others need the space more than half an upload does.
    async fn failed(&mut self, step: &'static str, source: std::io::Error) -> ArtifactError {
        let error = ArtifactError::io(step, &self.path, source);
        if matches!(error, ArtifactError::Full { .. }) {
            // Nothing more can be done about it where this fails too.
            let _best_effort = self.file.set_len(self.offset).await;
        }
        error
    }
}

async fn sync_dir(dir: &std::path::Path) -> std::io::Result<()> {
    File::open(dir).await?.sync_all().await
}
