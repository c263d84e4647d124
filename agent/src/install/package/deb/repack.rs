//! Builds a package file anew from what is installed, for going back to a version of which no file is left.
//!
//! Reads the installed files and dpkg's records of the package, writes into a directory of the agent's. Configuration that
//! was changed on the host is packed with one more line end: dpkg then still knows, once this file is installed, that the
//! host's own differs from the package's, keeps it, and keeps it in later upgrades. Invariant: a package is built only from
//! files that are surely its own, else there is none.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use super::super::error::PackageError;
use super::super::state::{Key, Present};
use super::super::tools::{Tools, words};
use super::status;

/// dpkg's own files of a package that are no part of what the package brought.
const NOT_PACKED: [&str; 2] = ["list", "conffiles"];

/// What is packed.
struct Installed<'a> {
    root: &'a Path,
    key: &'a Key,
    version: &'a str,
    paragraph: String,
    /// Configuration that was changed on the host.
    changed: BTreeSet<String>,
}

/// Builds the file `to` from the installed package.
pub(super) async fn repack(
    tools: &Tools,
    key: &Key,
    present: &Present,
    native: &str,
    changed: BTreeSet<String>,
    to: &Path,
) -> Result<(), PackageError> {
    let paragraph = status::paragraph(&tools.root, key, native)?;
    let installed = Installed {
        root: &tools.root,
        key,
        version: &present.version,
        paragraph: paragraph.unwrap_or_default(),
        changed,
    };
    let tree = to.with_extension("tree");
    let made = installed.copy(&tree);
    let built = match made {
        Ok(()) => {
            let (from, to) = (tree.display().to_string(), to.display().to_string());
            let asked = words(["dpkg-deb", "-Zgzip", "-z1", "--build", &from, &to]);
            tools
                .answer("build a package from the installed files", &asked)
                .await
        }
        Err(error) => Err(error),
    };
    // Only scratch: the next call begins by removing it, too.
    let _ = fs::remove_dir_all(&tree);
    built.map(drop)
}

impl Installed<'_> {
    fn copy(&self, tree: &Path) -> Result<(), PackageError> {
        if tree.exists() {
            fs::remove_dir_all(tree).map_err(at(tree))?;
        }
        fs::create_dir_all(tree.join("DEBIAN")).map_err(at(tree))?;
        fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).map_err(at(tree))?;
        let paths = self.paths()?;
        self.refuse_diverted(&paths)?;
        let conffiles = self.conffiles();
        for path in &paths {
            let is_dir = paths
                .range(format!("{path}/")..)
                .next()
                .is_some_and(|next| next.starts_with(&format!("{path}/")));
            self.copy_one(tree, path, is_dir)?;
        }
        for path in &conffiles {
            self.conffile(tree, path)?;
        }
        self.control(tree, &conffiles)
    }

    /// What the package brought, without the root itself.
    fn paths(&self) -> Result<BTreeSet<String>, PackageError> {
        let list = self
            .info("list")
            .ok_or_else(|| self.refuse("dpkg has no list of its files"))?;
        let text = fs::read_to_string(&list).map_err(at(&list))?;
        let paths = text
            .lines()
            .filter(|path| !matches!(*path, "" | "/" | "/."));
        let paths: BTreeSet<String> = paths.map(str::to_owned).collect();
        let plain =
            |path: &String| path.starts_with('/') && !path.split('/').any(|part| part == "..");
        if !paths.iter().all(plain) {
            return Err(self.refuse("dpkg's list of its files is damaged"));
        }
        Ok(paths)
    }

    /// At the name of a diverted file stands somebody else's.
    fn refuse_diverted(&self, paths: &BTreeSet<String>) -> Result<(), PackageError> {
        let file = self.root.join("var/lib/dpkg/diversions");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let diverted = lines.chunks(3).any(|entry| {
            let by = entry.get(2).copied().unwrap_or_default();
            by != self.key.name && paths.contains(entry[0])
        });
        if diverted {
            return Err(self.refuse("one of its files is diverted"));
        }
        Ok(())
    }

    /// Copies one path. A directory that is a link on the host, as /lib is, is a directory in the package.
    fn copy_one(&self, tree: &Path, path: &str, has_children: bool) -> Result<(), PackageError> {
        let (from, to) = (self.at(path), tree.join(path.trim_start_matches('/')));
        let Ok(seen) = fs::symlink_metadata(&from) else {
            // Left out on this host from the beginning (path-exclude), or removed by hand.
            return Ok(());
        };
        let metadata = if has_children {
            fs::metadata(&from).map_err(at(&from))?
        } else {
            seen
        };
        let kind = metadata.file_type();
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        if kind.is_symlink() {
            let target = fs::read_link(&from).map_err(at(&from))?;
            symlink(target, &to).map_err(at(&to))?;
            return lchown(&to, Some(metadata.uid()), Some(metadata.gid())).map_err(at(&to));
        }
        if kind.is_dir() {
            fs::create_dir_all(&to).map_err(at(&to))?;
        } else if kind.is_file() {
            fs::copy(&from, &to).map_err(at(&from))?;
        } else {
            return Err(self.refuse("it has a device or a socket"));
        }
        chown(&to, Some(metadata.uid()), Some(metadata.gid())).map_err(at(&to))?;
        fs::set_permissions(&to, metadata.permissions()).map_err(at(&to))?;
        let times = FileTimes::new().set_modified(metadata.modified().map_err(at(&from))?);
        File::open(&to)
            .and_then(|file| file.set_times(times))
            .map_err(at(&to))
    }

    /// The configuration files that the package brought, without those that it does not bring any more.
    fn conffiles(&self) -> Vec<String> {
        let mut inside = false;
        let mut found = Vec::new();
        for line in self.paragraph.lines() {
            if !line.starts_with(' ') {
                inside = line.starts_with("Conffiles:");
                continue;
            }
            let mut words = line.split_whitespace();
            if let (true, Some(path), Some(_), None) =
                (inside, words.next(), words.next(), words.next())
            {
                found.push(path.to_owned());
            }
        }
        found
    }

    fn conffile(&self, tree: &Path, path: &str) -> Result<(), PackageError> {
        let to = tree.join(path.trim_start_matches('/'));
        if !to.is_file() {
            // An administrator removed it, and dpkg never brings a removed one back; but the package must name a file.
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(at(parent))?;
            }
            return fs::write(&to, "\n").map_err(at(&to));
        }
        if !self.changed.contains(path) {
            return Ok(());
        }
        let mut file = File::options().append(true).open(&to).map_err(at(&to))?;
        file.write_all(b"\n").map_err(at(&to))
    }

    fn control(&self, tree: &Path, conffiles: &[String]) -> Result<(), PackageError> {
        let dir = tree.join("DEBIAN");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).map_err(at(&dir))?;
        let own = [
            "Status",
            "Config-Version",
            "Conffiles",
            "Triggers-Pending",
            "Triggers-Awaited",
        ];
        let control = status::without(&self.paragraph, &own);
        let file = dir.join("control");
        fs::write(&file, control).map_err(at(&file))?;
        if !conffiles.is_empty() {
            let file = dir.join("conffiles");
            let names = conffiles.join("\n") + "\n";
            fs::write(&file, names).map_err(at(&file))?;
        }
        for (name, from) in self.infos()? {
            if NOT_PACKED.contains(&name.as_str()) {
                continue;
            }
            let to = dir.join(&name);
            fs::copy(&from, &to).map_err(at(&from))?;
        }
        Ok(())
    }

    /// dpkg's files of this package, by their endings.
    fn infos(&self) -> Result<Vec<(String, PathBuf)>, PackageError> {
        let dir = self.root.join("var/lib/dpkg/info");
        let prefixes = [format!("{}.", self.key.name), format!("{}.", self.key)];
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let entry = entry.map_err(at(&dir))?;
            let name = entry.file_name().into_string().unwrap_or_default();
            let ending = prefixes
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix.as_str()));
            // Names of packages may hold dots: `a.b.list` is not of `a`.
            if let Some(ending) = ending.filter(|ending| !ending.contains('.')) {
                found.push((ending.to_owned(), entry.path()));
            }
        }
        Ok(found)
    }

    fn info(&self, ending: &str) -> Option<PathBuf> {
        let dir = self.root.join("var/lib/dpkg/info");
        let names = [
            format!("{}.{ending}", self.key),
            format!("{}.{ending}", self.key.name),
        ];
        names
            .iter()
            .map(|name| dir.join(name))
            .find(|path| path.is_file())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn refuse(&self, why: &str) -> PackageError {
        PackageError::NoWayBack {
            package: self.key.to_string(),
            version: self.version.to_owned(),
            why: why.to_owned(),
        }
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> PackageError {
    let path = path.to_owned();
    move |source| PackageError::Read { path, source }
}
