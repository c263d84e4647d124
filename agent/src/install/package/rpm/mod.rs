//! RPM packages, through rpm; dnf only brings files to the host.
//!
//! rpm's own database is a transactional one, so a cut leaves nothing to be mended in it: only a package in two versions,
//! which installing the wanted one once more makes one again. rpm cannot rebuild a package from what is installed; the file
//! of what is replaced must be had before. Invariant: nothing is downloaded during a change.

mod hold;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::deb::Plan;
use super::error::PackageError;
use super::file::{self, PackageFile};
use super::lock;
use super::state::{Database, Key, Present, Status, Want, Way};
use super::tools::{Tools, one_line, words};
use crate::exec::{ExecError, tool};

/// Where the database is: of old, in newer distributions, and where Debian's rpm has its own.
const DATABASES: [&str; 3] = ["var/lib/rpm", "usr/lib/sysimage/rpm", "root/.rpmdb"];
/// Seconds after which a look at the database is given up.
const LOOK_MAX: &str = "60";
/// What rpm says where somebody else holds its lock.
const LOCKED: &str = "can't create transaction lock";
/// Packages of which a host has several versions by design.
const MANY: [&str; 2] = ["gpg-pubkey", "kernel"];

/// The host's rpm and dnf.
#[derive(Debug)]
pub(super) struct Rpm {
    tools: Tools,
}

impl Rpm {
    /// True where the host is one of rpm.
    pub(super) fn is_on(root: &Path) -> bool {
        let files = ["rpmdb.sqlite", "Packages", "Packages.db"];
        DATABASES
            .iter()
            .any(|dir| files.iter().any(|file| root.join(dir).join(file).exists()))
    }

    pub(super) fn new(tools: Tools) -> Self {
        Self { tools }
    }

    pub(super) async fn architectures(&self) -> Result<Vec<String>, PackageError> {
        let asked = words(["rpm", "--eval", "%{_arch}"]);
        let said = self
            .tools
            .answer("ask rpm for its architecture", &asked)
            .await?;
        Ok(vec![said.trim().to_owned()])
    }

    pub(super) fn database(&self, native: &str) -> Result<Database, PackageError> {
        let asked = self.rpm(&["-qa", "--qf", "%{NAME}\\t%{EVR}\\t%{ARCH}\\n"]);
        let said = tool("timeout")
            .arg(LOOK_MAX)
            .args(&asked)
            .output()
            .map_err(|source| PackageError::Read {
                path: self.tools.root.join(DATABASES[0]),
                source,
            })?;
        if !said.status.success() {
            return Err(PackageError::Answer {
                what: "ask rpm what is installed",
                answer: one_line(&String::from_utf8_lossy(&said.stderr)),
            });
        }
        let mut database = Database {
            native: native.to_owned(),
            ..Database::default()
        };
        take(&String::from_utf8_lossy(&said.stdout), &mut database);
        hold::mark(&self.tools.root, &mut database);
        Ok(database)
    }

    /// Packages that an interrupted change left in two versions.
    pub(super) fn audit(&self, native: &str) -> Result<String, PackageError> {
        let database = self.database(native)?;
        let twice: Vec<String> = database
            .broken()
            .into_iter()
            .map(ToString::to_string)
            .collect();
        Ok(twice.join(", "))
    }

    /// Whether what the packages need is there.
    pub(super) async fn prove(
        &self,
        keys: &[&Key],
        database: &Database,
    ) -> Result<(), PackageError> {
        let names: Vec<String> = keys.iter().filter_map(|key| named(key, database)).collect();
        if names.is_empty() {
            return Ok(());
        }
        let mut asked = self.rpm(&["--verify", "--nofiles", "--nodigest", "--nosignature"]);
        asked.extend(names);
        let said = self
            .tools
            .ask(
                "ask rpm whether all that is needed is there",
                &asked,
                Path::new("/"),
            )
            .await?;
        if said.status.success() {
            return Ok(());
        }
        Err(PackageError::NotReached {
            what: one_line(&said.out),
        })
    }

    pub(super) async fn read(&self, path: &Path) -> Result<PackageFile, PackageError> {
        let name = path.display().to_string();
        let format = "%{NAME}\\n%{EVR}\\n%{ARCH}\\n%{SIZE}\\n[%{OBSOLETES} ]\\n";
        let asked = words(["rpm", "-qp", "--nosignature", "--qf", format, "--", &name]);
        let said = self
            .tools
            .ask("read a package", &asked, Path::new("/"))
            .await?;
        let lines: Vec<&str> = said.out.lines().collect();
        let [package, version, arch, size, replaces] = lines[..] else {
            return Err(PackageError::NotAPackage {
                file: name,
                why: one_line(&said.err),
            });
        };
        PackageFile {
            path: path.to_owned(),
            name: package.to_owned(),
            version: version.to_owned(),
            arch: arch.to_owned(),
            size: size.parse().unwrap_or(0),
            replaces: replaces
                .split_whitespace()
                .filter(|name| *name != "(none)")
                .map(str::to_owned)
                .collect(),
        }
        .checked()
    }

    /// What rpm would do to install the files.
    pub(super) async fn plan(
        &self,
        files: &[PackageFile],
        database: &Database,
    ) -> Result<Plan, PackageError> {
        let mut asked = self.rpm(&["-U", "--test", "--oldpackage", "--replacepkgs"]);
        asked.extend(files.iter().map(|file| file.path.display().to_string()));
        let said = self
            .tools
            .ask("ask rpm what it would do", &asked, Path::new("/"))
            .await?;
        if !said.status.success() {
            let missing = said
                .err
                .lines()
                .filter(|line| !line.starts_with("warning:"));
            let missing: Vec<&str> = missing.collect();
            return Err(PackageError::Unsatisfied {
                missing: one_line(&missing.join("\n")),
            });
        }
        let mut plan = Plan::default();
        let carried: BTreeSet<Key> = files.iter().map(|file| file.key(database)).collect();
        for file in files {
            plan.installs
                .push((file.key(database), file.version.clone()));
            let gone = database
                .packages
                .keys()
                .filter(|key| file.replaces.contains(&key.name));
            plan.removes
                .extend(gone.filter(|key| !carried.contains(key)).cloned());
        }
        Ok(plan)
    }

    /// Has dnf download what the files need beside themselves.
    pub(super) async fn bring(
        &self,
        files: &[PackageFile],
        into: &Path,
    ) -> Result<(), PackageError> {
        let mut asked = self.dnf(&["--downloadonly", "--setopt=install_weak_deps=False"]);
        asked.push(format!("--downloaddir={}", into.display()));
        asked.push("install".to_owned());
        asked.extend(files.iter().map(|file| file.path.display().to_string()));
        self.tools
            .answer("download what the packages need", &asked)
            .await?;
        Ok(())
    }

    pub(super) async fn download(
        &self,
        key: &Key,
        present: &Present,
        into: &Path,
    ) -> Result<(), PackageError> {
        let mut asked = self.dnf(&["download"]);
        asked.push(format!("--destdir={}", into.display()));
        asked.push(format!("{}-{}.{}", key.name, present.version, present.arch));
        self.tools
            .answer("download a package from the host's sources", &asked)
            .await?;
        Ok(())
    }

    /// dnf keeps what it downloaded in a directory for each of its sources.
    pub(super) fn cached(&self, key: &Key, present: &Present) -> Vec<PathBuf> {
        let version = present
            .version
            .split_once(':')
            .map_or(present.version.as_str(), |(_, version)| version);
        let name = format!("{}-{version}.{}.rpm", key.name, present.arch);
        let found = file::find(&self.tools.root.join("var/cache/dnf")).unwrap_or_default();
        found
            .into_iter()
            .filter(|path| path.ends_with(&name))
            .collect()
    }

    pub(super) fn locks(&self) -> Vec<PathBuf> {
        DATABASES
            .map(|dir| self.tools.root.join(dir).join(".rpm.lock"))
            .to_vec()
    }

    /// Brings about what is wanted. On the way back dependencies are not asked: what was there before fitted together, and
    /// rpm cannot install and remove in one step.
    pub(super) async fn reach(
        &self,
        wants: &[(Key, Want)],
        database: &Database,
        way: Way,
    ) -> Result<(), PackageError> {
        let mut install = self.rpm(&["-U", "--oldpackage", "--replacepkgs"]);
        let mut remove = self.rpm(&["-e", "--allmatches"]);
        // Going to what was there before, be it as a roll back or as a release.
        let goes_back = way == Way::Back
            || wants
                .iter()
                .any(|(_, want)| *want == Want::Gone { purge: true });
        if goes_back {
            install.push("--nodeps".to_owned());
            remove.push("--nodeps".to_owned());
        }
        let (none, nothing) = (install.len(), remove.len());
        for (key, want) in wants {
            match want {
                Want::At { file, .. } => {
                    let file = file.as_deref().filter(|file| file.is_file());
                    let file = file.ok_or_else(|| PackageError::NotReached {
                        what: format!("the file of {key} is not on this host any more"),
                    })?;
                    install.push(file.display().to_string());
                }
                // What a package of the release takes over goes with it.
                Want::Gone { .. } if !goes_back => {}
                Want::Gone { .. } => remove.extend(named(key, database)),
            }
        }
        if remove.len() > nothing {
            self.change(&remove).await?;
        }
        if install.len() > none {
            self.change(&install).await?;
        }
        Ok(())
    }

    /// rpm waits for its lock only where a person watches it. It was free when it was looked at before; somebody came in
    /// between.
    async fn change(&self, words: &[String]) -> Result<(), PackageError> {
        match self.tools.change(words).await {
            Err(PackageError::Run(ExecError::Failed { output, .. })) if output.contains(LOCKED) => {
                lock::wait(&self.locks(), self.tools.timeout).await?;
                self.tools.change(words).await
            }
            ran => ran,
        }
    }

    fn rpm(&self, options: &[&str]) -> Vec<String> {
        let mut command = vec!["rpm".to_owned()];
        if self.tools.root != Path::new("/") {
            command.push(format!("--root={}", self.tools.root.display()));
        }
        command.extend(words(options.iter().copied()));
        command
    }

    fn dnf(&self, options: &[&str]) -> Vec<String> {
        let mut command = words(["dnf", "--quiet", "--assumeyes"]);
        if self.tools.root != Path::new("/") {
            command.push(format!("--installroot={}", self.tools.root.display()));
        }
        command.extend(words(options.iter().copied()));
        command
    }
}

/// What rpm calls the package that is there.
fn named(key: &Key, database: &Database) -> Option<String> {
    let present = database.packages.get(key)?;
    Some(format!("{}.{}", key.name, present.arch))
}

fn take(text: &str, database: &mut Database) {
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (Some(name), Some(version), Some(arch)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let key = database.key(name, arch);
        let several = MANY.iter().any(|many| name.starts_with(many));
        let twice = !several && database.packages.contains_key(&key);
        let present = Present {
            version: version.to_owned(),
            arch: arch.to_owned(),
            status: if twice {
                Status::Broken
            } else {
                Status::Installed
            },
            held: false,
            automatic: false,
        };
        database.packages.insert(key, present);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_in_two_versions_is_broken() {
        let mut database = Database {
            native: "x86_64".to_owned(),
            ..Database::default()
        };
        take(
            "a\t1-1\tx86_64\na\t2-1\tnoarch\nb\t1:1-1\ti686\ngpg-pubkey\t1-1\t(none)\ngpg-pubkey\t2-1\t(none)\n",
            &mut database,
        );
        let broken: Vec<String> = database
            .broken()
            .into_iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(broken, ["a:x86_64"]);
        assert!(database.installed(&database.key("b", "i686")).is_some());
    }
}
