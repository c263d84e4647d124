//! Events, one line each.
//!
//! Pure. Invariant: an event is one line whatever its text holds.

use comber_proto::event::v1::Event;
use console::truncate_str;

use super::time::{at, instant};
use super::{Paint, View};

/// All of them, oldest first.
pub(crate) fn events(view: &View, events: &[Event]) -> String {
    events
        .iter()
        .flat_map(|event| [event_line(view, event), "\n".to_owned()])
        .collect()
}

/// `2026-11-24T12:03:10Z  r7  wave_opened  wave 2 (early) opened`, cut to the view.
pub(crate) fn event_line(view: &View, event: &Event) -> String {
    let when = at(event.at).map_or_else(|| "-".to_owned(), instant);
    let mut words = vec![when];
    if !event.rollout.is_empty() {
        words.push(event.rollout.clone());
    }
    words.push(format!("{}:", event.kind));
    words.push(body(event));
    if !event.actor.is_empty() && !event.text.contains(&event.actor) {
        words.push(format!("(by {})", event.actor));
    }
    let line: String = words
        .join(" ")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let line = truncate_str(&line, view.width.unwrap_or(usize::MAX), "…");
    view.paint(paint_of(event), &line)
}

/// `12:03:10Z wave 2 (early) opened`, for a view of one rollout where room is dear.
pub(super) fn short_line(view: &View, event: &Event) -> String {
    let when = at(event.at).map(instant).unwrap_or_default();
    // The date before the T is today's, or the rollout's age says so.
    let when = when.split_once('T').map_or(when.as_str(), |(_, time)| time);
    let line = format!("{when} {}", body(event));
    let line: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let line = truncate_str(&line, view.width.unwrap_or(usize::MAX), "…");
    view.paint(paint_of(event), &line)
}

fn body(event: &Event) -> String {
    if event.text.is_empty() && !event.outcome_after.is_empty() {
        return format!(
            "{} {} -> {}",
            event.host, event.outcome_before, event.outcome_after
        );
    }
    event.text.clone()
}

fn paint_of(event: &Event) -> Paint {
    match event.kind.as_str() {
        "rollout_halted" | "rollout_aborted" => Paint::Bad,
        "rollout_completed" | "rollout_rolled_back" => Paint::Good,
        "rollout_paused" | "rollout_rolling_back" => Paint::Notice,
        "outcome_changed" => super::outcomes::outcome_paint(&event.outcome_after),
        _ => Paint::Plain,
    }
}
