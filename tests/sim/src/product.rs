//! The releases that are rolled out in simulations: versions of one product, each with its own way to fail.

use std::sync::Arc;
use std::time::Duration;

use comber_machine::Recipe;
use comber_model::release::{Manifest, RebootPolicy, Release};
use comber_model::{Artifact, Digest, Version};
use jiff::Timestamp;

/// How a version behaves on hosts, each number in times per thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Behaviour {
    /// The bytes cannot be brought.
    pub fetch_fails: u64,
    /// The switch fails.
    pub activation_fails: u64,
    /// A check does not pass.
    pub check_fails: u64,
    /// Going back from it fails.
    pub roll_back_fails: u64,
    /// Whether it needs a reboot.
    pub reboots: bool,
}

/// One version with what it does.
#[derive(Debug, Clone)]
pub struct Product {
    /// As published.
    pub release: Arc<Release>,
    /// As it behaves.
    pub behaviour: Behaviour,
}

impl Product {
    /// A version of the product `app`; its number is in its digest.
    ///
    /// # Panics
    ///
    /// Never: the template is a manifest.
    pub fn new(number: u8, behaviour: Behaviour) -> Self {
        let reboot = if behaviour.reboots {
            "required"
        } else {
            "never"
        };
        let source = format!(
            "name = \"app\"\nversion = \"{number}\"\nreboot = \"{reboot}\"\n[installer]\ntype = \"archive\"\npath = \"/app\"\n[timeouts]\nactivate = \"10s\"\nverify = \"20s\"\nreboot = \"2m\"\n"
        );
        let manifest = Manifest::parse(&source).expect("the template is a manifest");
        let artifact = Artifact {
            digest: digest(number),
            length: 1,
            carried_length: 1,
        };
        let release = Release {
            manifest,
            artifact,
            published_at: Timestamp::UNIX_EPOCH,
            published_by: "sim".to_owned(),
        };
        Self {
            release: Arc::new(release),
            behaviour,
        }
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.release.manifest.version
    }

    /// What the machine knows of it.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            timeouts: self.release.manifest.timeouts.clone(),
            reboot: if self.behaviour.reboots {
                RebootPolicy::Required
            } else {
                RebootPolicy::Never
            },
            irreversible: false,
            proof: Duration::ZERO,
        }
    }

    /// Longest time that one of its steps takes when it works.
    pub const STEP: Duration = Duration::from_secs(5);
}

/// The digest of a version.
pub fn digest(number: u8) -> Digest {
    Digest([number; 32])
}
