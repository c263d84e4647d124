//! The `archive` installer: releases side by side, one symbolic link that says which of them is active.
//!
//! ```text
//!   <root>/<path>/releases/2.4.0-1f2e3d4c5b6a/    kept, to go back to
//!   <root>/<path>/releases/2.4.1-a1b2c3d4e5f6/    active
//!   <root>/<path>/current -> releases/2.4.1-a1b2c3d4e5f6
//! ```
//!
//! Writes below the product's directory and runs the release's commands. The switch is a new link renamed over the old
//! one, then synced: at every instant `current` leads to one whole release. Invariant: what `current` leads to is never
//! written to and never removed; where its record was lost, it is exchanged whole for proven bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_model::Version;
use comber_model::release::{ArchiveInstaller, Installer as Recipe};

use super::layout::{self, Layout, Link};
use super::{Current, InstallError, Installer, Record, Site, Stop};
use crate::exec::{ExecError, Run};
use crate::surroundings::Variables;
use crate::trust::Verified;

/// What `systemctl` ends with where no such unit is loaded.
const UNIT_UNKNOWN: i32 = 5;

/// Installs one release.
#[derive(Debug)]
pub struct Archive {
    site: Site,
    record: Record,
    layout: Layout,
}

impl Archive {
    pub(super) fn new(site: Site, record: Record) -> Self {
        let layout = Layout::new(site.product_dir(&record));
        Self {
            site,
            record,
            layout,
        }
    }

    /// Whether the bytes are in place: they have their final name only when they are whole.
    pub fn is_staged(&self) -> Result<bool, InstallError> {
        let Record {
            artifact, manifest, ..
        } = &self.record;
        let record = self
            .site
            .catalog
            .find(&manifest.name, &manifest.version, &artifact.digest)?;
        Ok(record.is_some() && self.place(&self.record).is_dir())
    }

    fn place(&self, record: &Record) -> PathBuf {
        self.layout.place(&record.slot())
    }

    /// Blocking part of `stage`. The record comes first: a directory without one would be of unknown origin.
    fn unpack(&self, verified: &Verified, stop: &Stop) -> Result<(), InstallError> {
        let place = self.place(&self.record);
        let name = &self.record.manifest.name;
        let known = self.site.catalog.by_slot(name, &self.record.slot())?;
        if let Some(other) = &known
            && other.artifact.digest != self.record.artifact.digest
        {
            return Err(InstallError::Collision {
                path: place,
                found: other.artifact.digest.to_string(),
            });
        }
        let is_there = place.is_dir();
        if known.is_some() && is_there {
            return Ok(());
        }
        self.layout.make()?;
        if is_there {
            return self.replace_unknown(verified, stop);
        }
        self.site.catalog.put(&self.record)?;
        unpack(verified, &place, stop)
    }

    /// The record of these bytes was lost, so they are not trusted; but they may be in use, so they stay until proven
    /// ones take their place in one step. Only then is there a record again: it must never vouch for the old ones.
    fn replace_unknown(&self, verified: &Verified, stop: &Stop) -> Result<(), InstallError> {
        let slot = self.record.slot();
        let fresh = self.layout.fresh(&slot);
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(layout::io_at("remove", &fresh))?;
        }
        unpack(verified, &fresh, stop)?;
        self.layout.exchange(&slot)?;
        Ok(self.site.catalog.put(&self.record)?)
    }

    fn switch(&self, record: &Record) -> Result<(), InstallError> {
        let place = self.place(record);
        if !place.is_dir() {
            return Err(InstallError::Gone {
                release: record.id().to_string(),
                path: place,
            });
        }
        self.layout.switch(&record.slot())
    }

    /// Stops a release in its own directory, whatever is current.
    async fn stop(&self, record: &Record, before: Option<&Record>) -> Result<(), InstallError> {
        let recipe = recipe(record);
        let place = self.place(record);
        if !recipe.stop.is_empty() {
            self.command("stop", &recipe.stop, &place, record, before)
                .await?;
        }
        for unit in &recipe.units {
            self.unit("stop", unit, record).await?;
        }
        Ok(())
    }

    /// Starts the release that is current. Units are restarted, so that one which runs the old bytes takes the new ones.
    async fn start(&self, record: &Record, before: Option<&Record>) -> Result<(), InstallError> {
        let recipe = recipe(record);
        let current = self.layout.current();
        if !recipe.restart.is_empty() {
            self.command("restart", &recipe.restart, &current, record, before)
                .await?;
        }
        for unit in &recipe.units {
            // A release that crashed again and again has used up the unit's starts, and systemd would refuse the good
            // one too. Fails where the unit is not loaded, which the restart tells better.
            let _ = self.unit("reset-failed", unit, record).await;
            self.unit("restart", unit, record).await?;
        }
        if !recipe.start.is_empty() {
            self.command("start", &recipe.start, &current, record, before)
                .await?;
        }
        Ok(())
    }

    async fn command(
        &self,
        name: &'static str,
        command: &[String],
        dir: &Path,
        record: &Record,
        before: Option<&Record>,
    ) -> Result<(), InstallError> {
        let variables = self.site.variables_for(record, before);
        let ran = self.run(command, dir, &variables, timeout(record)).await;
        ran.map_err(|source| InstallError::Command {
            command: name,
            release: record.id().to_string(),
            source,
        })
    }

    async fn unit(
        &self,
        action: &'static str,
        unit: &str,
        record: &Record,
    ) -> Result<(), InstallError> {
        let command = ["systemctl", action, unit].map(str::to_owned);
        let none = Variables::new();
        let ran = self
            .run(&command, self.layout.dir(), &none, timeout(record))
            .await;
        match &ran {
            // A unit that systemd does not know does not run.
            Err(ExecError::Failed { status, .. })
                if action == "stop" && status.code() == Some(UNIT_UNKNOWN) =>
            {
                return Ok(());
            }
            Ok(()) | Err(_) => {}
        }
        ran.map_err(|source| InstallError::Unit {
            action,
            unit: unit.to_owned(),
            source,
        })
    }

    async fn run(
        &self,
        command: &[String],
        dir: &Path,
        variables: &Variables,
        timeout: Duration,
    ) -> Result<(), ExecError> {
        let run = Run {
            command,
            dir,
            variables,
            timeout,
        };
        let output = self.site.exec.run(&run).await?;
        tracing::debug!(?command, output, "a command ended well");
        Ok(())
    }

    /// Stops what is active where stopping is no condition: on the way back, or when it is half started already.
    async fn stop_if_possible(&self, active: &Record, before: Option<&Record>) {
        if let Err(error) = self.stop(active, before).await {
            let error = comber_runtime::telemetry::error_chain(&error);
            tracing::warn!(release = %active.id(), error, "stopping failed, going on");
        }
    }

    fn sweep(&self, keep: &[Version]) -> Result<(), InstallError> {
        comber_bundle::remove_partial(&self.layout.releases())?;
        let active = match self.layout.link()? {
            Link::Slot(slot) => Some(slot),
            Link::Absent | Link::Other(_) => None,
        };
        let name = &self.record.manifest.name;
        let records = self.site.catalog.of(name)?;
        let mut kept: Vec<String> = active.into_iter().collect();
        for record in &records {
            if keep.contains(&record.manifest.version) {
                kept.push(record.slot());
            }
        }
        for slot in self.layout.slots()? {
            if !kept.contains(&slot) {
                self.layout.discard(&slot)?;
            }
        }
        for record in records.iter().filter(|one| !kept.contains(&one.slot())) {
            self.site.catalog.remove(record)?;
        }
        if kept.is_empty() {
            self.layout.unmake();
        }
        Ok(())
    }
}

impl Installer for Archive {
    async fn stage(&self, verified: Verified) -> Result<(), InstallError> {
        let this = Self::new(self.site.clone(), self.record.clone());
        self.site
            .jobs
            .run(move |stop| this.unpack(&verified, stop))
            .await
    }

    async fn activate(&self, before: Option<&Record>) -> Result<(), InstallError> {
        let hands_over = !recipe(&self.record).restart.is_empty();
        match self.detect()? {
            Current::Release(active) if hands_over => {
                tracing::debug!(from = %active.id(), "changes over by itself");
            }
            // After a crash behind the switch: what was started may run or not, and its stop command may fail on that.
            Current::Release(active) if *active == self.record => {
                self.stop_if_possible(&active, before).await;
            }
            Current::Release(active) => self.stop(&active, before).await?,
            Current::Nothing => {}
            // How to stop it is unknown. If it holds what the new release needs, that one's start or checks will tell.
            Current::Foreign(place) => {
                tracing::warn!(place = %place.display(), "what is active was not installed by comber");
            }
        }
        self.switch(&self.record)?;
        self.start(&self.record, before).await
    }

    async fn roll_back(&self, before: Option<&Record>) -> Result<(), InstallError> {
        let hands_over = before.is_some_and(|before| !recipe(before).restart.is_empty());
        match self.detect()? {
            Current::Release(active) if !hands_over => self.stop_if_possible(&active, before).await,
            Current::Release(_) | Current::Nothing | Current::Foreign(_) => {}
        }
        match before {
            Some(before) => {
                self.switch(before)?;
                self.start(before, None).await
            }
            None => self.layout.unlink(),
        }
    }

    fn detect(&self) -> Result<Current, InstallError> {
        let name = &self.record.manifest.name;
        Ok(match self.layout.link()? {
            Link::Absent => Current::Nothing,
            Link::Other(target) => Current::Foreign(target),
            Link::Slot(slot) => match self.site.catalog.by_slot(name, &slot)? {
                Some(record) if self.place(&record).is_dir() => Current::Release(Box::new(record)),
                Some(_) | None => Current::Foreign(self.layout.place(&slot)),
            },
        })
    }

    fn can_roll_back(&self) -> bool {
        true
    }

    async fn cleanup(&self, keep: &[Version]) -> Result<(), InstallError> {
        let this = Self::new(self.site.clone(), self.record.clone());
        let keep = keep.to_vec();
        self.site.jobs.run(move |_| this.sweep(&keep)).await
    }

    async fn remove(&self) -> Result<(), InstallError> {
        if let Current::Release(active) = self.detect()? {
            self.stop(&active, None).await?;
        }
        self.layout.unlink()
    }
}

fn recipe(record: &Record) -> &ArchiveInstaller {
    let Recipe::Archive(recipe) = &record.manifest.installer;
    recipe
}

fn timeout(record: &Record) -> Duration {
    record.manifest.timeouts.activate
}

fn unpack(verified: &Verified, place: &Path, stop: &Stop) -> Result<(), InstallError> {
    let carried =
        fs::File::open(verified.path()).map_err(layout::io_at("open", verified.path()))?;
    comber_bundle::unpack(stop.over(carried), verified.artifact(), place)?;
    Ok(())
}
