//! The host's own package manager, whichever it is.
//!
//! Decides nothing but who is asked. Invariant: both families promise the same of each call.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use comber_model::release::Dependencies;
use serde::{Deserialize, Serialize};

use super::deb::{Deb, Plan};
use super::error::PackageError;
use super::file::PackageFile;
use super::rpm::Rpm;
use super::state::{Database, Key, Present, Want, Way};
use super::tools::Tools;
use super::version;

/// The two families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Family {
    Deb,
    Rpm,
}

impl Family {
    /// The one of the host with that tree.
    pub(super) fn of(root: &Path) -> Option<Self> {
        if Deb::is_on(root) {
            Some(Self::Deb)
        } else if Rpm::is_on(root) {
            Some(Self::Rpm)
        } else {
            None
        }
    }

    /// How the names of its files end.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }

    pub(super) fn compare(self, left: &str, right: &str) -> Ordering {
        match self {
            Self::Deb => version::deb(left, right),
            Self::Rpm => version::rpm(left, right),
        }
    }
}

/// The manager of one host.
#[derive(Debug)]
pub(super) enum Manager {
    Deb(Deb),
    Rpm(Rpm),
}

impl Manager {
    pub(super) fn new(family: Family, tools: Tools) -> Self {
        match family {
            Family::Deb => Self::Deb(Deb::new(tools)),
            Family::Rpm => Self::Rpm(Rpm::new(tools)),
        }
    }

    pub(super) fn family(&self) -> Family {
        match self {
            Self::Deb(_) => Family::Deb,
            Self::Rpm(_) => Family::Rpm,
        }
    }

    /// The host's own architecture, then the foreign ones that it allows.
    pub(super) async fn architectures(&self) -> Result<Vec<String>, PackageError> {
        match self {
            Self::Deb(deb) => deb.architectures().await,
            Self::Rpm(rpm) => rpm.architectures().await,
        }
    }

    /// What is there, on a host of that architecture.
    pub(super) fn database(&self, native: &str) -> Result<Database, PackageError> {
        match self {
            Self::Deb(deb) => deb.database(native),
            Self::Rpm(rpm) => rpm.database(native),
        }
    }

    /// What is not consistent; empty where all is.
    pub(super) async fn audit(&self, native: &str) -> Result<String, PackageError> {
        match self {
            Self::Deb(deb) => deb.audit().await,
            Self::Rpm(rpm) => rpm.audit(native),
        }
    }

    /// Whether what these packages need is there; dpkg configures none without it.
    pub(super) async fn prove(
        &self,
        keys: &[&Key],
        database: &Database,
    ) -> Result<(), PackageError> {
        match self {
            Self::Deb(_) => Ok(()),
            Self::Rpm(rpm) => rpm.prove(keys, database).await,
        }
    }

    /// What a file says of itself.
    pub(super) async fn read(&self, path: &Path) -> Result<PackageFile, PackageError> {
        match self {
            Self::Deb(deb) => deb.read(path).await,
            Self::Rpm(rpm) => rpm.read(path).await,
        }
    }

    /// What installing the files, and nothing else, would do.
    pub(super) async fn plan(
        &self,
        files: &[PackageFile],
        database: &Database,
    ) -> Result<Plan, PackageError> {
        match self {
            Self::Deb(deb) => {
                let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
                deb.plan(&paths, Dependencies::Carried, database).await
            }
            Self::Rpm(rpm) => rpm.plan(files, database).await,
        }
    }

    /// Downloads what the files need beside themselves from the host's own sources.
    pub(super) async fn bring(
        &self,
        files: &[PackageFile],
        into: &Path,
        database: &Database,
    ) -> Result<(), PackageError> {
        match self {
            Self::Deb(deb) => deb.bring(files, into, database).await,
            Self::Rpm(rpm) => rpm.bring(files, into).await,
        }
    }

    /// Where the manager itself may have kept the file of a package.
    pub(super) fn cached(&self, key: &Key, present: &Present) -> Vec<PathBuf> {
        match self {
            Self::Deb(deb) => deb.cached(key, present),
            Self::Rpm(rpm) => rpm.cached(key, present),
        }
    }

    /// Downloads the file of what is installed from the host's own sources.
    pub(super) async fn download(
        &self,
        key: &Key,
        present: &Present,
        into: &Path,
    ) -> Result<(), PackageError> {
        match self {
            Self::Deb(deb) => deb.download(key, &present.version, into).await,
            Self::Rpm(rpm) => rpm.download(key, present, into).await,
        }
    }

    /// Builds the file of what is installed anew.
    pub(super) async fn repack(
        &self,
        key: &Key,
        present: &Present,
        native: &str,
        to: &Path,
    ) -> Result<(), PackageError> {
        match self {
            Self::Deb(deb) => deb.repack(key, present, native, to).await,
            Self::Rpm(_) => Err(PackageError::NoWayBack {
                package: key.to_string(),
                version: present.version.clone(),
                why: "no file of it is left, and rpm cannot rebuild one".to_owned(),
            }),
        }
    }

    /// The locks that its runs take.
    pub(super) fn locks(&self) -> Vec<PathBuf> {
        match self {
            Self::Deb(deb) => deb.locks(),
            Self::Rpm(rpm) => rpm.locks(),
        }
    }

    /// Takes in what an interrupted run left.
    pub(super) async fn mend(&self, way: Way) -> Result<(), PackageError> {
        match self {
            Self::Deb(deb) => deb.mend(way).await,
            Self::Rpm(_) => Ok(()),
        }
    }

    /// Brings about what is wanted, from whatever an interrupted run left.
    pub(super) async fn reach(
        &self,
        wants: &[(Key, Want)],
        database: &Database,
        way: Way,
    ) -> Result<(), PackageError> {
        match self {
            Self::Deb(deb) => deb.reach(wants, database, way).await,
            Self::Rpm(rpm) => rpm.reach(wants, database, way).await,
        }
    }

    /// The package's configuration files that were changed on the host.
    pub(super) async fn edited(&self, key: &Key) -> Result<BTreeSet<String>, PackageError> {
        match self {
            Self::Deb(deb) => deb.edited(key).await,
            Self::Rpm(_) => Ok(BTreeSet::new()),
        }
    }

    /// Brings back configuration that a power cut tore, but for what was changed before.
    pub(super) async fn restore_torn(
        &self,
        wants: &[(Key, Want)],
        edited: &[String],
    ) -> Result<(), PackageError> {
        match self {
            Self::Deb(deb) => deb.restore_torn(wants, edited).await,
            // rpm replaces configuration that nobody changed, and an empty one it calls changed and renames.
            Self::Rpm(_) => Ok(()),
        }
    }

    /// Notes which packages came as dependencies only. A run of rpm itself leaves dnf's notes alone.
    pub(super) async fn mark(&self, keys: &[&Key], automatic: bool) -> Result<(), PackageError> {
        match self {
            Self::Deb(deb) => deb.mark(keys, automatic).await,
            Self::Rpm(_) => Ok(()),
        }
    }
}
