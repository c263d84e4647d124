//! Installers: how verified bytes become what the host runs, and how that is taken back.
//!
//! ```text
//!   stage ──> activate ──> (checks) ──> cleanup
//!                │ any failure
//!                └──> roll_back ──> (before is active again)
//! ```
//!
//! **What holds after a crash at any instant.** `stage` works beside what is active and ends with one rename: a release
//! is there whole or not at all, and staging again finishes it. `activate` and `roll_back` have one point of no return,
//! the atomic switch; before it the old release is current, after it the new one, and `detect` tells which. Both may be
//! run again from the start at any time and then do what is left. `remove` and `cleanup` likewise. Which release was
//! before is never read from the disk but passed in: the ledger is the truth, the disk only tells what happened.
//!
//! Every installer keeps its releases on a [`Shelf`], whose link `current` says which of them is active: one truth for all
//! kinds, also where the bytes that run are elsewhere. To add an installer: a variant of the manifest's `Installer`, a file
//! here that implements the trait and tells its crash story, its arms in `kind.rs`, and the tests of `archive` run over it.

mod agent;
mod archive;
mod catalog;
mod jobs;
mod kind;
pub(crate) mod layout;
mod module;
mod package;
mod shelf;
mod site;

use std::future::Future;
use std::path::PathBuf;

use comber_model::Version;
use thiserror::Error;

pub use agent::{AgentError, NotUpdatable};
pub use catalog::{Catalog, CatalogError, Record};
pub use jobs::{Jobs, Stop};
pub use kind::Kind;
pub use module::{ModuleError, is_answer};
pub use package::PackageError;
pub use shelf::Shelf;
pub use site::Site;

use crate::exec::ExecError;
use crate::trust::Verified;

/// Installs releases of one kind; each value serves one release.
pub trait Installer {
    /// Brings the bytes into place beside what is active. Done already is a success.
    ///
    /// A crash leaves nothing or an incomplete directory, which the next `stage` and `cleanup` remove.
    fn stage(&self, verified: Verified) -> impl Future<Output = Result<(), InstallError>> + Send;

    /// Looks whether the host can take the staged release, beside space and what it requires. Changes nothing.
    fn preflight(
        &self,
        before: Option<&Record>,
    ) -> impl Future<Output = Result<Fit, InstallError>> + Send;

    /// Stops what is active, switches to this release, starts it. Run again after the switch, it only starts again.
    ///
    /// When it fails, the switch may or may not have been made: `roll_back` deals with both. `before` is what the ledger
    /// says was active; it is told to the release's commands.
    fn activate(
        &self,
        before: Option<&Record>,
    ) -> impl Future<Output = Result<Activation, InstallError>> + Send;

    /// Reboots the host in its own way, where the installer has one. `false`: the host's way is to be used.
    fn reboot(&self) -> impl Future<Output = Result<bool, InstallError>> + Send;

    /// What must hold before the release's checks, after every activation and reboot. Changes nothing that matters.
    fn prove(&self) -> impl Future<Output = Result<(), InstallError>> + Send;

    /// Makes the change final, after every check has passed and before it is kept. A failure is one of the activation: the
    /// way back follows.
    fn commit(&self) -> impl Future<Output = Result<(), InstallError>> + Send;

    /// Makes `before` active again, or nothing where there was nothing, from whatever an activation of this release left.
    fn roll_back(
        &self,
        before: Option<&Record>,
    ) -> impl Future<Output = Result<(), InstallError>> + Send;

    /// What is active of the product, as the disk shows it.
    fn detect(&self) -> Result<Current, InstallError>;

    /// Removes releases of the product that are neither in `keep` nor active, and what crashes left behind.
    ///
    /// When it fails, running it again goes on; what is active is never touched.
    fn cleanup(&self, keep: &[Version]) -> impl Future<Output = Result<(), InstallError>> + Send;

    /// Stops what is active and makes nothing active. The bytes stay until `cleanup`, so that there is a way back.
    fn remove(&self) -> impl Future<Output = Result<(), InstallError>> + Send;
}

/// What an activation came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Activation {
    /// True where the change takes effect with a reboot only.
    pub needs_reboot: bool,
}

/// Whether a release is one for this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It is.
    Fits,
    /// It is none for this host, for the reason given. No failure.
    NotApplicable(String),
}

/// What `current` leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// Nothing is active.
    Nothing,
    /// A release that this agent staged.
    Release(Box<Record>),
    /// Something that this agent did not make, or of which it lost the record.
    Foreign(PathBuf),
}

/// Why a step of an installer failed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum InstallError {
    /// A command of the release.
    #[error("the {command} command of {release} failed")]
    Command {
        command: &'static str,
        release: String,
        #[source]
        source: ExecError,
    },
    /// systemd refused.
    #[error("cannot {action} the unit {unit}")]
    Unit {
        action: &'static str,
        unit: String,
        #[source]
        source: ExecError,
    },
    /// The disk.
    #[error("cannot {step} {}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The bytes, once more, or the disk.
    #[error("cannot unpack the release")]
    Unpack(#[from] comber_bundle::UnpackError),
    /// The records.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// What should be active or active again is not on the disk.
    #[error("{release} is not on this host any more, {} is missing", path.display())]
    Gone { release: String, path: PathBuf },
    /// Another release of the same short name.
    #[error("{} belongs to a release with the digest {found}", path.display())]
    Collision { path: PathBuf, found: String },
    /// `current` is a directory or a file: replacing it would lose somebody's data.
    #[error("{} is not a symbolic link; move it away, the agent makes it anew", path.display())]
    NotALink { path: PathBuf },
    /// Comber's own agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A module.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// Packages.
    #[error(transparent)]
    Package(#[from] Box<PackageError>),
    /// The process is ending.
    #[error("the agent stopped in the middle of this step")]
    Interrupted,
}

#[cfg(test)]
mod tests;
