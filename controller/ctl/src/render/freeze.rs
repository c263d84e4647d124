//! Freezes as a table, and what is said of a new one.
//!
//! Pure. Invariant: whether a freeze is in force now is always said.

use comber_proto::freeze::v1::{AddFreezeResponse, Freeze};

use super::table::{Table, prose, text, whole};
use super::text::{hosts, next, wrap};
use super::{Paint, View, at};

/// One row each.
pub(crate) fn freezes(view: &View, freezes: &[Freeze]) -> String {
    if freezes.is_empty() {
        return "nothing is frozen; add a freeze: comber freeze add\n".to_owned();
    }
    let mut table = Table::new([
        text("FREEZE", 12, 9),
        text("NOW", 11, 8),
        whole("NEXT", 10),
        text("ZONE", 6, 4),
        prose("WHEN", 8, 2),
        prose("REASON", 7, 3),
        text("BY", 5, 2),
    ]);
    for freeze in freezes {
        table.row([
            freeze.name.clone().into(),
            if is_now(view, freeze) {
                "in force"
            } else {
                "-"
            }
            .into(),
            when(view, freeze).into(),
            freeze.zone.clone().into(),
            times(freeze).into(),
            freeze.reason.clone().into(),
            freeze.created_by.clone().into(),
        ]);
    }
    table.render(view)
}

/// That it is there, what it does now, and who may still begin.
pub(crate) fn freeze_added(view: &View, freeze: &Freeze, answer: &AddFreezeResponse) -> String {
    let text = if is_now(view, freeze) {
        format!("freeze {} is in force, {}", freeze.name, when(view, freeze))
    } else {
        format!(
            "freeze {} is added; its next time: {}",
            freeze.name,
            when(view, freeze)
        )
    };
    let mut out = wrap(view, "", &text);
    if answer.open_permits > 0 {
        let left = view.left(answer.fenced_at).unwrap_or_default();
        let text = format!(
            "{} may still begin by a permit from before; the last of these is dead {left}",
            hosts(answer.open_permits)
        );
        out.push_str(&view.paint(Paint::Notice, &wrap(view, "", &text)));
    }
    out.push_str(&next(view, &["comber freeze list".to_owned()]));
    out
}

fn is_now(view: &View, freeze: &Freeze) -> bool {
    at(freeze.next_from).is_some_and(|from| from <= view.now)
}

/// The time that is now or comes next, from the point of view of now.
fn when(view: &View, freeze: &Freeze) -> String {
    match (view.left(freeze.next_from), view.left(freeze.next_until)) {
        (Some(_), Some(until)) if is_now(view, freeze) => format!("ends {until}"),
        (Some(from), _) => format!("begins {from}"),
        (None, _) => "never again".to_owned(),
    }
}

fn times(freeze: &Freeze) -> String {
    let mut texts: Vec<&str> = freeze.times.iter().map(|time| time.when.as_str()).collect();
    let more = texts.len().saturating_sub(3);
    texts.truncate(3);
    let text = texts.join("; ");
    match more {
        0 => text,
        more => format!("{text}; {more} more"),
    }
}
