//! Tells cheaply whether a package database changed: by size, number and time of its files.
//!
//! Invariant: equal stamps of a database that its own tools write mean equal packages. dpkg replaces its file as a whole,
//! so its number changes even within the precision of time.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What dpkg writes: the database, and what of it is not merged yet.
const DPKG: [&str; 2] = ["var/lib/dpkg/status", "var/lib/dpkg/updates"];
/// Where rpm keeps its database, by age of the distribution and format.
const RPM: [&str; 8] = [
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite-wal",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/rpmdb.sqlite-wal",
    "usr/lib/sysimage/rpm/Packages.db",
    "usr/lib/sysimage/rpm/Packages",
];

/// The state of some files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Seen>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    file: &'static str,
    number: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Of dpkg's database.
    pub(crate) fn of_dpkg(root: &Path) -> Self {
        Self::of(root, &DPKG)
    }

    /// Of rpm's database.
    pub(crate) fn of_rpm(root: &Path) -> Self {
        Self::of(root, &RPM)
    }

    /// Of both.
    pub(crate) fn of_all(root: &Path) -> Self {
        let mut all = Self::of_dpkg(root);
        all.0.extend(Self::of_rpm(root).0);
        all
    }

    /// True where there is no such database.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(root: &Path, files: &[&'static str]) -> Self {
        let seen = files.iter().filter_map(|file| {
            let metadata = std::fs::metadata(root.join(file)).ok()?;
            Some(Seen {
                file,
                number: metadata.ino(),
                size: metadata.size(),
                changed: (metadata.mtime(), metadata.mtime_nsec()),
            })
        });
        Self(seen.collect())
    }
}
