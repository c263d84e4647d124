//! The `package` installer: gives the release's packages to the host's own package manager.
//!
//! ```text
//!   preflight   what would change? may it? can it be undone?   files of what is replaced ──> changes/<release>/kept/
//!   activate    look again ──> record, synced ──> run ──> look ──> `current` ──> record ended
//!   roll back   record ──> run ──> look ──> `current` ──> record gone
//! ```
//!
//! **After a crash at any instant.** Before the record nothing was changed. From the record on it says of each package what
//! it was and what it shall be, and holds the file of either, so both ways are open from every state between: dpkg's journal
//! is taken in, interrupted configuration finished (`dpkg --configure -a`), a half-installed package installed once more from
//! its file, by dpkg alone, and what is so already is left alone. `current` is switched only after the package database and
//! an audit of it say that every package is as it shall be; a record without that switch is a change that is not finished,
//! and whatever comes next finishes or undoes it first. A run of the package manager is in a unit of its own and outlives
//! the agent; who comes next waits for its end, so there are never two.
//!
//! Two truths are compared by [`Package::detect`]: the link, and the package database. Invariant: no package is changed that
//! is not in a record on the disk.

mod change;
mod deb;
mod error;
mod file;
mod keep;
mod lock;
mod manager;
mod prepare;
mod rpm;
mod state;
mod tools;
mod version;
mod work;

use std::path::Path;
use std::time::Duration;

use comber_model::Version;
use comber_model::release::PackageInstaller;

pub use error::PackageError;

use super::{Activation, Current, Fit, InstallError, Installer, Record, Shelf};
use crate::preflight::{self, Need};
use crate::trust::Verified;
use change::Changes;
use manager::{Family, Manager};
use prepare::{Look, Network, Prepared};
use state::{Way, list};
use tools::Tools;

/// Longest wait for somebody else's lock in a preflight, which has ten minutes for all.
const PREFLIGHT_WAIT: Duration = Duration::from_mins(5);

/// Installs one release.
#[derive(Debug)]
pub(super) struct Package {
    shelf: Shelf,
    recipe: PackageInstaller,
    changes: Changes,
}

impl From<PackageError> for InstallError {
    fn from(error: PackageError) -> Self {
        Self::Package(Box::new(error))
    }
}

impl Package {
    pub(super) fn new(shelf: Shelf, recipe: PackageInstaller) -> Self {
        let changes = Changes::new(shelf.layout.dir());
        Self {
            shelf,
            recipe,
            changes,
        }
    }

    fn root(&self) -> &Path {
        &self.shelf.site.root
    }

    fn tools(&self) -> Tools {
        Tools {
            exec: self.shelf.site.exec.clone(),
            root: self.root().to_owned(),
            timeout: self.shelf.record.manifest.timeouts.activate,
        }
    }

    fn manager(&self) -> Result<Manager, PackageError> {
        let family = Family::of(self.root()).ok_or(PackageError::NoManager)?;
        Ok(Manager::new(family, self.tools()))
    }

    fn look<'a>(&'a self, manager: &'a Manager, network: Network) -> Look<'a> {
        Look {
            manager,
            changes: &self.changes,
            recipe: &self.recipe,
            place: self.shelf.place(&self.shelf.record),
            slot: self.shelf.record.slot(),
            irreversible: self.shelf.record.manifest.irreversible,
            network,
        }
    }

    /// Waits until nobody changes packages: neither a run of ours from before, nor somebody else. A wait for longer than the
    /// two thirds of the step's time that a run leaves would only be cut off by the step's own deadline.
    async fn idle(&self, manager: &Manager, at_most: Duration) -> Result<(), PackageError> {
        self.tools().settle().await?;
        lock::wait(&manager.locks(), self.recipe.lock_wait.min(at_most)).await
    }

    fn run_wait(&self) -> Duration {
        self.shelf
            .record
            .manifest
            .timeouts
            .activate
            .saturating_mul(2)
    }

    /// What is not as the current release left it; nothing where all is.
    fn drift(&self, record: &Record) -> Result<Option<String>, PackageError> {
        let Some(change) = self.changes.to(Some(&record.slot()))? else {
            // Without its record the link is all there is to know.
            return Ok(None);
        };
        let manager = Manager::new(change.family, self.tools());
        let database = manager.database(&change.native)?;
        let lost = change.holds.iter().filter(|held| {
            let present = database.installed(&held.key);
            !present
                .is_some_and(|present| prepare::meets(&manager, &change, held, &present.version))
        });
        let lost = list(lost.map(|held| format!("{} {}", held.key, held.version)));
        Ok((!lost.is_empty()).then_some(lost))
    }

    fn room(&self, bytes: u64) -> Result<(), PackageError> {
        let needs = [
            // dpkg has the old and the new files at the same time.
            Need {
                path: self.root().to_owned(),
                bytes: bytes.saturating_mul(2),
            },
            // What is kept of the old ones is about as large as the new ones.
            Need {
                path: self.shelf.layout.dir().to_owned(),
                bytes,
            },
        ];
        Ok(preflight::space(&needs)?)
    }
}

impl Installer for Package {
    async fn stage(&self, verified: Verified) -> Result<(), InstallError> {
        self.shelf.stage(verified).await
    }

    async fn preflight(&self, before: Option<&Record>) -> Result<Fit, InstallError> {
        let Some(family) = Family::of(self.root()) else {
            return Ok(Fit::NotApplicable(PackageError::NoManager.to_string()));
        };
        let manager = Manager::new(family, self.tools());
        self.idle(&manager, PREFLIGHT_WAIT).await?;
        let look = self.look(&manager, Network::Allowed);
        match look.prepare(before.map(Record::slot)).await? {
            Prepared::NotApplicable(why) => Ok(Fit::NotApplicable(why)),
            Prepared::Ready { change, bytes } => {
                self.room(bytes)?;
                let touched = list(change.touched.iter().map(|one| &one.key));
                tracing::debug!(touched, "what the packages would change");
                Ok(Fit::Fits)
            }
        }
    }

    async fn activate(&self, before: Option<&Record>) -> Result<Activation, InstallError> {
        let manager = self.manager()?;
        self.idle(&manager, self.run_wait()).await?;
        let (from, to) = (before.map(Record::slot), self.shelf.record.slot());
        let change = match self.changes.pending()? {
            Some(change) if change.to.as_ref() == Some(&to) && change.from == from => change,
            Some(other) => {
                self.undo(&manager, &other).await?;
                self.begin(&manager, from).await?
            }
            None => self.begin(&manager, from).await?,
        };
        self.carry_out(&manager, &change).await?;
        self.shelf.switch(&self.shelf.record)?;
        self.end(change)?;
        Ok(Activation::default())
    }

    async fn reboot(&self) -> Result<bool, InstallError> {
        Ok(false)
    }

    async fn prove(&self) -> Result<(), InstallError> {
        match self.drift(&self.shelf.record)? {
            Some(what) => Err(PackageError::Drifted { what }.into()),
            None => Ok(()),
        }
    }

    async fn commit(&self) -> Result<(), InstallError> {
        Ok(())
    }

    async fn roll_back(&self, before: Option<&Record>) -> Result<(), InstallError> {
        let from = before.map(Record::slot);
        let Some(mut change) = self.to_undo(from.as_deref())? else {
            return self.link(before);
        };
        let manager = Manager::new(change.family, self.tools());
        self.idle(&manager, self.run_wait()).await?;
        self.take_back(&mut change)?;
        self.reach(&manager, &change, Way::Back).await?;
        self.link(before)?;
        Ok(self.changes.forget(&change)?)
    }

    fn detect(&self) -> Result<Current, InstallError> {
        let current = self.shelf.detect()?;
        if let Current::Release(record) = &current
            && let Some(what) = self.drift(record)?
        {
            tracing::warn!(release = %record.id(), what, "packages are no longer as the release left them");
            return Ok(Current::Foreign(self.shelf.layout.current()));
        }
        Ok(current)
    }

    async fn cleanup(&self, keep: &[Version]) -> Result<(), InstallError> {
        self.shelf.cleanup(keep).await?;
        self.changes.sweep(&self.shelf.layout.slots()?)?;
        self.shelf.layout.unmake();
        Ok(())
    }

    async fn remove(&self) -> Result<(), InstallError> {
        let manager = self.manager()?;
        self.idle(&manager, self.run_wait()).await?;
        let change = match self.changes.pending()? {
            Some(change) if change.to.is_none() => Some(change),
            Some(other) => {
                self.undo(&manager, &other).await?;
                self.begin_removal(&manager).await?
            }
            None => self.begin_removal(&manager).await?,
        };
        if let Some(change) = change {
            self.carry_out(&manager, &change).await?;
            self.shelf.unlink()?;
            self.end(change)?;
        }
        self.shelf.unlink()
    }
}

#[cfg(test)]
mod tests;
