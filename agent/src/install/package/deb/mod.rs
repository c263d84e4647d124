//! Debian packages, through apt and dpkg.
//!
//! apt decides and orders while the database is consistent; after a cut dpkg alone finishes or undoes, since apt refuses to
//! work on half-installed packages of another version. Invariant: apt never downloads during a change, and never removes a
//! package that is not named.

mod command;
mod repack;
mod simulate;
mod status;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use comber_model::release::Dependencies;

pub(super) use simulate::Plan;

use super::error::PackageError;
use super::file::{self, PackageFile};
use super::state::{Database, Key, Present, Want, Way, list};
use super::tools::{Tools, one_line, words};

/// The host's dpkg and apt.
#[derive(Debug)]
pub(super) struct Deb {
    tools: Tools,
}

impl Deb {
    /// True where the host is one of dpkg.
    pub(super) fn is_on(root: &Path) -> bool {
        root.join("var/lib/dpkg/status").is_file()
    }

    pub(super) fn new(tools: Tools) -> Self {
        Self { tools }
    }

    /// The host's own architecture, then the foreign ones that it allows.
    pub(super) async fn architectures(&self) -> Result<Vec<String>, PackageError> {
        let mut all = Vec::new();
        for option in ["--print-architecture", "--print-foreign-architectures"] {
            let asked = command::dpkg(&self.tools.root, &[option]);
            let said = self
                .tools
                .answer("ask dpkg for its architectures", &asked)
                .await?;
            all.extend(said.lines().map(str::to_owned));
        }
        Ok(all)
    }

    pub(super) fn database(&self, native: &str) -> Result<Database, PackageError> {
        status::read(&self.tools.root, native)
    }

    /// What is not consistent, in dpkg's own words; empty where all is.
    pub(super) async fn audit(&self) -> Result<String, PackageError> {
        let asked = command::dpkg(&self.tools.root, &["--audit"]);
        let said = self
            .tools
            .ask("ask dpkg for an audit", &asked, Path::new("/"))
            .await?;
        Ok(one_line(&said.out))
    }

    /// Reads what a package file says of itself.
    pub(super) async fn read(&self, path: &Path) -> Result<PackageFile, PackageError> {
        let name = path.display().to_string();
        let refuse = |why: String| PackageError::NotAPackage {
            file: name.clone(),
            why,
        };
        let asked = words(["dpkg-deb", "--field", &name]);
        let said = self
            .tools
            .ask("read a package", &asked, Path::new("/"))
            .await?;
        if !said.status.success() {
            return Err(refuse(one_line(&said.err)));
        }
        let of = |field| status::field(&said.out, field);
        let wanted = |field| of(field).ok_or_else(|| refuse(format!("it has no field {field}")));
        let kib: u64 = of("Installed-Size")
            .and_then(|size| size.parse().ok())
            .unwrap_or(0);
        PackageFile {
            path: path.to_owned(),
            name: wanted("Package")?.to_owned(),
            version: wanted("Version")?.to_owned(),
            arch: wanted("Architecture")?.to_owned(),
            size: kib.saturating_mul(1024),
            replaces: takes_over(of("Replaces"), [of("Conflicts"), of("Breaks")]),
        }
        .checked()
    }

    /// Downloads what the files need beside themselves from the host's own sources.
    pub(super) async fn bring(
        &self,
        files: &[PackageFile],
        into: &Path,
        database: &Database,
    ) -> Result<(), PackageError> {
        let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
        let plan = match self.plan(&paths, Dependencies::Host, database).await {
            // Stale lists are the usual reason.
            Err(PackageError::Unsatisfied { .. }) => {
                self.update().await?;
                self.plan(&paths, Dependencies::Host, database).await?
            }
            plan => plan?,
        };
        let carried: BTreeSet<Key> = files.iter().map(|file| file.key(database)).collect();
        for (key, version) in plan
            .installs
            .iter()
            .filter(|(key, _)| !carried.contains(key))
        {
            self.download(key, version, into).await?;
        }
        Ok(())
    }

    /// What apt would do to install the files: with nothing but them, or also from the host's own sources.
    pub(super) async fn plan(
        &self,
        files: &[PathBuf],
        sources: Dependencies,
        database: &Database,
    ) -> Result<Plan, PackageError> {
        let mut asked = command::apt_get(&self.tools.root, sources);
        asked.extend(words(["--simulate", "--allow-downgrades", "install"]));
        asked.extend(files.iter().map(|file| file.display().to_string()));
        let said = self
            .tools
            .ask("ask apt what it would do", &asked, Path::new("/"))
            .await?;
        if !said.status.success() {
            let missing = simulate::reason(&said.out, &said.err);
            return Err(PackageError::Unsatisfied { missing });
        }
        simulate::read(&said.out, database).map_err(|answer| PackageError::Answer {
            what: "understand apt",
            answer,
        })
    }

    /// Downloads one package from the host's sources. Stale lists are the usual reason that it fails: then they are brought
    /// up to date, once, and it is tried again.
    pub(super) async fn download(
        &self,
        key: &Key,
        version: &str,
        into: &Path,
    ) -> Result<(), PackageError> {
        let what = "download a package from the host's sources";
        let mut asked = command::apt_get(&self.tools.root, Dependencies::Host);
        asked.extend(words(["download", &format!("{key}={version}")]));
        let said = self.tools.ask(what, &asked, into).await?;
        if said.status.success() {
            return Ok(());
        }
        self.update().await?;
        let said = self.tools.ask(what, &asked, into).await?;
        if said.status.success() {
            return Ok(());
        }
        Err(PackageError::Answer {
            what,
            answer: one_line(&said.err),
        })
    }

    /// Brings the lists of the host's sources up to date.
    async fn update(&self) -> Result<(), PackageError> {
        let mut asked = command::apt_get(&self.tools.root, Dependencies::Host);
        asked.push("update".to_owned());
        self.tools
            .answer("update the lists of the host's sources", &asked)
            .await?;
        Ok(())
    }

    /// Where the manager itself keeps what it downloaded.
    pub(super) fn cached(&self, key: &Key, present: &Present) -> Vec<PathBuf> {
        let name = file::file_name(&key.name, &present.version, &present.arch, "deb");
        vec![self.tools.root.join("var/cache/apt/archives").join(name)]
    }

    /// Builds a package anew from what is installed.
    pub(super) async fn repack(
        &self,
        key: &Key,
        present: &Present,
        native: &str,
        to: &Path,
    ) -> Result<(), PackageError> {
        let edited = self.edited(key).await?;
        repack::repack(&self.tools, key, present, native, edited, to).await
    }

    /// The package's configuration files that were changed on the host.
    pub(super) async fn edited(&self, key: &Key) -> Result<BTreeSet<String>, PackageError> {
        let asked = command::dpkg(&self.tools.root, &["--verify", &key.to_string()]);
        let what = "ask dpkg which files of a package were changed";
        let said = self.tools.ask(what, &asked, Path::new("/")).await?;
        let changed = said.out.lines().filter_map(|line| line.split_once(" c "));
        Ok(changed.map(|(_, path)| path.trim().to_owned()).collect())
    }

    /// Brings back configuration that a power cut tore: dpkg does not sync new files of that kind, and calls the empty ones
    /// that are left changed by an administrator, which it would then keep for ever.
    pub(super) async fn restore_torn(
        &self,
        wants: &[(Key, Want)],
        edited: &[String],
    ) -> Result<(), PackageError> {
        let mut again = command::dpkg_change(&self.tools.root, &["--force-confmiss", "--install"]);
        let none = again.len();
        for (key, want) in wants {
            let Want::At { file, .. } = want else {
                continue;
            };
            let changed = self.edited(key).await?;
            let torn: Vec<PathBuf> = changed
                .iter()
                .filter(|path| !edited.contains(path))
                .map(|path| self.tools.root.join(path.trim_start_matches('/')))
                .filter(|path| path.metadata().map_or(true, |seen| seen.len() == 0))
                .collect();
            for path in &torn {
                tracing::warn!(path = %path.display(), "a power cut tore it, it is brought back");
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        let path = path.clone();
                        return Err(PackageError::Read {
                            path,
                            source: error,
                        });
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            if !torn.is_empty() {
                again.push(needed(key, file.as_deref())?);
            }
        }
        if again.len() > none {
            self.tools.change(&again).await?;
        }
        Ok(())
    }

    pub(super) fn locks(&self) -> Vec<PathBuf> {
        let names = [
            "var/lib/dpkg/lock-frontend",
            "var/lib/dpkg/lock",
            "var/cache/apt/archives/lock",
        ];
        names.map(|name| self.tools.root.join(name)).to_vec()
    }

    /// Takes in what an interrupted run left in dpkg's journal. On the way forward it is also finished; on the way back a
    /// package that is to go is not configured once more.
    pub(super) async fn mend(&self, way: Way) -> Result<(), PackageError> {
        let mended = match way {
            Way::Forward => {
                self.tools
                    .change(&command::dpkg_change(
                        &self.tools.root,
                        &["--configure", "-a"],
                    ))
                    .await
            }
            Way::Back => {
                self.tools
                    .change(&command::dpkg_change(
                        &self.tools.root,
                        &["--set-selections"],
                    ))
                    .await
            }
        };
        if let Err(error) = mended {
            let error = comber_runtime::telemetry::error_chain(&error);
            tracing::warn!(
                error,
                "what was interrupted could not be finished, goes on with the packages' files"
            );
        }
        Ok(())
    }

    /// Brings about what is wanted.
    pub(super) async fn reach(
        &self,
        wants: &[(Key, Want)],
        database: &Database,
        way: Way,
    ) -> Result<(), PackageError> {
        if database.is_clean() {
            let ran = self.by_apt(wants, database).await;
            let Err(error) = ran else {
                return self.purge(wants, &database.native).await;
            };
            if way == Way::Forward || matches!(error, PackageError::Removes { .. }) {
                return Err(error);
            }
            let error = comber_runtime::telemetry::error_chain(&error);
            tracing::warn!(error, "apt finds no way back, goes by dpkg alone");
        }
        self.by_dpkg(wants, &database.native).await
    }

    /// Notes which packages came as dependencies only.
    pub(super) async fn mark(&self, keys: &[&Key], automatic: bool) -> Result<(), PackageError> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut asked = vec!["apt-mark".to_owned()];
        asked.extend(command::places(&self.tools.root));
        asked.push(if automatic { "auto" } else { "manual" }.to_owned());
        asked.extend(keys.iter().map(ToString::to_string));
        self.tools
            .answer("note which packages came as dependencies", &asked)
            .await?;
        Ok(())
    }

    async fn by_apt(&self, wants: &[(Key, Want)], database: &Database) -> Result<(), PackageError> {
        let mut asked = command::apt_get(&self.tools.root, Dependencies::Carried);
        asked.extend(words(["--allow-downgrades", "--reinstall", "install"]));
        let mut removes = false;
        for (key, want) in wants {
            match want {
                Want::At { file, .. } => asked.push(needed(key, file.as_deref())?),
                Want::Gone { .. } if database.packages.contains_key(key) => {
                    removes = true;
                    asked.push(format!("{key}-"));
                }
                Want::Gone { .. } => {}
            }
        }
        if removes {
            self.refuse_others(&asked, wants, database).await?;
        } else {
            asked.push("--no-remove".to_owned());
        }
        self.tools.change(&asked).await
    }

    /// What is removed may be needed by something that came to the host since: that must not go with it.
    async fn refuse_others(
        &self,
        run: &[String],
        wants: &[(Key, Want)],
        database: &Database,
    ) -> Result<(), PackageError> {
        let mut asked = run.to_vec();
        asked.push("--simulate".to_owned());
        let said = self
            .tools
            .ask("ask apt what it would do", &asked, Path::new("/"))
            .await?;
        let plan = simulate::read(&said.out, database).unwrap_or_default();
        let named = |key: &&Key| {
            wants
                .iter()
                .any(|(wanted, want)| wanted == *key && matches!(want, Want::Gone { .. }))
        };
        let others: Vec<&Key> = plan.removes.iter().filter(|key| !named(key)).collect();
        if others.is_empty() {
            return Ok(());
        }
        Err(PackageError::Removes {
            packages: list(others),
        })
    }

    /// What apt removed may have left its configuration.
    async fn purge(&self, wants: &[(Key, Want)], native: &str) -> Result<(), PackageError> {
        let known = self.database(native)?.packages;
        let left: Vec<String> = wants
            .iter()
            .filter(|(key, want)| {
                matches!(want, Want::Gone { purge: true }) && known.contains_key(key)
            })
            .map(|(key, _)| key.to_string())
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let mut asked = command::dpkg_change(&self.tools.root, &["--purge"]);
        asked.extend(left);
        self.tools.change(&asked).await
    }

    /// Through broken states, whatever the order: dependencies are looked at when all is done.
    async fn by_dpkg(&self, wants: &[(Key, Want)], native: &str) -> Result<(), PackageError> {
        let mut install = command::dpkg_change(
            &self.tools.root,
            &["--force-depends", "--force-downgrade", "--auto-deconfigure"],
        );
        install.push("--install".to_owned());
        let before = install.len();
        for (key, want) in wants {
            if let Want::At { file, .. } = want {
                install.push(needed(key, file.as_deref())?);
            }
        }
        let mut installed = Ok(());
        if install.len() > before {
            installed = self.tools.change(&install).await;
        }
        let known = self.database(native)?.packages;
        for (option, purges) in [("--remove", false), ("--purge", true)] {
            let going = wants
                .iter()
                .filter(|(_, want)| *want == Want::Gone { purge: purges });
            let going: Vec<String> = going
                .filter(|(key, _)| known.contains_key(key))
                .map(|(key, _)| key.to_string())
                .collect();
            if !going.is_empty() {
                let mut remove = command::dpkg_change(
                    &self.tools.root,
                    &["--force-depends", "--force-remove-reinstreq", option],
                );
                remove.extend(going);
                self.tools.change(&remove).await?;
            }
        }
        if installed.is_err() {
            // What stood in the way may be gone by now.
            self.tools.change(&install).await?;
        }
        self.tools
            .change(&command::dpkg_change(
                &self.tools.root,
                &["--configure", "-a"],
            ))
            .await
    }
}

/// A package that cannot be brought back was let through for an irreversible release only.
fn needed(key: &Key, file: Option<&Path>) -> Result<String, PackageError> {
    let file = file.filter(|file| file.is_file());
    file.map(|file| file.display().to_string())
        .ok_or_else(|| PackageError::NotReached {
            what: format!("the file of {key} is not on this host any more"),
        })
}

/// Names that a package both replaces and cannot stand beside: it takes their place.
fn takes_over(replaces: Option<&str>, excludes: [Option<&str>; 2]) -> Vec<String> {
    let names = |field: Option<&str>| -> BTreeSet<String> {
        let relations = field.unwrap_or_default().split([',', '|']);
        relations
            .filter_map(|relation| {
                relation
                    .split(['(', '[', '<', ':', ' '])
                    .find(|part| !part.is_empty())
            })
            .map(str::to_owned)
            .collect()
    };
    let unwanted: BTreeSet<String> = excludes.into_iter().flat_map(names).collect();
    names(replaces).intersection(&unwanted).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_takes_over_what_it_replaces_and_excludes() {
        let taken = takes_over(
            Some("old (<< 2), kept, other:any | third"),
            [Some("old, third (= 1)"), Some("other")],
        );
        assert_eq!(taken, ["old", "other", "third"]);
        assert!(takes_over(None, [Some("old"), None]).is_empty());
    }
}
