//! The only place that turns bytes on the disk into a [`Verified`] release, which is all that an installer takes.
//!
//! Reads the file, writes nothing. What counts is the assignment, which the controller's certificate authenticates: the
//! bytes must have its digest and its length, and must say of themselves that they are the assigned release.
//! Invariant: there is no other way to make a [`Verified`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use comber_bundle::{Contents, Refused};
use comber_model::release::Manifest;
use comber_model::{Artifact, FailureClass, ReleaseId};
use thiserror::Error;

/// Bytes that were brought and that nobody looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    /// The carried bytes.
    pub path: PathBuf,
    /// What they should be.
    pub artifact: Artifact,
}

/// A bundle that is what was assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    path: PathBuf,
    artifact: Artifact,
    contents: Contents,
}

/// Why bytes are not trusted.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The carried bytes.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The bundle breaks a rule or is another one.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A sound bundle of something else.
    #[error("the bundle says that it is {found}, {assigned} was assigned")]
    OtherRelease {
        /// What was assigned.
        assigned: ReleaseId,
        /// What the bundle's manifest says.
        found: ReleaseId,
    },
}

impl TrustError {
    /// A disk that cannot be read is no fault of the publisher.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Open { .. } => FailureClass::Fetch,
            Self::Refused(refused) if refused.is_retryable() => FailureClass::Fetch,
            Self::Refused(_) | Self::OtherRelease { .. } => FailureClass::Trust,
        }
    }
}

impl Unverified {
    /// Reads all of it and judges. Blocks for about a second for each GB.
    pub fn verify(self, assigned: &ReleaseId) -> Result<Verified, TrustError> {
        let file = File::open(&self.path).map_err(|source| TrustError::Open {
            path: self.path.clone(),
            source,
        })?;
        let contents = comber_bundle::verify(file, &self.artifact)?;
        let found = contents.listing.manifest().id();
        if found != *assigned {
            return Err(TrustError::OtherRelease {
                assigned: assigned.clone(),
                found,
            });
        }
        Ok(Verified {
            path: self.path,
            artifact: self.artifact,
            contents,
        })
    }
}

impl Verified {
    /// The carried bytes. Unpacking checks them again, so that a file exchanged meanwhile gains nothing.
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
}
