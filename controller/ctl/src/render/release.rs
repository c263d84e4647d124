//! Releases: the table, one of them, and what building and publishing came to.
//!
//! Pure. Invariant: the digest that is shown is the whole one wherever one release is shown.

use std::path::Path;

use comber_bundle::Built;
use comber_proto::release::v1::Release;

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

/// A release that is published now or was before.
pub(crate) fn published(view: &View, release: &Release, already: bool) -> String {
    let id = view.paint(Paint::Strong, &release.id);
    let size = bytes(release.carried_length);
    if already {
        format!(
            "{id} was published {} with these very bytes; nothing changed\n",
            view.ago(release.published_at)
        )
    } else {
        format!(
            "published {id} ({size})\n{}",
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
