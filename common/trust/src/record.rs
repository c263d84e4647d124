//! What a verifier has trusted so far: one durable file.
//!
//! Reads and writes that file only, replaced atomically. It holds the newest metadata as it was signed, so that nothing older
//! is ever believed again, and a digest of its own content. Invariant: a record that is damaged or gone is an error, and never
//! the same as having trusted nothing: only a person begins anew.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use comber_runtime::fsx::{self, FileError};
use jiff::Timestamp as Instant;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::key::hex;

/// The form of the file that this code writes.
const FORMAT: u32 = 1;
/// Four roles at their limits, as text in JSON.
const RECORD_MAX: u64 = 48 << 20;

/// The newest metadata that was trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The newest root.
    pub root: String,
    /// The newest timestamp; absent until the first look.
    pub timestamp: Option<String>,
    /// The newest snapshot.
    pub snapshot: Option<String>,
    /// The newest list of releases.
    pub targets: Option<String>,
    /// The latest time at which metadata was trusted. What had ended by then is not believed, whatever the clock shows.
    pub trusted_at: Option<Instant>,
}

/// The file: the record with a digest over it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    sha256: String,
    record: String,
}

/// A record that cannot be used.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The disk.
    #[error("the record of what is trusted cannot be used")]
    File(#[from] FileError),
    /// Not what was written.
    #[error(
        "{} is damaged ({problem}); nothing is installed until somebody on this machine has looked and begins anew from the \
         root that the publisher hands out: comber-agent trust reset",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is none.
    #[error("{} is not there: this machine trusts no publisher yet, or its record was removed", .0.display())]
    Missing(PathBuf),
}

impl Record {
    /// Nothing but a root that somebody handed over.
    pub fn pinned(root: String) -> Self {
        Self {
            root,
            timestamp: None,
            snapshot: None,
            targets: None,
            trusted_at: None,
        }
    }

    /// Reads what [`Record::save`] wrote.
    pub fn load(path: &Path) -> Result<Self, RecordError> {
        let bytes = match fsx::read_limited(path, RECORD_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RecordError::Missing(path.to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        parse(&bytes).map_err(|problem| RecordError::Damaged {
            path: path.to_owned(),
            problem,
        })
    }

    /// Makes it durable.
    pub fn save(&self, path: &Path) -> Result<(), RecordError> {
        let failed = |error: serde_json::Error| RecordError::Damaged {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        let record = serde_json::to_string(self).map_err(failed)?;
        let written = Written {
            format: FORMAT,
            sha256: hex(digest(&SHA256, record.as_bytes()).as_ref()),
            record,
        };
        let bytes = serde_json::to_vec(&written).map_err(failed)?;
        Ok(fsx::write_atomic(path, &bytes, 0o600)?)
    }
}

fn parse(bytes: &[u8]) -> Result<Record, String> {
    let written: Written = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if written.format != FORMAT {
        return Err(format!("form {}, not {FORMAT}", written.format));
    }
    if hex(digest(&SHA256, written.record.as_bytes()).as_ref()) != written.sha256 {
        return Err("its digest is another one".to_owned());
    }
    serde_json::from_str(&written.record).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_or_missing_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        let missing = Record::load(&path).unwrap_err();
        assert!(matches!(missing, RecordError::Missing(_)), "{missing}");
        let record = Record {
            timestamp: Some("{}".to_owned()),
            trusted_at: Some(Instant::UNIX_EPOCH),
            ..Record::pinned("{\"signed\":1}".to_owned())
        };
        record.save(&path).unwrap();
        assert_eq!(Record::load(&path).unwrap(), record);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let cut = Record::load(&path).unwrap_err();
            assert!(
                matches!(cut, RecordError::Damaged { .. }),
                "{length}: {cut}"
            );
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                std::fs::write(&path, &flipped).unwrap();
                // A flip in the name of a letter's case in the digest is still not the digest.
                assert!(Record::load(&path).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}
