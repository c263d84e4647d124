//! A release: what is published once and never changes.

mod check;
mod installer;
mod manifest;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use check::{Check, Exec, Http, Probe, Tcp, Unit, When};
pub use installer::{
    AgentInstaller, ArchiveInstaller, Dependencies, Installer, ModuleInstaller, Newer,
    PackageInstaller,
};
pub use manifest::{Category, Manifest, RebootPolicy, Severity, Timeouts};

use crate::{Artifact, ReleaseId};

/// A published release as the controller keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// What it says of itself; taken from the bundle, whose digest covers it.
    pub manifest: Manifest,
    /// Its bytes.
    pub artifact: Artifact,
    /// When the controller had it durably.
    pub published_at: Timestamp,
    /// Who published it.
    pub published_by: String,
}

impl Release {
    /// `name@version`.
    pub fn id(&self) -> ReleaseId {
        self.manifest.id()
    }
}
