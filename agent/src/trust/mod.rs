//! What this host may install: the only place that makes a [`Verified`] release, which is all that an installer takes.
//!
//! ```text
//!   controller ── relays ──> look (signed metadata, the host's own record) ──> judge ──> Listed ─┐
//!   controller ── relays ──> fetched bytes ─────────────────────────── hash, length, name ───────┴─> Verified
//! ```
//!
//! The controller chooses among what the publisher lists, for whom and when; whatever else it says is refused here.
//! Invariant: there is no way to a [`Verified`] but through a [`Listed`], and none to that but through the record.

mod error;
mod keeper;
mod place;
mod source;
mod state;

use std::fs::File;
use std::path::{Path, PathBuf};

use comber_bundle::Contents;
use comber_model::release::Manifest;
use comber_model::{Artifact, Digest, ReleaseId};

pub use error::TrustError;
pub use keeper::{Assigned, Keeper, Runs, Wait};
pub use place::{PinError, Pinned, forget, pin, reset};
pub use state::{TrustReport, TrustState};

/// Bytes that were brought and that nobody looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    /// The carried bytes.
    pub path: PathBuf,
    /// What they should be.
    pub artifact: Artifact,
}

/// A release that the publisher lists and that this host may install now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    release: ReleaseId,
    digest: Digest,
    length: u64,
    counter: u64,
}

/// A bundle that is what the publisher signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    path: PathBuf,
    artifact: Artifact,
    contents: Contents,
    counter: u64,
}

impl Listed {
    /// Its place in the order of the product's releases.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// As if somebody had signed it, for tests of what comes after.
    #[cfg(test)]
    pub(crate) fn assumed(release: &ReleaseId, artifact: &Artifact) -> Self {
        Self {
            release: release.clone(),
            digest: artifact.digest,
            length: artifact.length,
            counter: 1,
        }
    }
}

impl Unverified {
    /// Reads all of it and judges by what is signed. Blocks for about a second for each GB.
    pub fn verify(self, listed: &Listed) -> Result<Verified, TrustError> {
        let file = File::open(&self.path).map_err(|source| TrustError::Open {
            path: self.path.clone(),
            source,
        })?;
        let signed = Artifact {
            digest: listed.digest,
            length: listed.length,
            ..self.artifact
        };
        let contents = comber_bundle::verify(file, &signed)?;
        let found = contents.listing.manifest().id();
        if found != listed.release {
            return Err(TrustError::OtherRelease {
                assigned: listed.release.clone(),
                found,
            });
        }
        Ok(Verified {
            path: self.path,
            artifact: signed,
            contents,
            counter: listed.counter,
        })
    }

    /// As if it were listed, for tests of what comes after.
    #[cfg(test)]
    pub(crate) fn assume(self, release: &ReleaseId) -> Result<Verified, TrustError> {
        let listed = Listed::assumed(release, &self.artifact);
        self.verify(&listed)
    }
}

impl Verified {
    /// The carried bytes. Unpacking hashes them again, so that a file exchanged meanwhile gains nothing.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity that was proven.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// What the release says of itself.
    pub fn manifest(&self) -> &Manifest {
        self.contents.listing.manifest()
    }

    /// Its place in the order of the product's releases, as signed.
    pub fn counter(&self) -> u64 {
        self.counter
    }
}
