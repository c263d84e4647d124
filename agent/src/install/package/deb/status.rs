//! Reads what dpkg and apt wrote down of a host's packages.
//!
//! Reads files and runs nothing, so that what is active can be told at any instant, also while dpkg runs. What dpkg has
//! written to its journal and not yet to its database counts. Invariant: what cannot be understood is an error or a broken
//! package, never an absent one.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use comber_runtime::fsx;

use super::super::error::PackageError;
use super::super::state::{Database, Key, Present, Status, key};

/// A host with ten thousand packages has a database of 20 MB.
const DATABASE_MAX: u64 = 256 << 20;

/// The packages of the host with that tree and that architecture.
pub(super) fn read(root: &Path, native: &str) -> Result<Database, PackageError> {
    let dir = root.join("var/lib/dpkg");
    let mut database = Database {
        native: native.to_owned(),
        ..Database::default()
    };
    take(&text(&dir.join("status"))?, &mut database);
    for name in journal(&dir)? {
        database.interrupted = true;
        take(&text(&dir.join("updates").join(name))?, &mut database);
    }
    let automatic = automatic(root, native)?;
    for (key, present) in &mut database.packages {
        present.automatic = automatic.contains(key);
    }
    Ok(database)
}

/// The parts of dpkg's journal in their order: names of digits only.
fn journal(dir: &Path) -> Result<Vec<String>, PackageError> {
    let path = dir.join("updates");
    let failed = |source| PackageError::Read {
        path: path.clone(),
        source,
    };
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let name = name.into_string().unwrap_or_default();
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What apt knows to have come as a dependency only.
fn automatic(root: &Path, native: &str) -> Result<BTreeSet<Key>, PackageError> {
    let states = text(&root.join("var/lib/apt/extended_states"))?;
    let automatic = states.split("\n\n").filter_map(|paragraph| {
        let (name, arch) = (
            field(paragraph, "Package")?,
            field(paragraph, "Architecture")?,
        );
        (field(paragraph, "Auto-Installed") == Some("1")).then(|| key(name, arch, native))
    });
    Ok(automatic.collect())
}

/// A file's text; that of an absent one is empty.
fn text(path: &Path) -> Result<String, PackageError> {
    match fsx::read_limited(path, DATABASE_MAX) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(PackageError::Read {
            path: path.to_owned(),
            source: io::Error::new(error.kind(), error),
        }),
    }
}

/// Takes paragraphs over, a later one of a package in place of the one before.
fn take(text: &str, database: &mut Database) {
    for paragraph in text.split("\n\n") {
        let (Some(name), Some(status)) = (field(paragraph, "Package"), field(paragraph, "Status"))
        else {
            continue;
        };
        let arch = field(paragraph, "Architecture").unwrap_or("all");
        let key = database.key(name, arch);
        let mut words = status.split_whitespace();
        let (want, flag, state) = (words.next(), words.next(), words.next());
        let status = match (flag, state) {
            (_, Some("not-installed")) => {
                database.packages.remove(&key);
                continue;
            }
            (Some("ok"), Some("installed")) => Status::Installed,
            (Some("ok"), Some("config-files")) => Status::ConfigFiles,
            _ => Status::Broken,
        };
        let version = field(paragraph, "Version").or_else(|| field(paragraph, "Config-Version"));
        let present = Present {
            version: version.unwrap_or_default().to_owned(),
            arch: arch.to_owned(),
            status,
            held: want == Some("hold"),
            automatic: false,
        };
        database.packages.insert(key, present);
    }
}

/// The value of a field that has one line.
pub(super) fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The lines of a paragraph without some of its fields, the lines that go on a field included.
pub(super) fn without(paragraph: &str, names: &[&str]) -> String {
    let mut kept = String::new();
    let mut keeps = true;
    for line in paragraph.lines() {
        if !line.starts_with([' ', '\t']) {
            let name = line.split_once(':').map_or("", |(name, _)| name);
            keeps = !names.iter().any(|one| name.eq_ignore_ascii_case(one));
        }
        if keeps {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The paragraph of one package in dpkg's own database.
pub(super) fn paragraph(
    root: &Path,
    wanted: &Key,
    native: &str,
) -> Result<Option<String>, PackageError> {
    let text = text(&root.join("var/lib/dpkg/status"))?;
    let found = text.split("\n\n").find(|paragraph| {
        let arch = field(paragraph, "Architecture").unwrap_or("all");
        field(paragraph, "Package").is_some_and(|name| key(name, arch, native) == *wanted)
    });
    Ok(found.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nConffiles:\n /etc/a 0123\nDescription: x\n y\n\n\
        Package: b\nStatus: hold ok installed\nArchitecture: all\nVersion: 2:1-1\n\n\
        Package: c\nStatus: deinstall ok config-files\nArchitecture: amd64\nConfig-Version: 3\n\n\
        Package: d\nStatus: install reinstreq half-installed\nArchitecture: i386\nVersion: 4\n\n\
        Package: e\nStatus: purge ok not-installed\nArchitecture: amd64\n";

    fn host() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("var/lib/dpkg/updates")).unwrap();
        fs::create_dir_all(dir.path().join("var/lib/apt")).unwrap();
        fs::write(dir.path().join("var/lib/dpkg/status"), STATUS).unwrap();
        let states = "Package: b\nArchitecture: amd64\nAuto-Installed: 1\n";
        fs::write(dir.path().join("var/lib/apt/extended_states"), states).unwrap();
        dir
    }

    #[test]
    fn each_package_stands_as_dpkg_wrote_it() {
        let host = host();
        let database = read(host.path(), "amd64").unwrap();
        let told: Vec<String> = database
            .packages
            .iter()
            .map(|(key, one)| {
                let Present {
                    version,
                    status,
                    held,
                    automatic,
                    ..
                } = one;
                format!("{key} {version} {status:?} {held} {automatic}")
            })
            .collect();
        assert_eq!(
            told,
            [
                "a:amd64 1 Installed false false",
                "b:amd64 2:1-1 Installed true true",
                "c:amd64 3 ConfigFiles false false",
                "d:i386 4 Broken false false"
            ]
        );
        assert!(!database.is_clean());
    }

    #[test]
    fn what_is_in_the_journal_only_counts() {
        let host = host();
        let updates = host.path().join("var/lib/dpkg/updates");
        fs::write(
            updates.join("0001"),
            "Package: d\nStatus: install ok installed\nArchitecture: i386\nVersion: 5\n",
        )
        .unwrap();
        fs::write(
            updates.join("0000"),
            "Package: d\nStatus: install ok unpacked\nArchitecture: i386\nVersion: 5\n",
        )
        .unwrap();
        fs::write(updates.join("tmp.i"), "Package: a\n").unwrap();
        let database = read(host.path(), "amd64").unwrap();
        let d = database.installed(&database.key("d", "i386")).unwrap();
        assert_eq!(d.version, "5");
        assert!(database.interrupted && database.broken().is_empty());
    }

    #[test]
    fn fields_are_left_out_with_their_further_lines() {
        let kept = without(
            STATUS.split("\n\n").next().unwrap(),
            &["Status", "Conffiles"],
        );
        assert_eq!(
            kept,
            "Package: a\nArchitecture: amd64\nVersion: 1\nDescription: x\n y\n"
        );
    }
}
