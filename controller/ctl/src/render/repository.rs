//! The publisher's metadata as a controller keeps it, and keys.
//!
//! Pure. Invariant: the sha256 of the pinned root is shown whole, since people compare it.

use comber_proto::trust::v1::Repository;
use comber_trust::Key;

use super::table::{Table, cell, text, whole};
use super::text::{bytes, hex};
use super::{Paint, View};

/// What is kept, in two tables.
pub(crate) fn repository(view: &View, repository: Option<&Repository>) -> String {
    let Some(repository) = repository else {
        return "no publisher's root is pinned: no release can be rolled out\n\nnext:\n  comber repo import --pin\n"
            .to_owned();
    };
    let mut roles = Table::new([text("ROLE", 9, 9), whole("VERSION", 8), text("ENDS", 10, 7)]);
    for role in &repository.roles {
        roles.row([
            cell(Paint::Strong, role.name.clone()),
            role.version.to_string().into(),
            super::at(role.expires)
                .map_or_else(String::new, super::instant)
                .into(),
        ]);
    }
    let head = format!(
        "pinned root sha256 {}\nimported {} by {}\n",
        hex(&repository.pinned),
        view.ago(repository.imported_at),
        repository.imported_by
    );
    format!(
        "{head}\n{}\n{}",
        roles.render(view),
        releases(view, repository)
    )
}

fn releases(view: &View, repository: &Repository) -> String {
    if repository.releases.is_empty() {
        return "no release is listed\n".to_owned();
    }
    let mut table = Table::new([
        text("RELEASE", 12, 9),
        whole("COUNTER", 8),
        text("FLOOR", 5, 6),
        whole("SIZE", 4),
        text("BUNDLE", 4, 7),
    ]);
    for listed in &repository.releases {
        let product = listed.id.split('@').next().unwrap_or_default();
        let floor = repository
            .floors
            .iter()
            .find(|floor| floor.product == product);
        let floor = floor.map_or(0, |floor| floor.counter);
        let (paint, bundle) = if listed.published {
            (Paint::Plain, "here")
        } else {
            (Paint::Notice, "not here")
        };
        let below = if listed.counter < floor {
            Paint::Bad
        } else {
            Paint::Plain
        };
        table.row([
            cell(Paint::Strong, listed.id.clone()),
            cell(below, listed.counter.to_string()),
            (if floor == 0 {
                String::new()
            } else {
                floor.to_string()
            })
            .into(),
            bytes(listed.length).into(),
            cell(paint, bundle.to_owned()),
        ]);
    }
    table.render(view)
}

/// The public half of a key, as `repo add-key` reads it.
pub(crate) fn public_half(key: &Key) -> String {
    match key {
        Key::Ed25519 { keyval, .. } => hex(&keyval.public),
        Key::Rsa { .. } | Key::Ecdsa { .. } | Key::EcdsaOld { .. } => String::new(),
    }
}
