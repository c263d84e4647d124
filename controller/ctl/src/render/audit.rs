//! Entries of the audit log, a few lines each.
//!
//! Pure. Invariant: who, what and whether it was done are always said.

use comber_model::audit::{Actor, Entry};

use super::text::wrap;
use super::{Paint, View, instant};

/// One entry.
pub(crate) fn audit_entry(view: &View, entry: &Entry) -> String {
    let object = entry.object.as_deref().unwrap_or_default();
    let action = entry.action.rsplit('/').next().unwrap_or_default();
    let number = view.paint(Paint::Faint, &format!("{:>6}", entry.number));
    let who = who(&entry.actor);
    let mut out = format!(
        "{number}  {}  {who}  {action} {object}\n",
        instant(entry.at)
    );
    if let Some(why) = &entry.refused {
        let times = entry
            .times
            .map_or_else(String::new, |times| format!(" {times} more times"));
        let text = format!("refused{times}: {why}");
        out.push_str(&wrap(view, "        ", &text));
    }
    for (side, text) in [("- ", &entry.before), ("+ ", &entry.after)] {
        if let Some(text) = text {
            out.push_str(&wrap(view, &format!("        {side}"), text));
        }
    }
    out
}

fn who(actor: &Actor) -> String {
    let name = if actor.name.is_empty() {
        String::new()
    } else {
        format!(" {}", actor.name)
    };
    let details: Vec<&str> = [&actor.role, &actor.proof, &actor.from]
        .into_iter()
        .map(String::as_str)
        .filter(|word| !word.is_empty())
        .collect();
    let details = if details.is_empty() {
        String::new()
    } else {
        format!(" ({})", details.join(", "))
    };
    format!("{}{name}{details}", actor.kind)
}
