//! The `archive` installer: releases side by side, one symbolic link that says which of them is active.
//!
//! ```text
//!   <root>/<path>/releases/2.4.0-1f2e3d4c5b6a/    kept, to go back to
//!   <root>/<path>/releases/2.4.1-a1b2c3d4e5f6/    active
//!   <root>/<path>/current -> releases/2.4.1-a1b2c3d4e5f6
//! ```
//!
//! Runs the release's commands around the switch, a new link renamed over the old one, then synced. Invariant: at every
//! instant `current` leads to one whole release.

use std::path::Path;
use std::time::Duration;

use comber_model::Version;
use comber_model::release::{ArchiveInstaller, Installer as Recipe};

use super::{Activation, Current, Fit, InstallError, Installer, Record, Shelf};
use crate::exec::{ExecError, Run};
use crate::surroundings::Variables;
use crate::trust::Verified;

/// What `systemctl` ends with where no such unit is loaded.
const UNIT_UNKNOWN: i32 = 5;

/// Installs one release.
#[derive(Debug)]
pub(super) struct Archive {
    shelf: Shelf,
}

impl Archive {
    pub(super) fn new(shelf: Shelf) -> Self {
        Self { shelf }
    }

    fn record(&self) -> &Record {
        &self.shelf.record
    }

    /// Stops a release in its own directory, whatever is current.
    async fn stop(&self, record: &Record, before: Option<&Record>) -> Result<(), InstallError> {
        // A product keeps its installer: preflight refuses another place.
        let Some(recipe) = recipe(record) else {
            return Ok(());
        };
        let place = self.shelf.place(record);
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
        let Some(recipe) = recipe(record) else {
            return Ok(());
        };
        let current = self.shelf.layout.current();
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
        let variables = self.shelf.site.variables_for(record, before);
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
            .run(&command, self.shelf.layout.dir(), &none, timeout(record))
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
        let output = self.shelf.site.exec.run(&run).await?;
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
}

impl Installer for Archive {
    async fn stage(&self, verified: Verified) -> Result<(), InstallError> {
        self.shelf.stage(verified).await
    }

    async fn activate(&self, before: Option<&Record>) -> Result<Activation, InstallError> {
        let hands_over = changes_over(self.record());
        match self.detect()? {
            Current::Release(active) if hands_over => {
                tracing::debug!(from = %active.id(), "changes over by itself");
            }
            // After a crash behind the switch: what was started may run or not, and its stop command may fail on that.
            Current::Release(active) if *active == *self.record() => {
                self.stop_if_possible(&active, before).await;
            }
            Current::Release(active) => self.stop(&active, before).await?,
            Current::Nothing => {}
            // How to stop it is unknown. If it holds what the new release needs, that one's start or checks will tell.
            Current::Foreign(place) => {
                tracing::warn!(place = %place.display(), "what is active was not installed by comber");
            }
        }
        self.shelf.switch(self.record())?;
        self.start(self.record(), before).await?;
        Ok(Activation::default())
    }

    async fn preflight(&self, _before: Option<&Record>) -> Result<Fit, InstallError> {
        Ok(Fit::Fits)
    }

    async fn reboot(&self) -> Result<bool, InstallError> {
        Ok(false)
    }

    async fn prove(&self) -> Result<(), InstallError> {
        Ok(())
    }

    async fn commit(&self) -> Result<(), InstallError> {
        Ok(())
    }

    async fn roll_back(&self, before: Option<&Record>) -> Result<(), InstallError> {
        let hands_over = before.is_some_and(changes_over);
        match self.detect()? {
            Current::Release(active) if !hands_over => self.stop_if_possible(&active, before).await,
            Current::Release(_) | Current::Nothing | Current::Foreign(_) => {}
        }
        match before {
            Some(before) => {
                self.shelf.switch(before)?;
                self.start(before, None).await
            }
            None => self.shelf.unlink(),
        }
    }

    fn detect(&self) -> Result<Current, InstallError> {
        self.shelf.detect()
    }

    async fn cleanup(&self, keep: &[Version]) -> Result<(), InstallError> {
        self.shelf.cleanup(keep).await
    }

    async fn remove(&self) -> Result<(), InstallError> {
        if let Current::Release(active) = self.detect()? {
            self.stop(&active, None).await?;
        }
        self.shelf.unlink()
    }
}

fn recipe(record: &Record) -> Option<&ArchiveInstaller> {
    match &record.manifest.installer {
        Recipe::Archive(recipe) => Some(recipe),
        Recipe::Package(_) | Recipe::Module(_) | Recipe::Agent(_) => None,
    }
}

/// Whether a release takes over from the one before by itself.
fn changes_over(record: &Record) -> bool {
    recipe(record).is_some_and(|recipe| !recipe.restart.is_empty())
}

fn timeout(record: &Record) -> Duration {
    record.manifest.timeouts.activate
}
