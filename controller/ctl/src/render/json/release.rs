//! Releases.

use std::path::Path;

use comber_proto::release::v1 as wire;
use serde::Serialize;

use super::moment;
use crate::render::text::hex;

/// A published release.
#[derive(Debug, Serialize)]
pub(crate) struct Release {
    id: String,
    sha256: String,
    length: u64,
    carried_length: u64,
    published_at: Option<String>,
    published_by: String,
    summary: String,
    severity: String,
    category: String,
    rollouts: Vec<String>,
    /// `listed`, `below_floor`, `withdrawn` or `unlisted`.
    listing: &'static str,
    counter: u64,
    floor: u64,
    manifest: String,
}

/// All releases asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Releases {
    releases: Vec<Release>,
}

/// What publishing came to.
#[derive(Debug, Serialize)]
pub(crate) struct Published {
    /// True where it had been published before.
    already: bool,
    release: Release,
}

/// A bundle that was built.
#[derive(Debug, Serialize)]
pub(crate) struct Built {
    id: String,
    path: String,
    sha256: String,
    length: u64,
    carried_length: u64,
}

impl From<&wire::Release> for Release {
    fn from(release: &wire::Release) -> Self {
        Self {
            id: release.id.clone(),
            sha256: hex(&release.digest),
            length: release.length,
            carried_length: release.carried_length,
            published_at: moment(release.published_at),
            published_by: release.published_by.clone(),
            summary: release.summary.clone(),
            severity: release.severity.clone(),
            category: release.category.clone(),
            rollouts: release.rollouts.clone(),
            listing: match release.listing() {
                wire::Listing::Listed => "listed",
                wire::Listing::BelowFloor => "below_floor",
                wire::Listing::Withdrawn => "withdrawn",
                wire::Listing::Unlisted => "unlisted",
                wire::Listing::Unspecified => "unknown",
            },
            counter: release.counter,
            floor: release.floor,
            manifest: release.manifest.clone(),
        }
    }
}

impl Releases {
    /// Of a list.
    pub(crate) fn new(releases: &[wire::Release]) -> Self {
        Self {
            releases: releases.iter().map(Release::from).collect(),
        }
    }
}

impl Published {
    /// The release and whether it was there before.
    pub(crate) fn new(release: &wire::Release, already: bool) -> Self {
        Self {
            already,
            release: release.into(),
        }
    }
}

impl Built {
    /// A bundle at its place.
    pub(crate) fn new(built: &comber_bundle::Built, path: &Path) -> Self {
        Self {
            id: built.listing.manifest().id().to_string(),
            path: path.display().to_string(),
            sha256: hex(&built.artifact.digest.0),
            length: built.artifact.length,
            carried_length: built.artifact.carried_length,
        }
    }
}
