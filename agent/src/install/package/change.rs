//! The record of a change: what each package was before and shall be after, on the disk before anything is changed.
//!
//! ```text
//!   <shelf>/changes/2.4.1-a1b2c3d4e5f6/change.json    of the change to that release
//!                                      kept/          the files of what it replaced
//!                                      brought/       what it needed from the host's own sources
//!   <shelf>/changes/origin/                           what was there before the product's first release
//!   <shelf>/changes/removed/                          of the change to nothing
//! ```
//!
//! Reads and writes these and nothing else. Invariant: a record says what was there before its change began, whatever
//! happened since; only its mark that the change has ended comes and goes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use comber_runtime::fsx::{self, FileError};
use serde::{Deserialize, Serialize};

use super::error::PackageError;
use super::manager::Family;
use super::state::{Key, Want};

/// The form of the records that this code writes.
const FORMAT: u32 = 1;
/// Longest record: a thousand packages take less than 1 MiB.
const RECORD_MAX: u64 = 16 << 20;
/// Names that no release's directory has: those end with a digest.
const ORIGIN: &str = "origin";
const REMOVED: &str = "removed";

/// A change of the host's packages, from one release of a product to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    format: u32,
    pub family: Family,
    /// The host's own architecture, by which names of packages are told apart.
    pub native: String,
    /// The release before, by the name of its directory; absent where there was none.
    pub from: Option<String>,
    /// The release after; absent where the product was removed.
    pub to: Option<String>,
    /// Each package that it changes.
    pub touched: Vec<Touched>,
    /// Each package that the release carries for this host, whether it was there before or not.
    pub holds: Vec<Held>,
    /// True where a newer version than a carried one satisfies the release.
    pub newer_kept: bool,
    /// Configuration files of these packages that were changed on the host before.
    pub edited: Vec<String>,
    /// The boot in which it began, or began to be undone.
    pub boot: String,
    /// True once the release after was made current, and until it begins to be undone.
    pub ended: bool,
}

/// One package that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Touched {
    pub key: Key,
    pub before: Was,
    pub after: Will,
}

/// What a package was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "was")]
pub(super) enum Was {
    Absent,
    /// Its configuration only.
    ConfigFiles,
    Installed {
        version: String,
        arch: String,
        automatic: bool,
        /// Its package file, below the shelf's directory. Absent where none was to be had, for an irreversible release.
        file: Option<PathBuf>,
    },
}

/// What a package shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "will")]
pub(super) enum Will {
    Go {
        /// True where not even its configuration stays.
        purge: bool,
    },
    Be {
        version: String,
        arch: String,
        automatic: bool,
        /// Its package file, below the shelf's directory.
        file: PathBuf,
    },
}

/// A package that a release carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub key: Key,
    pub version: String,
}

impl Change {
    /// A change that has not begun.
    pub(super) fn new(
        family: Family,
        native: String,
        from: Option<String>,
        to: Option<String>,
    ) -> Self {
        Self {
            format: FORMAT,
            family,
            native,
            from,
            to,
            touched: Vec::new(),
            holds: Vec::new(),
            newer_kept: false,
            edited: Vec::new(),
            boot: String::new(),
            ended: false,
        }
    }

    /// Takes over what an earlier change to the same release from the same one said of the time before it: this one only
    /// makes good what was lost since.
    pub(super) fn go_on_from(&mut self, made: Self) {
        if made.from != self.from {
            return;
        }
        for earlier in made.touched {
            match self.touched.iter_mut().find(|one| one.key == earlier.key) {
                Some(again) => again.before = earlier.before,
                None => self.touched.push(earlier),
            }
        }
    }

    /// What it brings about, with files in that directory of the shelf.
    pub(super) fn forward(&self, dir: &Path) -> Vec<(Key, Want)> {
        let want = |touched: &Touched| match &touched.after {
            Will::Go { purge } => Want::Gone { purge: *purge },
            Will::Be {
                version,
                arch,
                file,
                ..
            } => Want::At {
                version: version.clone(),
                arch: arch.clone(),
                file: Some(dir.join(file)),
            },
        };
        self.touched
            .iter()
            .map(|touched| (touched.key.clone(), want(touched)))
            .collect()
    }

    /// What undoes it.
    pub(super) fn back(&self, dir: &Path) -> Vec<(Key, Want)> {
        let want = |touched: &Touched| match &touched.before {
            Was::Absent => Want::Gone { purge: true },
            Was::ConfigFiles => Want::Gone { purge: false },
            Was::Installed {
                version,
                arch,
                file,
                ..
            } => Want::At {
                version: version.clone(),
                arch: arch.clone(),
                file: file.as_ref().map(|file| dir.join(file)),
            },
        };
        self.touched
            .iter()
            .map(|touched| (touched.key.clone(), want(touched)))
            .collect()
    }

    /// Which packages shall be noted as dependencies once it is done, and which as wanted.
    pub(super) fn marks(&self, undone: bool) -> Vec<(&Key, bool)> {
        let mark = |touched: &Touched| match (undone, &touched.before, &touched.after) {
            (true, Was::Installed { automatic, .. }, _)
            | (false, _, Will::Be { automatic, .. }) => Some(*automatic),
            (true, Was::Absent | Was::ConfigFiles, _) | (false, _, Will::Go { .. }) => None,
        };
        let marked = self
            .touched
            .iter()
            .filter_map(|touched| Some((&touched.key, mark(touched)?)));
        marked.collect()
    }
}

/// The changes of one product.
#[derive(Debug, Clone)]
pub(super) struct Changes {
    shelf: PathBuf,
}

impl Changes {
    pub(super) fn new(shelf: &Path) -> Self {
        Self {
            shelf: shelf.to_owned(),
        }
    }

    /// Where paths in records begin.
    pub(super) fn shelf(&self) -> &Path {
        &self.shelf
    }

    /// Where the files of what a change replaces are kept. Of the agent alone: they may hold secrets of the host.
    pub(super) fn kept(&self, to: Option<&str>) -> Result<PathBuf, PackageError> {
        self.make(to.unwrap_or(REMOVED), "kept")
    }

    /// Where what a change needs is brought.
    pub(super) fn brought(&self, to: &str) -> Result<PathBuf, PackageError> {
        self.make(to, "brought")
    }

    /// Where the files of what was there before the product are kept.
    pub(super) fn origin_kept(&self) -> Result<PathBuf, PackageError> {
        self.make(ORIGIN, "kept")
    }

    /// The record of the change to a release, or to nothing.
    pub(super) fn to(&self, to: Option<&str>) -> Result<Option<Change>, PackageError> {
        read(&self.file(to.unwrap_or(REMOVED)))
    }

    /// What was there before the product's first release.
    pub(super) fn origin(&self) -> Result<Option<Change>, PackageError> {
        read(&self.file(ORIGIN))
    }

    pub(super) fn put_origin(&self, origin: &Change) -> Result<(), PackageError> {
        self.write(ORIGIN, origin)
    }

    /// The one that has begun and not ended.
    pub(super) fn pending(&self) -> Result<Option<Change>, PackageError> {
        for name in self.names()? {
            if name == ORIGIN {
                continue;
            }
            if let Some(change) = read(&self.file(&name))?.filter(|change| !change.ended) {
                return Ok(Some(change));
            }
        }
        Ok(None)
    }

    /// Makes a record durable, before its change begins; or notes that it has ended.
    pub(super) fn put(&self, change: &Change) -> Result<(), PackageError> {
        self.write(change.to.as_deref().unwrap_or(REMOVED), change)
    }

    /// Forgets a change that was undone. Its files stay: whatever is tried next may want them.
    pub(super) fn forget(&self, change: &Change) -> Result<(), PackageError> {
        let file = self.file(change.to.as_deref().unwrap_or(REMOVED));
        fsx::remove_durable(&file).map_err(at(&file))
    }

    /// Removes the changes to releases that are not among those kept; with none, all of them.
    pub(super) fn sweep(&self, slots: &[String]) -> Result<(), PackageError> {
        if slots.is_empty() {
            let all = self.shelf.join("changes");
            return remove_all(&all);
        }
        for name in self.names()? {
            if name != ORIGIN && name != REMOVED && !slots.contains(&name) {
                remove_all(&self.shelf.join("changes").join(name))?;
            }
        }
        Ok(())
    }

    /// A path as records hold it.
    pub(super) fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.shelf).unwrap_or(path).to_owned()
    }

    /// The directories in which package files of the product may be.
    pub(super) fn places(&self) -> Result<Vec<PathBuf>, PackageError> {
        let mut places = vec![self.shelf.join("releases")];
        places.extend(
            self.names()?
                .into_iter()
                .map(|name| self.shelf.join("changes").join(name)),
        );
        Ok(places)
    }

    fn names(&self) -> Result<Vec<String>, PackageError> {
        let dir = self.shelf.join("changes");
        let failed = |source| PackageError::Read {
            path: dir.clone(),
            source,
        };
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn make(&self, name: &str, kind: &str) -> Result<PathBuf, PackageError> {
        let dir = self.shelf.join("changes").join(name).join(kind);
        fsx::create_dir_durable(&dir, 0o700).map_err(at(&dir))?;
        Ok(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.shelf.join("changes").join(name).join("change.json")
    }

    fn write(&self, name: &str, change: &Change) -> Result<(), PackageError> {
        let file = self.file(name);
        let damaged = |why: serde_json::Error| PackageError::Record {
            path: file.clone(),
            why: why.to_string(),
        };
        let json = serde_json::to_vec_pretty(change).map_err(damaged)?;
        let dir = self.shelf.join("changes").join(name);
        fsx::create_dir_durable(&dir, 0o700).map_err(at(&dir))?;
        fsx::write_atomic(&file, &json, 0o600).map_err(at(&file))
    }
}

/// Makes a file and its name durable.
pub(super) fn sync(file: &Path) -> Result<(), PackageError> {
    let synced = File::open(file).and_then(|open| open.sync_all());
    synced.map_err(|source| PackageError::Read {
        path: file.to_owned(),
        source,
    })?;
    match file.parent() {
        Some(dir) => fsx::fsync_dir(dir).map_err(at(dir)),
        None => Ok(()),
    }
}

fn read(path: &Path) -> Result<Option<Change>, PackageError> {
    let bytes = match fsx::read_limited(path, RECORD_MAX) {
        Ok(bytes) => bytes,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(at(path)(error)),
    };
    let damaged = |why: String| PackageError::Record {
        path: path.to_owned(),
        why,
    };
    let change: Change =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if change.format != FORMAT {
        return Err(damaged(format!(
            "it has form {}, not {FORMAT}",
            change.format
        )));
    }
    Ok(Some(change))
}

fn remove_all(dir: &Path) -> Result<(), PackageError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PackageError::Read {
            path: dir.to_owned(),
            source: error,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn at(path: &Path) -> impl FnOnce(FileError) -> PackageError {
    let path = path.to_owned();
    move |error| PackageError::Read {
        path,
        source: io::Error::new(error.kind(), error),
    }
}

#[cfg(test)]
mod tests;
