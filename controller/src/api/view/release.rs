//! Releases.

use comber_model::release::{Category, Release, Severity};
use comber_model::wire::time::to_timestamp;
use comber_proto::release::v1 as wire;

use crate::core::{Listed, World};

/// Rollouts told of one release.
const ROLLOUTS_MAX: usize = 100;

/// A release with the rollouts that name it.
pub(in crate::api) fn release(world: &World, release: &Release) -> wire::Release {
    let (manifest, id) = (&release.manifest, release.id());
    let trust = world.trust.as_deref();
    let listed = trust.map_or(Listed::No, |trust| trust.listed(&id, &release.artifact));
    let named = world
        .input
        .rollouts
        .values()
        .filter(|view| view.rollout.spec.release == id);
    wire::Release {
        id: id.to_string(),
        digest: release.artifact.digest.0.to_vec(),
        length: release.artifact.length,
        carried_length: release.artifact.carried_length,
        published_at: Some(to_timestamp(release.published_at)),
        published_by: release.published_by.clone(),
        summary: manifest.summary.clone(),
        severity: severity(manifest.severity).to_owned(),
        category: category(manifest.category).to_owned(),
        // A manifest that was read from TOML can be written as TOML.
        manifest: toml::to_string_pretty(manifest).unwrap_or_default(),
        rollouts: named
            .take(ROLLOUTS_MAX)
            .map(|view| view.rollout.id.to_string())
            .collect(),
        listing: listing(listed).into(),
        counter: trust.map_or(0, |trust| trust.counter(&id)),
        floor: trust.map_or(0, |trust| trust.floor(&id)),
    }
}

fn listing(listed: Listed) -> wire::Listing {
    match listed {
        Listed::Yes => wire::Listing::Listed,
        Listed::BelowFloor => wire::Listing::BelowFloor,
        Listed::Withdrawn => wire::Listing::Withdrawn,
        Listed::No => wire::Listing::Unlisted,
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Important => "important",
        Severity::Moderate => "moderate",
        Severity::Low => "low",
    }
}

fn category(category: Category) -> &'static str {
    match category {
        Category::Security => "security",
        Category::Fix => "fix",
        Category::Feature => "feature",
    }
}
