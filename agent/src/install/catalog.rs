//! What this agent staged: one small record for each release, from before its bytes are in place until they are gone.
//!
//! Reads and writes `<state>/releases/<product>/<slot>.json`. Without it a directory of a release would be bytes of an
//! unknown origin, and its stop command would be unknown after a crash. Invariant: a release whose directory has its
//! final name has a record, written before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use comber_model::release::Manifest;
use comber_model::{Artifact, Digest, ReleaseId, ReleaseName, Version};
use comber_runtime::fsx::{self, FileError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::trust::Verified;

/// The form of the records that this code writes.
const FORMAT: u32 = 1;
/// A manifest is at most 64 KiB as TOML; as JSON with its defaults it stays below this.
const RECORD_MAX: u64 = 1 << 20;

/// A release that was staged here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// Its bytes.
    pub artifact: Artifact,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its place in the order of the product's releases, as signed; absent where an agent that judged nothing staged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<u64>,
}

impl Record {
    /// A record of this version's form.
    pub fn new(artifact: Artifact, manifest: Manifest) -> Self {
        Self {
            format: FORMAT,
            artifact,
            manifest,
            counter: None,
        }
    }

    /// The record of what was verified.
    pub fn of(verified: &Verified) -> Self {
        Self {
            counter: Some(verified.counter()),
            ..Self::new(*verified.artifact(), verified.manifest().clone())
        }
    }

    /// `name@version`.
    pub fn id(&self) -> ReleaseId {
        self.manifest.id()
    }

    /// The name of its directory: readable, and another one for other bytes of the same version.
    pub fn slot(&self) -> String {
        slot(&self.manifest.version, &self.artifact.digest)
    }
}

/// All records.
#[derive(Debug, Clone)]
pub struct Catalog {
    dir: PathBuf,
}

/// A record that could not be read or written.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The disk.
    #[error("the record of a release cannot be kept")]
    File(#[from] FileError),
    /// The directory cannot be listed.
    #[error("cannot list {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Not a record of a form that this version knows.
    #[error("{} is not a record that this version reads", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
}

impl Catalog {
    /// The records of the agent with that state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("releases"),
        }
    }

    /// Makes a record durable.
    pub fn put(&self, record: &Record) -> Result<(), CatalogError> {
        let path = self.path(&record.manifest.name, &record.slot());
        let dir = self.product(&record.manifest.name);
        let json = serde_json::to_vec_pretty(record).map_err(|source| CatalogError::Damaged {
            path: path.clone(),
            source,
        })?;
        fsx::create_dir_durable(&dir, 0o700)?;
        fsx::write_atomic(&path, &json, 0o600)?;
        Ok(())
    }

    /// The record of that release, if it is one of ours. By the full digest: the short one in a path decides nothing.
    pub fn find(
        &self,
        name: &ReleaseName,
        version: &Version,
        digest: &Digest,
    ) -> Result<Option<Record>, CatalogError> {
        let found = self.by_slot(name, &slot(version, digest))?;
        Ok(found.filter(|record| record.artifact.digest == *digest))
    }

    /// The record behind the name of a directory. One that cannot be understood is as good as lost: staging the release
    /// again writes it anew.
    pub fn by_slot(&self, name: &ReleaseName, slot: &str) -> Result<Option<Record>, CatalogError> {
        match read(&self.path(name, slot)) {
            Err(error @ CatalogError::Damaged { .. }) => {
                let error = comber_runtime::telemetry::error_chain(&error);
                tracing::warn!(error, "a record of a release counts as lost");
                Ok(None)
            }
            read => read,
        }
    }

    /// The products that have records.
    pub fn products(&self) -> Result<Vec<ReleaseName>, CatalogError> {
        let names = list(&self.dir)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// All records of a product. One that cannot be read is left out and logged: it must not hide the others.
    pub fn of(&self, name: &ReleaseName) -> Result<Vec<Record>, CatalogError> {
        let dir = self.product(name);
        let mut records = Vec::new();
        for file in list(&dir)? {
            // What an interrupted write left behind.
            if file.starts_with('.') {
                continue;
            }
            match read(&dir.join(file)) {
                Ok(record) => records.extend(record),
                Err(error) => {
                    let error = comber_runtime::telemetry::error_chain(&error);
                    tracing::warn!(error, "a record of a release is left out");
                }
            }
        }
        Ok(records)
    }

    /// Forgets a release, once its bytes are gone.
    pub fn remove(&self, record: &Record) -> Result<(), CatalogError> {
        let name = &record.manifest.name;
        fsx::remove_durable(&self.path(name, &record.slot()))?;
        // Stays while there are others.
        let _ = fs::remove_dir(self.product(name));
        Ok(())
    }

    fn product(&self, name: &ReleaseName) -> PathBuf {
        self.dir.join(name.as_str())
    }

    fn path(&self, name: &ReleaseName, slot: &str) -> PathBuf {
        self.product(name).join(format!("{slot}.json"))
    }
}

fn slot(version: &Version, digest: &Digest) -> String {
    format!("{version}-{}", digest.short())
}

fn read(path: &Path) -> Result<Option<Record>, CatalogError> {
    let bytes = match fsx::read_limited(path, RECORD_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let damaged = |source| CatalogError::Damaged {
        path: path.to_owned(),
        source,
    };
    let record: Record = serde_json::from_slice(&bytes).map_err(damaged)?;
    if record.format != FORMAT {
        let problem = format!("form {}, not {FORMAT}", record.format);
        return Err(damaged(serde::de::Error::custom(problem)));
    }
    Ok(Some(record))
}

fn list(dir: &Path) -> Result<Vec<String>, CatalogError> {
    let failed = |source| CatalogError::List {
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        names.extend(name.into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}
