//! The `agent` installer: Comber's agent replaces itself.

use comber_model::Version;
use comber_model::release::AgentInstaller;

use super::{Activation, Current, Fit, InstallError, Installer, Record, Shelf};
use crate::trust::Verified;

/// Installs one release.
#[derive(Debug)]
pub(super) struct Agent {
    shelf: Shelf,
    recipe: AgentInstaller,
}

impl Agent {
    pub(super) fn new(shelf: Shelf, recipe: AgentInstaller) -> Self {
        Self { shelf, recipe }
    }
}

impl Installer for Agent {
    async fn stage(&self, verified: Verified) -> Result<(), InstallError> {
        self.shelf.stage(verified).await
    }

    async fn preflight(&self, _before: Option<&Record>) -> Result<Fit, InstallError> {
        Ok(Fit::NotApplicable(format!(
            "{:?} is being built",
            self.recipe
        )))
    }

    async fn activate(&self, _before: Option<&Record>) -> Result<Activation, InstallError> {
        self.shelf.switch(&self.shelf.record)?;
        Ok(Activation::default())
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
        match before {
            Some(before) => self.shelf.switch(before),
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
        self.shelf.unlink()
    }
}
