//! The files of a repository: published metadata, what is being prepared, and targets.
//!
//! ```text
//!   metadata/N.root.json V.targets.json V.snapshot.json timestamp.json     published; never changed, but the timestamp
//!   targets/<sha256>.<product>-<version>.rel                               the bundles, decoded
//!   staged/root.json targets.json snapshot.json timestamp.json             being prepared, with the signatures so far
//! ```
//!
//! Every write is atomic and synced. Invariant: the timestamp is written last, so a reader never meets metadata that names
//! files which are not there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use comber_runtime::fsx::{self, FileError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tough::schema::{Role, Root, Signed, Snapshot, Targets, Timestamp};

/// Longest metadata file of any role that is read.
pub(crate) const METADATA_MAX: u64 = 8 << 20;

/// A file of a repository that cannot be used.
#[derive(Debug, Error)]
pub enum FilesError {
    /// The disk.
    #[error("a file of the repository cannot be used")]
    File(#[from] FileError),
    /// Not metadata.
    #[error("{} is not metadata of that role", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// There is no repository.
    #[error("{} is not a repository; make one with: comber repo init", .0.display())]
    Missing(PathBuf),
    /// There is one.
    #[error("{} is a repository already", .0.display())]
    Exists(PathBuf),
}

/// One repository on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    dir: PathBuf,
}

/// The newest published role of each kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    pub(crate) root: Option<Signed<Root>>,
    pub(crate) targets: Option<Signed<Targets>>,
    pub(crate) snapshot: Option<Signed<Snapshot>>,
    pub(crate) timestamp: Option<Signed<Timestamp>>,
}

/// What is being prepared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Staged {
    pub(crate) root: Option<Signed<Root>>,
    pub(crate) targets: Option<Signed<Targets>>,
    pub(crate) snapshot: Option<Signed<Snapshot>>,
    pub(crate) timestamp: Option<Signed<Timestamp>>,
}

impl Files {
    pub(crate) fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    pub(crate) fn create(&self) -> Result<(), FilesError> {
        if self.is_there() {
            return Err(FilesError::Exists(self.dir.clone()));
        }
        for part in ["metadata", "targets", "staged"] {
            fsx::create_dir_durable(&self.dir.join(part), 0o755)?;
        }
        Ok(())
    }

    pub(crate) fn must_exist(&self) -> Result<(), FilesError> {
        if self.is_there() {
            return Ok(());
        }
        Err(FilesError::Missing(self.dir.clone()))
    }

    fn is_there(&self) -> bool {
        self.metadata().is_dir()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn metadata(&self) -> PathBuf {
        self.dir.join("metadata")
    }

    pub(crate) fn targets(&self) -> PathBuf {
        self.dir.join("targets")
    }

    fn staged_path(&self, role: &str) -> PathBuf {
        self.dir.join("staged").join(format!("{role}.json"))
    }

    /// The newest of each role that is published.
    pub(crate) fn published(&self) -> Result<Published, FilesError> {
        let mut published = Published {
            timestamp: Self::read(&self.metadata().join("timestamp.json"))?,
            ..Published::default()
        };
        let mut number = 1_u64;
        while let Some(root) = self.root(number)? {
            published.root = Some(root);
            number += 1;
        }
        // What the timestamp does not name is not published yet, whatever lies there after a crash.
        if let Some(timestamp) = &published.timestamp
            && let Some(snapshot) = timestamp.signed.meta.get("snapshot.json")
        {
            let name = format!("{}.snapshot.json", snapshot.version);
            published.snapshot = Self::read(&self.metadata().join(name))?;
        }
        if let Some(snapshot) = &published.snapshot
            && let Some(targets) = snapshot.signed.meta.get("targets.json")
        {
            let name = format!("{}.targets.json", targets.version);
            published.targets = Self::read(&self.metadata().join(name))?;
        }
        Ok(published)
    }

    pub(crate) fn root(&self, number: u64) -> Result<Option<Signed<Root>>, FilesError> {
        Self::read(&self.metadata().join(format!("{number}.root.json")))
    }

    pub(crate) fn staged(&self) -> Result<Staged, FilesError> {
        Ok(Staged {
            root: Self::read(&self.staged_path("root"))?,
            targets: Self::read(&self.staged_path("targets"))?,
            snapshot: Self::read(&self.staged_path("snapshot"))?,
            timestamp: Self::read(&self.staged_path("timestamp"))?,
        })
    }

    pub(crate) fn stage<T: Role + Serialize>(&self, role: &Signed<T>) -> Result<(), FilesError> {
        Self::write(&self.staged_path(&T::TYPE.to_string()), role)
    }

    pub(crate) fn unstage<T: Role>(&self) -> Result<(), FilesError> {
        Ok(fsx::remove_durable(
            &self.staged_path(&T::TYPE.to_string()),
        )?)
    }

    pub(crate) fn publish<T: Role + Serialize>(&self, role: &Signed<T>) -> Result<(), FilesError> {
        let name = role.signed.filename(true);
        Self::write(&self.metadata().join(name), role)
    }

    fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), FilesError> {
        let json = serde_json::to_vec(value).map_err(damaged(path))?;
        Ok(fsx::write_atomic(path, &json, 0o644)?)
    }

    fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FilesError> {
        match fsx::read_limited(path, METADATA_MAX) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(damaged(path))?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Copies what is published, without what is being prepared: for a controller, or for a site without a network.
    pub(crate) fn export(&self, to: &Path) -> io::Result<u64> {
        let mut copied = 0;
        for part in ["targets", "metadata"] {
            let (from, into) = (self.dir.join(part), to.join(part));
            fs::create_dir_all(&into)?;
            let mut names: Vec<_> = fs::read_dir(&from)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<Result<_, _>>()?;
            // The timestamp last, as when publishing.
            names.sort_by_key(|name| name == "timestamp.json");
            for name in names
                .iter()
                .filter(|name| !name.to_string_lossy().starts_with('.'))
            {
                let bytes = fs::copy(from.join(name), into.join(name))?;
                fs::File::open(into.join(name))?.sync_all()?;
                copied += bytes;
            }
            fs::File::open(&into)?.sync_all()?;
        }
        Ok(copied)
    }
}

fn damaged(path: &Path) -> impl FnOnce(serde_json::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Damaged { path, source }
}
