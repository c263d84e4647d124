//! Package files: those that a release carries, and those that are kept to go back to.
//!
//! What a file says of itself goes into commands and names of files, so it is believed only where it has the form that
//! the managers themselves demand. Invariant: names and versions begin with a letter or digit and hold nothing that a
//! tool could take for an option, a path or a pattern.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::PackageError;
use super::state::{Database, Key};

/// Most packages of one release. Each is looked at by a command of its own, some milliseconds.
const FILES_MAX: usize = 1000;
/// How deep below its directory a release may keep packages.
const DEPTH_MAX: u32 = 16;
/// Longest name or version: the managers refuse longer ones on their own file systems.
const NAME_MAX: usize = 200;

/// A package file and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackageFile {
    pub path: PathBuf,
    pub name: String,
    pub version: String,
    pub arch: String,
    /// Bytes that it takes once installed, as it says.
    pub size: u64,
    /// Names that it stands in for: installing it removes those.
    pub replaces: Vec<String>,
}

impl PackageFile {
    /// Refuses what no manager would have built.
    pub(super) fn checked(self) -> Result<Self, PackageError> {
        let refuse = |why: String| PackageError::NotAPackage {
            file: self.path.display().to_string(),
            why,
        };
        if !is_plain(&self.name, "+-._") {
            return Err(refuse(format!("{:?} is no name of a package", self.name)));
        }
        if !is_plain(&self.version, "+-._~^:") {
            return Err(refuse(format!("{:?} is no version", self.version)));
        }
        if !is_plain(&self.arch, "-_") {
            return Err(refuse(format!("{:?} is no architecture", self.arch)));
        }
        Ok(self)
    }

    pub(super) fn key(&self, database: &Database) -> Key {
        database.key(&self.name, &self.arch)
    }

    /// What it is called in the agent's own directories.
    pub(super) fn file_name(&self) -> String {
        file_name(&self.name, &self.version, &self.arch, ending(&self.path))
    }
}

/// The name of a package's file, as the Debian archive makes it.
pub(super) fn file_name(name: &str, version: &str, arch: &str, ending: &str) -> String {
    let version = version.replace(':', "%3a");
    format!("{name}_{version}_{arch}.{ending}")
}

/// `deb` or `rpm`, else nothing.
pub(super) fn ending(path: &Path) -> &str {
    path.extension()
        .and_then(|ending| ending.to_str())
        .filter(|ending| matches!(*ending, "deb" | "rpm"))
        .unwrap_or_default()
}

/// The package files below a directory, by their names; a directory that is not there has none.
pub(super) fn find(dir: &Path) -> Result<Vec<PathBuf>, PackageError> {
    let mut found = Vec::new();
    walk(dir, DEPTH_MAX, &mut found)?;
    found.sort_unstable();
    Ok(found)
}

fn walk(dir: &Path, depth: u32, found: &mut Vec<PathBuf>) -> Result<(), PackageError> {
    let failed = |source| PackageError::Read {
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && depth > 0 {
            walk(&entry.path(), depth - 1, found)?;
        } else if kind.is_file() && !ending(&entry.path()).is_empty() {
            found.push(entry.path());
        }
        if found.len() > FILES_MAX {
            return Err(PackageError::NotAPackage {
                file: dir.display().to_string(),
                why: format!("it holds more than {FILES_MAX} packages"),
            });
        }
    }
    Ok(())
}

/// The files for this host: of each package the one for the host's own architecture, else one for a foreign architecture
/// that the host allows.
pub(super) fn fitting(
    files: Vec<PackageFile>,
    architectures: &[String],
) -> Result<Vec<PackageFile>, PackageError> {
    let native = architectures.first().map_or("", String::as_str);
    let is_native =
        |file: &PackageFile| matches!(file.arch.as_str(), "all" | "noarch") || file.arch == native;
    let mut chosen: BTreeMap<(String, String), PackageFile> = BTreeMap::new();
    let own: Vec<String> = files
        .iter()
        .filter(|file| is_native(file))
        .map(|file| file.name.clone())
        .collect();
    for file in files {
        let fits =
            is_native(&file) || architectures.contains(&file.arch) && !own.contains(&file.name);
        if !fits {
            continue;
        }
        let arch = if is_native(&file) { native } else { &file.arch };
        let slot = (file.name.clone(), arch.to_owned());
        if let Some(first) = chosen.get(&slot) {
            return Err(PackageError::Twice {
                package: file.name.clone(),
                first: first.version.clone(),
                second: file.version,
            });
        }
        chosen.insert(slot, file);
    }
    Ok(chosen.into_values().collect())
}

fn is_plain(text: &str, others: &str) -> bool {
    text.len() <= NAME_MAX
        && text
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, version: &str, arch: &str) -> PackageFile {
        PackageFile {
            path: format!("/x/{name}.deb").into(),
            name: name.to_owned(),
            version: version.to_owned(),
            arch: arch.to_owned(),
            size: 0,
            replaces: Vec::new(),
        }
    }

    #[test]
    fn names_that_could_be_options_or_paths_are_refused() {
        for (name, version, arch) in [
            ("-o", "1", "all"),
            ("a/../b", "1", "all"),
            ("a", "1 2", "all"),
            ("a", "${x}", "all"),
            ("a", "1", "../all"),
            ("", "1", "all"),
            ("a", "", "all"),
        ] {
            let refused = file(name, version, arch).checked();
            assert!(
                matches!(refused, Err(PackageError::NotAPackage { .. })),
                "{name} {version}"
            );
        }
        let taken = file("libstdc++6", "1:12.2.0-14+deb12u1~b", "amd64").checked();
        assert_eq!(
            taken.unwrap().file_name(),
            "libstdc++6_1%3a12.2.0-14+deb12u1~b_amd64.deb"
        );
    }

    #[test]
    fn a_host_takes_the_packages_of_its_architectures() {
        let architectures = ["amd64".to_owned(), "i386".to_owned()];
        let all = vec![
            file("a", "1", "amd64"),
            file("a", "1", "arm64"),
            file("a", "1", "i386"),
            file("b", "2", "i386"),
            file("c", "3", "all"),
            file("d", "4", "riscv64"),
        ];
        let chosen = fitting(all.clone(), &architectures).unwrap();
        let names: Vec<_> = chosen
            .iter()
            .map(|one| (one.name.as_str(), one.arch.as_str()))
            .collect();
        assert_eq!(names, [("a", "amd64"), ("b", "i386"), ("c", "all")]);
        let twice = [all, vec![file("c", "3.1", "amd64")]].concat();
        let error = fitting(twice, &architectures).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the release carries c twice, as 3 and 3.1"
        );
    }

    #[test]
    fn links_are_not_followed_to_packages_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a.deb"), "").unwrap();
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("b.deb")).unwrap();
        assert_eq!(find(dir.path()).unwrap(), [dir.path().join("sub/a.deb")]);
        assert!(find(&dir.path().join("absent")).unwrap().is_empty());
    }
}
