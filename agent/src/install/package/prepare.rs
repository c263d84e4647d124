//! What a release would change on this host, and whether that can be undone: decided before anything is changed.
//!
//! Asks the host's tools, and writes only into the directories of the change: the files of what is to be replaced, and, at
//! the preflight alone, what is downloaded from the host's own sources. So an activation needs no network, and takes its own
//! look once more: much may happen between the two. Invariant: every package that a change touches is in its record, with
//! the way back.

use std::path::{Path, PathBuf};

use comber_model::release::{Dependencies, Newer, PackageInstaller};

use super::change::{self, Change, Changes, Held, Touched, Was, Will};
use super::deb::Plan;
use super::error::PackageError;
use super::file::{self, PackageFile};
use super::keep::link;
use super::manager::Manager;
use super::state::{Database, Key, list};

/// Whether something may be downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    Allowed,
    None,
}

/// What the look came to.
#[derive(Debug)]
pub(super) enum Prepared {
    /// The change, not begun and not recorded.
    Ready {
        change: Box<Change>,
        /// What the new packages take once installed.
        bytes: u64,
    },
    /// The release is none for this host.
    NotApplicable(String),
}

/// One look at one release.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub manager: &'a Manager,
    pub changes: &'a Changes,
    pub recipe: &'a PackageInstaller,
    /// Where the release's files are.
    pub place: PathBuf,
    /// The release, by the name of its directory.
    pub slot: String,
    pub irreversible: bool,
    pub network: Network,
}

impl Look<'_> {
    /// Looks what would change from the release `from`, or from nothing.
    pub(super) async fn prepare(&self, from: Option<String>) -> Result<Prepared, PackageError> {
        let architectures = self.manager.architectures().await?;
        let native = architectures.first().cloned().unwrap_or_default();
        let files = match self.carried(&architectures).await? {
            Ok(files) => files,
            Err(why) => return Ok(Prepared::NotApplicable(why)),
        };
        let database = self.manager.database(&native)?;
        self.consistent(&database).await?;
        let (files, absent): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| {
            !self.recipe.only_installed || database.installed(&file.key(&database)).is_some()
        });
        if files.is_empty() {
            let names = list(absent.iter().map(|file| &file.name));
            return Ok(Prepared::NotApplicable(format!(
                "none of its packages is installed here ({names})"
            )));
        }
        let mut change = Change::new(self.manager.family(), native, from, Some(self.slot.clone()));
        change.newer_kept = self.recipe.newer == Newer::Keep;
        let hold = |file: &PackageFile| Held {
            key: file.key(&database),
            version: file.version.clone(),
        };
        change.holds = files.iter().map(hold).collect();
        let stock = self.stock().await?;
        let bytes = self.touch(&mut change, files, &database, &stock).await?;
        refuse_held(change.touched.iter().map(|one| &one.key), &database)?;
        self.keep_all(&mut change, &database, &stock).await?;
        Ok(Prepared::Ready {
            change: Box::new(change),
            bytes,
        })
    }

    /// What there is to undo everything that the product ever did: a change to nothing.
    pub(super) async fn removal(
        &self,
        origin: &Change,
        from: String,
    ) -> Result<Change, PackageError> {
        let database = self.manager.database(&origin.native)?;
        self.consistent(&database).await?;
        let stock = self.stock().await?;
        let mut change = Change::new(origin.family, origin.native.clone(), Some(from), None);
        self.invert(&mut change, origin, &database)?;
        self.keep_all(&mut change, &database, &stock).await?;
        Ok(change)
    }

    /// The packages of the release that are for this host; or why there are none.
    async fn carried(
        &self,
        architectures: &[String],
    ) -> Result<Result<Vec<PackageFile>, String>, PackageError> {
        let all = file::find(&self.place)?;
        if all.is_empty() {
            return Err(PackageError::Empty);
        }
        let ending = self.manager.family().ending();
        let paths: Vec<PathBuf> = all
            .into_iter()
            .filter(|path| file::ending(path) == ending)
            .collect();
        if paths.is_empty() {
            return Ok(Err(format!(
                "it carries no *.{ending}, which this host takes"
            )));
        }
        let files = self.read_all(&paths).await?;
        let mut theirs: Vec<String> = files.iter().map(|file| file.arch.clone()).collect();
        theirs.sort_unstable();
        theirs.dedup();
        let fitting = file::fitting(files, architectures)?;
        if fitting.is_empty() {
            let (theirs, own) = (theirs.join(", "), architectures.join(", "));
            return Ok(Err(format!(
                "its packages are for {theirs}, and this host takes {own}"
            )));
        }
        Ok(Ok(fitting))
    }

    pub(super) async fn read_all(
        &self,
        paths: &[PathBuf],
    ) -> Result<Vec<PackageFile>, PackageError> {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            files.push(self.manager.read(path).await?);
        }
        Ok(files)
    }

    async fn consistent(&self, database: &Database) -> Result<(), PackageError> {
        let audit = self.manager.audit(&database.native).await?;
        if !audit.is_empty() {
            return Err(PackageError::Inconsistent { found: audit });
        }
        if database.is_clean() {
            return Ok(());
        }
        let broken = list(database.broken());
        let found = if broken.is_empty() {
            "a run of dpkg was cut off".to_owned()
        } else {
            broken
        };
        Err(PackageError::Inconsistent { found })
    }

    /// Puts down what changes. Back to the release that was before the present one is exactly back: what that one brought
    /// goes, too. Otherwise the manager says what installing the files would do.
    async fn touch(
        &self,
        change: &mut Change,
        files: Vec<PackageFile>,
        database: &Database,
        stock: &[PackageFile],
    ) -> Result<u64, PackageError> {
        let present = match &change.from {
            Some(from) => self.changes.to(Some(from))?,
            None => None,
        };
        if let Some(present) = &present
            && present.from.as_deref() == Some(&self.slot)
        {
            self.invert(change, present, database)?;
            if self.all_held(change, database) {
                return Ok(files.iter().map(|file| file.size).sum());
            }
            change.touched.clear();
        }
        let ours = |key: &Key, version: &str| {
            present.as_ref().is_some_and(|one| {
                one.holds
                    .iter()
                    .any(|held| held.key == *key && held.version == version)
            })
        };
        let missing: Vec<PackageFile> = files
            .into_iter()
            .filter(|file| {
                let key = file.key(database);
                let Some(present) = database.installed(&key) else {
                    return true;
                };
                let newer = self
                    .manager
                    .family()
                    .compare(&present.version, &file.version)
                    .is_gt();
                let stays = newer && change.newer_kept && !ours(&key, &present.version);
                present.version != file.version && !stays
            })
            .collect();
        if missing.is_empty() {
            return Ok(0);
        }
        self.ask(change, missing, database, stock).await
    }

    async fn ask(
        &self,
        change: &mut Change,
        missing: Vec<PackageFile>,
        database: &Database,
        stock: &[PackageFile],
    ) -> Result<u64, PackageError> {
        // Asked before, since the manager would only say that it cannot.
        let keys: Vec<Key> = missing.iter().map(|file| file.key(database)).collect();
        refuse_held(&keys, database)?;
        let carried = missing.len();
        let brought = self.changes.brought(&self.slot)?;
        let mut files = missing;
        files.extend(self.still_needed(stock, &brought, database));
        let plan = match self.manager.plan(&files, database).await {
            Err(PackageError::Unsatisfied { .. })
                if self.recipe.dependencies == Dependencies::Host
                    && self.network == Network::Allowed =>
            {
                files.truncate(carried);
                self.manager.bring(&files, &brought, database).await?;
                let more = self.read_all(&file::find(&brought)?).await?;
                files.extend(self.still_needed(&more, &brought, database));
                self.manager.plan(&files, database).await?
            }
            plan => plan?,
        };
        self.put_down(change, &plan, &files, carried, database)?;
        Ok(files.iter().map(|file| file.size).sum())
    }

    /// What was brought for the release and is not on the host in that version or a newer one.
    fn still_needed(
        &self,
        files: &[PackageFile],
        brought: &Path,
        database: &Database,
    ) -> Vec<PackageFile> {
        let family = self.manager.family();
        let needed = files.iter().filter(|file| {
            file.path.starts_with(brought)
                && database
                    .installed(&file.key(database))
                    .is_none_or(|present| family.compare(&present.version, &file.version).is_lt())
        });
        needed.cloned().collect()
    }

    fn put_down(
        &self,
        change: &mut Change,
        plan: &Plan,
        files: &[PackageFile],
        carried: usize,
        database: &Database,
    ) -> Result<(), PackageError> {
        for (key, version) in &plan.installs {
            let position = files
                .iter()
                .position(|file| file.key(database) == *key && file.version == *version);
            let Some(position) = position else {
                return Err(PackageError::Unsatisfied {
                    missing: format!("{key} {version}"),
                });
            };
            let file = &files[position];
            change::sync(&file.path)?;
            let automatic = database
                .installed(key)
                .map_or(position >= carried, |present| present.automatic);
            let after = Will::Be {
                version: file.version.clone(),
                arch: file.arch.clone(),
                automatic,
                file: self.changes.relative(&file.path),
            };
            change.touched.push(Touched {
                key: key.clone(),
                before: Was::Absent,
                after,
            });
        }
        let replaced = |key: &&Key| files.iter().any(|file| file.replaces.contains(&key.name));
        let (replaced, others): (Vec<&Key>, Vec<&Key>) = plan.removes.iter().partition(replaced);
        if !others.is_empty() {
            return Err(PackageError::Removes {
                packages: list(others),
            });
        }
        for key in replaced {
            let after = Will::Go { purge: false };
            change.touched.push(Touched {
                key: key.clone(),
                before: Was::Absent,
                after,
            });
        }
        Ok(())
    }

    /// Puts down the opposite of another change, as far as it is not so already.
    fn invert(
        &self,
        change: &mut Change,
        other: &Change,
        database: &Database,
    ) -> Result<(), PackageError> {
        let dir = self.changes.shelf();
        for ((key, want), touched) in other.back(dir).into_iter().zip(&other.touched) {
            if want.is_met(database.packages.get(&key)) {
                continue;
            }
            let after = match &touched.before {
                Was::Absent => Will::Go { purge: true },
                Was::ConfigFiles => Will::Go { purge: false },
                Was::Installed {
                    version,
                    arch,
                    automatic,
                    file,
                } => {
                    let Some(file) = file else {
                        return Err(PackageError::NoWayBack {
                            package: key.to_string(),
                            version: version.clone(),
                            why: "the release that replaced it is irreversible".to_owned(),
                        });
                    };
                    let brought = match &change.to {
                        Some(to) => self.changes.brought(to)?,
                        None => self.changes.kept(None)?,
                    };
                    let file = dir.join(file);
                    let own = link(&file, &brought.join(file.file_name().unwrap_or_default()))?;
                    Will::Be {
                        version: version.clone(),
                        arch: arch.clone(),
                        automatic: *automatic,
                        file: self.changes.relative(&own),
                    }
                }
            };
            change.touched.push(Touched {
                key,
                before: Was::Absent,
                after,
            });
        }
        Ok(())
    }

    /// Whether the release's packages are there once the change is made.
    fn all_held(&self, change: &Change, database: &Database) -> bool {
        change.holds.iter().all(|held| {
            let touched = change
                .touched
                .iter()
                .find(|touched| touched.key == held.key);
            let version = match touched.map(|touched| &touched.after) {
                Some(Will::Be { version, .. }) => Some(version.as_str()),
                Some(Will::Go { .. }) => None,
                None => database
                    .installed(&held.key)
                    .map(|present| present.version.as_str()),
            };
            version.is_some_and(|version| meets(self.manager, change, held, version))
        })
    }
}

/// Refuses to change what an administrator holds.
fn refuse_held<'a>(
    keys: impl IntoIterator<Item = &'a Key>,
    database: &Database,
) -> Result<(), PackageError> {
    let is_held = |key: &&Key| {
        let present = database.packages.get(*key);
        present.is_some_and(|present| present.held)
    };
    let held = list(keys.into_iter().filter(is_held));
    if held.is_empty() {
        return Ok(());
    }
    Err(PackageError::Held { packages: held })
}

/// Whether a version satisfies what a release holds.
pub(super) fn meets(manager: &Manager, change: &Change, held: &Held, version: &str) -> bool {
    let ordering = manager.family().compare(version, &held.version);
    ordering.is_eq() || change.newer_kept && ordering.is_gt()
}
