//! The installer of one release, whichever kind it is.
//!
//! Decides nothing: every call goes to the kind that the release's manifest names.

use comber_model::Version;
use comber_model::release::Installer as Recipe;

use super::agent::Agent;
use super::archive::Archive;
use super::module::Module;
use super::package::Package;
use super::{Activation, Current, Fit, InstallError, Installer, Record, Shelf};
use crate::trust::Verified;

/// The installer of one release.
#[derive(Debug)]
pub struct Kind {
    shelf: Shelf,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Archive(Archive),
    Package(Package),
    Module(Module),
    Agent(Agent),
}

/// Calls one method of whichever installer it is.
macro_rules! each {
    ($self:ident, $it:ident => $call:expr) => {
        match &$self.inner {
            Inner::Archive($it) => $call,
            Inner::Package($it) => $call,
            Inner::Module($it) => $call,
            Inner::Agent($it) => $call,
        }
    };
}

impl Kind {
    pub(super) fn new(shelf: Shelf) -> Self {
        let inner = match &shelf.record.manifest.installer {
            Recipe::Archive(_) => Inner::Archive(Archive::new(shelf.clone())),
            Recipe::Package(recipe) => Inner::Package(Package::new(shelf.clone(), recipe.clone())),
            Recipe::Module(recipe) => Inner::Module(Module::new(shelf.clone(), recipe.clone())),
            Recipe::Agent(recipe) => Inner::Agent(Agent::new(shelf.clone(), recipe.clone())),
        };
        Self { shelf, inner }
    }

    /// Whether the bytes are in place.
    pub fn is_staged(&self) -> Result<bool, InstallError> {
        self.shelf.is_staged()
    }

    /// What must hold after the boot on the way back, before the host counts as back. Changes nothing that matters.
    pub async fn prove_back(&self) -> Result<(), InstallError> {
        match &self.inner {
            Inner::Module(module) => module.prove_back().await,
            Inner::Archive(_) | Inner::Package(_) | Inner::Agent(_) => Ok(()),
        }
    }

    /// Whether a change of the product is over and the cleanup after it is not.
    pub fn is_unfinished(&self) -> bool {
        match &self.inner {
            Inner::Module(module) => module.is_unfinished(),
            Inner::Archive(_) | Inner::Package(_) | Inner::Agent(_) => false,
        }
    }
}

impl Installer for Kind {
    async fn stage(&self, verified: Verified) -> Result<(), InstallError> {
        each!(self, it => Box::pin(it.stage(verified)).await)
    }

    async fn preflight(&self, before: Option<&Record>) -> Result<Fit, InstallError> {
        each!(self, it => Box::pin(it.preflight(before)).await)
    }

    async fn activate(&self, before: Option<&Record>) -> Result<Activation, InstallError> {
        each!(self, it => Box::pin(it.activate(before)).await)
    }

    async fn reboot(&self) -> Result<bool, InstallError> {
        each!(self, it => Box::pin(it.reboot()).await)
    }

    async fn prove(&self) -> Result<(), InstallError> {
        each!(self, it => Box::pin(it.prove()).await)
    }

    async fn commit(&self) -> Result<(), InstallError> {
        each!(self, it => Box::pin(it.commit()).await)
    }

    async fn roll_back(&self, before: Option<&Record>) -> Result<(), InstallError> {
        each!(self, it => Box::pin(it.roll_back(before)).await)
    }

    fn detect(&self) -> Result<Current, InstallError> {
        each!(self, it => it.detect())
    }

    async fn cleanup(&self, keep: &[Version]) -> Result<(), InstallError> {
        each!(self, it => Box::pin(it.cleanup(keep)).await)
    }

    async fn remove(&self) -> Result<(), InstallError> {
        each!(self, it => Box::pin(it.remove()).await)
    }
}
