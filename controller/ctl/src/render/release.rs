//! Releases: the table, one of them, and what building and publishing came to.
//!
//! Pure. Invariant: the digest that is shown is the whole one wherever one release is shown.

use std::path::Path;

use comber_bundle::Built;
use comber_proto::release::v1::{Listing, Release};
use comber_trust::RoleType;
use comber_trust::publisher::Progress;

use super::table::{Table, cell, prose, text, whole};
use super::text::{bytes, fields, hex, indented, next};
use super::{Paint, View};

/// One row each.
pub(crate) fn releases(view: &View, releases: &[Release]) -> String {
    if releases.is_empty() {
        return "no release is published; publish one: comber release publish DIR\n".to_owned();
    }
    let mut table = Table::new([
        text("RELEASE", 12, 9),
        text("LISTED", 6, 8),
        whole("PUBLISHED", 7),
        text("SEVERITY", 6, 5),
        text("CATEGORY", 6, 4),
        whole("SIZE", 3),
        text("ROLLOUTS", 4, 6),
        text("BY", 4, 1),
        prose("SUMMARY", 10, 2),
    ]);
    for release in releases {
        let severity = match release.severity.as_str() {
            "critical" => Paint::Bad,
            "important" => Paint::Notice,
            _ => Paint::Plain,
        };
        table.row([
            cell(Paint::Strong, release.id.clone()),
            cell(
                match release.listing() {
                    Listing::Listed => Paint::Plain,
                    _ => Paint::Notice,
                },
                listing(release).to_owned(),
            ),
            view.ago(release.published_at).into(),
            cell(severity, release.severity.clone()),
            release.category.clone().into(),
            bytes(release.carried_length).into(),
            release.rollouts.join(" ").into(),
            release.published_by.clone().into(),
            release.summary.clone().into(),
        ]);
    }
    table.render(view)
}

/// Everything about one, its `release.toml` last.
pub(crate) fn release(view: &View, release: &Release) -> String {
    let head = view.paint(Paint::Strong, &release.id);
    let about = fields(
        view,
        &[
            ("summary", release.summary.clone()),
            ("severity", release.severity.clone()),
            ("category", release.category.clone()),
            (
                "published",
                format!(
                    "{} by {}",
                    view.ago(release.published_at),
                    release.published_by
                ),
            ),
            (
                "size",
                format!(
                    "{}, {} as carried",
                    bytes(release.length),
                    bytes(release.carried_length)
                ),
            ),
            ("sha256", hex(&release.digest)),
            ("publisher", listed(release)),
            ("rollouts", release.rollouts.join(" ")),
        ],
    );
    let manifest = indented(release.manifest.trim_end());
    format!(
        "{head}\n{about}\n{}\n{manifest}",
        view.paint(Paint::Faint, "release.toml:")
    )
}

/// A bundle that was built into `path`.
pub(crate) fn built(view: &View, built: &Built, path: &Path) -> String {
    let id = built.listing.manifest().id();
    let artifact = &built.artifact;
    format!(
        "built {} into {} ({}, {} unpacked)\nsha256 {}\n{}",
        view.paint(Paint::Strong, &id.to_string()),
        path.display(),
        bytes(artifact.carried_length),
        bytes(artifact.length),
        hex(&artifact.digest.0),
        next(
            view,
            &[format!("comber release publish {}", path.display())]
        ),
    )
}

/// The list that was signed on the way.
fn list(signed: &Progress) -> String {
    let targets = signed.iter().find(|(role, ..)| *role == RoleType::Targets);
    targets.map_or_else(String::new, |(_, version, signatures, _)| {
        let keys = if *signatures == 1 { "key" } else { "keys" };
        format!(
            "signed list {version} with {signatures} {keys}, the controller verified and keeps it\n"
        )
    })
}

/// What is signed of it, in one line.
fn listed(release: &Release) -> String {
    let word = listing(release);
    let floor = match release.floor {
        0 => String::new(),
        floor => format!(", floor {floor}"),
    };
    match (release.listing(), release.counter) {
        (Listing::Listed, counter) => format!("{word}, counter {counter}{floor}"),
        (_, 0) => format!("{word}: no host installs it"),
        (_, counter) => format!("{word}, counter {counter}{floor}: no host installs it"),
    }
}

/// How the publisher's list stands to it.
fn listing(release: &Release) -> &'static str {
    match release.listing() {
        Listing::Listed => "listed",
        Listing::BelowFloor => "below floor",
        Listing::Withdrawn => "withdrawn",
        Listing::Unlisted => "unlisted",
        Listing::Unspecified => "unknown",
    }
}

/// A release that is published now or was before.
pub(crate) fn published(
    view: &View,
    release: &Release,
    already: bool,
    signed: &Progress,
) -> String {
    let id = view.paint(Paint::Strong, &release.id);
    let size = bytes(release.carried_length);
    if already {
        format!(
            "{id} was published {} with these very bytes; nothing changed\n",
            view.ago(release.published_at)
        )
    } else {
        format!(
            "published {id} ({size}), counter {}\n{}{}",
            release.counter,
            list(signed),
            next(
                view,
                &[
                    "comber rollout plan FILE".to_owned(),
                    "comber rollout create FILE --start --watch".to_owned()
                ]
            )
        )
    }
}
