//! What a package database says: names, versions, and how each package stands. Values only.
//!
//! Invariant: a [`Key`] names one package of the host as the database itself tells them apart, so that a package which is
//! built for all architectures in one version and for the host's own in the next is one and the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// Names a package of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key {
    /// The package.
    pub name: String,
    /// The host's own architecture, or a foreign one; never `all` or `noarch`.
    pub arch: String,
}

/// How a package stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// It is there, whole.
    Installed,
    /// It is gone, its configuration stayed.
    ConfigFiles,
    /// Anything between: an interrupted change.
    Broken,
}

/// A package that the database knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Present {
    pub version: String,
    /// As the package itself says, `all` and `noarch` included.
    pub arch: String,
    pub status: Status,
    /// Somebody on the host said that it must not change.
    pub held: bool,
    /// It came as a dependency only.
    pub automatic: bool,
}

/// All packages of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Database {
    pub packages: BTreeMap<Key, Present>,
    /// The host's own architecture.
    pub native: String,
    /// True where the manager was cut off while it wrote the database.
    pub interrupted: bool,
}

impl Database {
    /// The package, where it is there, whole.
    pub(super) fn installed(&self, key: &Key) -> Option<&Present> {
        self.packages
            .get(key)
            .filter(|present| present.status == Status::Installed)
    }

    /// True where no change of it was cut off.
    pub(super) fn is_clean(&self) -> bool {
        !self.interrupted && self.broken().is_empty()
    }

    /// The packages of which an interrupted change left something.
    pub(super) fn broken(&self) -> BTreeSet<&Key> {
        let broken = self
            .packages
            .iter()
            .filter(|(_, present)| present.status == Status::Broken);
        broken.map(|(key, _)| key).collect()
    }

    /// The key of a package that was built for `arch`.
    pub(super) fn key(&self, name: &str, arch: &str) -> Key {
        key(name, arch, &self.native)
    }
}

/// The key of a package that was built for `arch`, on a host of the architecture `native`.
pub(super) fn key(name: &str, arch: &str, native: &str) -> Key {
    let arch = match arch {
        "all" | "noarch" => native,
        arch => arch,
    };
    Key {
        name: name.to_owned(),
        arch: arch.to_owned(),
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.arch)
    }
}

/// What shall become of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Want {
    /// It is there in that version, from that file, where the host still has one.
    At {
        version: String,
        arch: String,
        file: Option<std::path::PathBuf>,
    },
    /// It is gone; where not `purge`, its configuration may stay.
    Gone { purge: bool },
}

impl Want {
    /// Whether that is so.
    pub(super) fn is_met(&self, present: Option<&Present>) -> bool {
        match (self, present) {
            (Self::At { version, arch, .. }, Some(present)) => {
                present.status == Status::Installed
                    && present.version == *version
                    && present.arch == *arch
            }
            (Self::At { .. }, None) => false,
            (Self::Gone { .. }, None) => true,
            (Self::Gone { purge }, Some(present)) => {
                !purge && present.status == Status::ConfigFiles
            }
        }
    }
}

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To the release: dependencies must hold at every step, and a failure ends it.
    Forward,
    /// To what was there before, which is known to fit together: it is the last way out.
    Back,
}

/// Names in one line, for people.
pub(super) fn list<T: fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    names.join(", ")
}
