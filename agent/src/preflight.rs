//! Whether a host can take a release now: space, what must be installed before, whose directory it is.
//!
//! Looks and changes nothing. The release's `platforms` is not judged here: the planner did, over the same facts, and a
//! second judge would put a CEL interpreter into every agent. Invariant: a failure leaves the host as it was.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use comber_model::release::Manifest;
use comber_model::{Artifact, ReleaseId, ReleaseName, Version};
use comber_runtime::fsx::{self, FileError, Space};
use thiserror::Error;

/// Why a host cannot take a release now.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum PreflightError {
    /// Too little space.
    #[error(
        "{} needs {needed} bytes, {available} are free; free some space or enlarge the file system",
        path.display()
    )]
    Space {
        path: PathBuf,
        needed: u64,
        available: u64,
    },
    /// The file system cannot be asked.
    #[error("the free space is not known")]
    Unknown(#[from] FileError),
    /// Something that must be there before is not.
    #[error("{required} must be active on this host before, {}", instead(found.as_ref()))]
    Requires {
        required: ReleaseId,
        found: Option<Version>,
    },
    /// Two products in one directory would remove each other.
    #[error("{} belongs to {owner} on this host", path.display())]
    Taken { path: PathBuf, owner: ReleaseName },
    /// A product that moves would leave its active version behind.
    #[error(
        "{product} is installed in {} and this release wants {}; remove the product first",
        from.display(),
        to.display()
    )]
    Moved {
        product: ReleaseName,
        from: PathBuf,
        to: PathBuf,
    },
}

/// What must still be written where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// A place that may not exist yet.
    pub path: PathBuf,
    /// Bytes.
    pub bytes: u64,
}

/// What a fetch and an installation write: the carried bytes that are missing, and twice the unpacked ones, since file
/// systems round up and the release writes something itself once it runs.
pub fn needs(artifact: &Artifact, missing: u64, staging: &Path, product: &Path) -> [Need; 2] {
    [
        Need {
            path: staging.to_owned(),
            bytes: missing,
        },
        Need {
            path: product.to_owned(),
            bytes: artifact.length.saturating_mul(2),
        },
    ]
}

/// Checks that all needs fit together; those on one file system add up.
pub fn space(needs: &[Need]) -> Result<(), PreflightError> {
    let mut by_device: BTreeMap<u64, (PathBuf, u64, Space)> = BTreeMap::new();
    for need in needs {
        let place = nearest(&need.path);
        let device = std::fs::metadata(place).map_or(0, |metadata| metadata.dev());
        let space = fsx::free_space(place)?;
        let sum = by_device
            .entry(device)
            .or_insert_with(|| (place.to_owned(), 0, space));
        sum.1 = sum.1.saturating_add(need.bytes);
    }
    for (path, needed, space) in by_device.into_values() {
        if needed > space.available {
            return Err(PreflightError::Space {
                path,
                needed,
                available: space.available,
            });
        }
    }
    Ok(())
}

/// Checks that what the release requires is active.
pub fn requires(
    manifest: &Manifest,
    active: &BTreeMap<ReleaseName, Version>,
) -> Result<(), PreflightError> {
    for required in &manifest.requires {
        let found = active.get(&required.name);
        if found != Some(&required.version) {
            return Err(PreflightError::Requires {
                required: required.clone(),
                found: found.cloned(),
            });
        }
    }
    Ok(())
}

/// Checks that the product's directory is its own and stays where it is. `others` are the directories of what is on
/// the host.
pub fn place(
    product: &ReleaseName,
    dir: &Path,
    others: &[(ReleaseName, PathBuf)],
) -> Result<(), PreflightError> {
    for (owner, theirs) in others {
        if owner == product && theirs != dir {
            return Err(PreflightError::Moved {
                product: product.clone(),
                from: theirs.clone(),
                to: dir.to_owned(),
            });
        }
        let nested = theirs.starts_with(dir) || dir.starts_with(theirs);
        if owner != product && nested {
            return Err(PreflightError::Taken {
                path: theirs.clone(),
                owner: owner.clone(),
            });
        }
    }
    Ok(())
}

/// The nearest directory that exists: what does not exist yet will be made on its file system.
fn nearest(path: &Path) -> &Path {
    path.ancestors()
        .find(|place| place.is_dir())
        .unwrap_or_else(|| Path::new("/"))
}

fn instead(found: Option<&Version>) -> String {
    found.map_or_else(
        || "it is not installed".to_owned(),
        |version| format!("version {version} is"),
    )
}

#[cfg(test)]
pub(crate) mod tests;
