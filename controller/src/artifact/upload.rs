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
            received: offset,
            carried_length,
            _claim: claim,
        })
    }

    /// Adds bytes; more than were announced are refused.
    pub async fn append(&mut self, data: &[u8]) -> Result<(), ArtifactError> {
        let received = self.received.saturating_add(data.len() as u64);
        if received > self.carried_length {
            let (length, max) = (received, self.carried_length);
            return Err(ArtifactError::TooLarge { length, max });
        }
        let written = self.file.write_all(data).await;
        written.map_err(|source| ArtifactError::io("write the upload", &self.path, source))?;
        self.received = received;
        Ok(())
    }

    /// Makes everything that came durable; gives how much that is.
    pub async fn finish(mut self) -> Result<u64, ArtifactError> {
        let failed = |source| ArtifactError::io("sync the upload", &self.path, source);
        self.file.flush().await.map_err(failed)?;
        self.file.sync_data().await.map_err(failed)?;
        Ok(self.received)
    }
}
