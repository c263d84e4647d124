//! Begins, carries out and undoes changes of the host's packages.
//!
//! Writes records and runs the package manager. Invariant: the record is on the disk before the first run, and what a run
//! came to is looked up in the package database, whatever the run itself said.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::change::{Change, Was};
use super::error::PackageError;
use super::keep;
use super::manager::Manager;
use super::prepare::{Network, Prepared};
use super::state::{Key, Want, Way, list};
use super::{InstallError, Package, Record};
use crate::install::layout::Link;

/// Which boot the host runs in.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// Directories whose file systems hold what packages bring; those that are there.
const SYNCED: [&str; 8] = ["", "usr", "etc", "var", "opt", "boot", "srv", "root"];

impl Package {
    /// Looks what is to be changed and records it.
    pub(super) async fn begin(
        &self,
        manager: &Manager,
        from: Option<String>,
    ) -> Result<Change, InstallError> {
        let look = self.look(manager, Network::None);
        match look.prepare(from).await? {
            Prepared::Ready { mut change, bytes } => {
                self.room(bytes)?;
                if self.is_current(change.to.as_deref())?
                    && let Some(made) = self.changes.to(change.to.as_deref())?
                {
                    change.go_on_from(made);
                }
                change.boot = boot()?;
                self.note_origin(&change)?;
                self.changes.put(&change)?;
                Ok(*change)
            }
            // It was a release for this host when it was looked at before; going on would be a guess.
            Prepared::NotApplicable(why) => Err(PackageError::NotReached { what: why }.into()),
        }
    }

    /// The same for a change to nothing: what was there before the product's first release. None where nothing is current.
    pub(super) async fn begin_removal(
        &self,
        manager: &Manager,
    ) -> Result<Option<Change>, InstallError> {
        let Link::Slot(from) = self.shelf.layout.link()? else {
            return Ok(None);
        };
        let origin = match self.changes.origin()? {
            Some(origin) => origin,
            // No release of it ever changed a package.
            None => Change::new(manager.family(), String::new(), None, None),
        };
        let mut change = self
            .look(manager, Network::None)
            .removal(&origin, from)
            .await?;
        change.boot = boot()?;
        self.changes.put(&change)?;
        Ok(Some(change))
    }

    /// Brings about what a recorded change says, from whatever an earlier try left.
    pub(super) async fn carry_out(
        &self,
        manager: &Manager,
        change: &Change,
    ) -> Result<(), InstallError> {
        Ok(self.reach(manager, change, Way::Forward).await?)
    }

    /// Notes that a change is done. It stays, as the way back from it.
    pub(super) fn end(&self, mut change: Change) -> Result<(), InstallError> {
        change.ended = true;
        Ok(self.changes.put(&change)?)
    }

    /// Undoes a change that was left unfinished by an attempt of which nobody knows any more.
    pub(super) async fn undo(
        &self,
        manager: &Manager,
        change: &Change,
    ) -> Result<(), InstallError> {
        tracing::warn!(
            from = change.from,
            to = change.to,
            "undoes a change that was left unfinished"
        );
        if self.is_current(change.to.as_deref())? {
            // Only its mark is missing.
            return self.end(change.clone());
        }
        self.reach(manager, change, Way::Back).await?;
        Ok(self.changes.forget(change)?)
    }

    /// Notes that a change begins to be undone: from now on it is one that is not finished.
    pub(super) fn take_back(&self, change: &mut Change) -> Result<(), PackageError> {
        if !change.ended {
            return Ok(());
        }
        change.ended = false;
        change.boot = boot()?;
        self.changes.put(change)
    }

    /// The change that leads away from a release: one that is not finished, or the one to what is current. None where the
    /// host is as that release left it.
    pub(super) fn to_undo(&self, from: Option<&str>) -> Result<Option<Change>, InstallError> {
        if let Some(change) = self.changes.pending()? {
            // The ledger knows of this one only: whatever it began from, it leads back.
            return Ok(Some(change));
        }
        if self.is_current(from)? {
            return Ok(None);
        }
        let current = match self.shelf.layout.link()? {
            Link::Slot(slot) => Some(slot),
            Link::Absent | Link::Other(_) => None,
        };
        let change = self.changes.to(current.as_deref())?;
        let change = change.filter(|change| change.from.as_deref() == from);
        // The link alone could be set back, but nobody knows what the packages were.
        let change = change.ok_or_else(|| PackageError::Record {
            path: self.shelf.layout.current(),
            why: "it is missing, so what the packages were before is not known".to_owned(),
        })?;
        Ok(Some(change))
    }

    /// Makes the release before current again.
    pub(super) fn link(&self, before: Option<&Record>) -> Result<(), InstallError> {
        match before {
            Some(before) => self.shelf.switch(before),
            None => self.shelf.unlink(),
        }
    }

    /// Has the manager bring about one side of a change, looks that it did, and has it on the disk.
    ///
    /// Where the host was booted since, what scripts of packages did may be lost although dpkg's own database says that they
    /// ran: then all of it is done once more.
    pub(super) async fn reach(
        &self,
        manager: &Manager,
        change: &Change,
        way: Way,
    ) -> Result<(), PackageError> {
        let again = change.boot != boot()?;
        let dir = self.changes.shelf();
        let wants = match way {
            Way::Forward => change.forward(dir),
            Way::Back => change.back(dir),
        };
        let mut database = manager.database(&change.native)?;
        if !database.is_clean() {
            manager.mend(way).await?;
            database = manager.database(&change.native)?;
        }
        let is_due = |key: &Key, want: &Want| {
            again && matches!(want, Want::At { .. }) || !want.is_met(database.packages.get(key))
        };
        let due: Vec<(Key, Want)> = wants
            .iter()
            .filter(|(key, want)| is_due(key, want))
            .cloned()
            .collect();
        if !due.is_empty() {
            manager.reach(&due, &database, way).await?;
        }
        if again {
            manager.restore_torn(&wants, &change.edited).await?;
        }
        self.look_after(manager, change, &wants).await?;
        self.mark(manager, change, way).await?;
        self.sync().await
    }

    /// Has everything that the packages and their scripts wrote on the disk. dpkg syncs most of what it unpacks and nothing
    /// that scripts write.
    async fn sync(&self) -> Result<(), PackageError> {
        let root = self.root().to_owned();
        let synced = tokio::task::spawn_blocking(move || {
            let mut done = std::collections::BTreeSet::new();
            for dir in SYNCED.map(|name| root.join(name)) {
                let Ok(open) = File::open(&dir) else {
                    continue;
                };
                let failed = |source| PackageError::Read {
                    path: dir.clone(),
                    source,
                };
                if done.insert(open.metadata().map_err(failed)?.dev()) {
                    rustix::fs::syncfs(&open).map_err(|errno| failed(errno.into()))?;
                }
            }
            Ok(())
        });
        let stopped = |_| PackageError::NotReached {
            what: "the agent stopped before all was on the disk".to_owned(),
        };
        synced.await.map_err(stopped)?
    }

    async fn look_after(
        &self,
        manager: &Manager,
        change: &Change,
        wants: &[(Key, Want)],
    ) -> Result<(), PackageError> {
        let database = manager.database(&change.native)?;
        let unmet = wants
            .iter()
            .filter(|(key, want)| !want.is_met(database.packages.get(key)));
        let unmet = list(unmet.map(|(key, _)| key));
        if !unmet.is_empty() {
            return Err(PackageError::NotReached {
                what: format!("{unmet} are not as they should be"),
            });
        }
        let audit = manager.audit(&change.native).await?;
        if !audit.is_empty() {
            return Err(PackageError::NotReached {
                what: format!("packages are not consistent: {audit}"),
            });
        }
        let keys: Vec<&Key> = wants.iter().map(|(key, _)| key).collect();
        manager.prove(&keys, &database).await
    }

    async fn mark(&self, manager: &Manager, change: &Change, way: Way) -> Result<(), PackageError> {
        let database = manager.database(&change.native)?;
        for automatic in [true, false] {
            let marks = change
                .marks(way == Way::Back)
                .into_iter()
                .filter(|(key, mark)| {
                    *mark == automatic
                        && database
                            .installed(key)
                            .is_some_and(|present| present.automatic != automatic)
                });
            let keys: Vec<&Key> = marks.map(|(key, _)| key).collect();
            manager.mark(&keys, automatic).await?;
        }
        Ok(())
    }

    fn is_current(&self, slot: Option<&str>) -> Result<bool, InstallError> {
        Ok(match self.shelf.layout.link()? {
            Link::Slot(current) => slot == Some(current.as_str()),
            Link::Absent => slot.is_none(),
            Link::Other(_) => false,
        })
    }

    /// Notes what packages were before the product touched them for the first time, and keeps their files for as long as the
    /// product is there: removing it brings them back.
    fn note_origin(&self, change: &Change) -> Result<(), PackageError> {
        let fresh = || Change::new(change.family, change.native.clone(), None, None);
        let mut origin = self.changes.origin()?.unwrap_or_else(fresh);
        let kept = self.changes.origin_kept()?;
        let mut grew = false;
        for touched in &change.touched {
            if origin.touched.iter().any(|one| one.key == touched.key) {
                continue;
            }
            let mut first = touched.clone();
            if let Was::Installed {
                file: Some(file), ..
            } = &mut first.before
            {
                let from = self.changes.shelf().join(&*file);
                let to = keep::link(&from, &kept.join(from.file_name().unwrap_or_default()))?;
                *file = self.changes.relative(&to);
            }
            origin.touched.push(first);
            grew = true;
        }
        if grew {
            self.changes.put_origin(&origin)?;
        }
        Ok(())
    }
}

fn boot() -> Result<String, PackageError> {
    let text = fs::read_to_string(Path::new(BOOT)).map_err(|source| PackageError::Read {
        path: BOOT.into(),
        source,
    })?;
    Ok(text.trim().to_owned())
}
