//! A rollout at a moment, as the lines of a live view, and as one line for a log.
//!
//! Pure. Invariant: a frame's lines fit the view, so that redrawing in place never leaves remains.

use comber_proto::event::v1::Event;
use comber_proto::rollout::v1::{Rollout, Wave, WaveHolds};
use console::{measure_text_width, truncate_str};

use super::event::short_line;
use super::outcomes::{bar, sentence, state_paint, state_word};
use super::text::{counts, whole_seconds};
use super::{Paint, View};

/// Widest bar; a longer one says nothing more.
const BAR_MAX: usize = 40;
/// Longest name of a wave that is shown whole.
const NAME_MAX: usize = 14;

/// What is known of a rollout while it is watched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frame {
    /// The rollout as last heard.
    pub(crate) rollout: Rollout,
    /// What holds each wave.
    pub(crate) holds: Vec<WaveHolds>,
    /// The last events, oldest first.
    pub(crate) events: Vec<Event>,
    /// Why nothing is heard, while the controller cannot be reached.
    pub(crate) lost: Option<String>,
}

/// The lines of the live view.
pub(crate) fn frame(view: &View, frame: &Frame) -> Vec<String> {
    let width = view.width.unwrap_or(120);
    let rollout = &frame.rollout;
    let mut lines = vec![head(view, frame)];
    let name_width = rollout
        .waves
        .iter()
        .map(|wave| measure_text_width(&wave.name))
        .max();
    let name_width = name_width.unwrap_or(0).min(NAME_MAX);
    // All bars have one width, so that they can be compared.
    let widest = rollout
        .waves
        .iter()
        .map(|wave| measure_text_width(&numbers(view, wave)))
        .max();
    let taken = name_width + widest.unwrap_or(0) + 6;
    let bar_width = width.saturating_sub(taken).clamp(8, BAR_MAX);
    for wave in &rollout.waves {
        lines.push(wave_line(view, wave, (name_width, bar_width), width));
        if let Some(text) = wave_hold(view, frame, wave) {
            let text = truncate_str(&text, width.saturating_sub(4), "…").into_owned();
            lines.push(format!(
                "  {}",
                view.paint(Paint::Faint, &format!("└ {text}"))
            ));
        }
    }
    if rollout.roll_back.is_some() {
        lines.push(
            super::rollout::roll_back(view, rollout)
                .trim_end()
                .to_owned(),
        );
    }
    if let Some(halt) = &rollout.halt {
        let text = truncate_str(&halt.text, width, "…").into_owned();
        lines.push(view.paint(Paint::Bad, &text));
    }
    if !frame.events.is_empty() {
        lines.push(String::new());
    }
    lines.extend(frame.events.iter().map(|event| short_line(view, event)));
    lines
}

/// One line for a log: state and outcomes.
pub(crate) fn outcome_line(view: &View, rollout: &Rollout) -> String {
    let open = rollout
        .waves
        .iter()
        .filter(|wave| wave.opened_at.is_some())
        .count();
    format!(
        "{} {} {}, wave {open}/{}: {}",
        super::instant(view.now),
        rollout.id,
        view.paint(state_paint(rollout), state_word(rollout)),
        rollout.waves.len(),
        sentence(view, &rollout.outcomes.unwrap_or_default())
    )
}

fn head(view: &View, frame: &Frame) -> String {
    let rollout = &frame.rollout;
    let outcomes = rollout.outcomes.unwrap_or_default();
    let begun = rollout.started_at.or(rollout.created_at);
    let line = format!(
        "{}  {}  {}  {}  {}/{} succeeded",
        view.paint(Paint::Strong, &rollout.id),
        rollout.release,
        view.paint(state_paint(rollout), state_word(rollout)),
        view.elapsed(begun),
        outcomes.succeeded,
        outcomes.total.saturating_sub(outcomes.excluded),
    );
    let line = match &frame.lost {
        Some(why) => format!(
            "{line}  {}",
            view.paint(Paint::Notice, &format!("controller lost: {why}"))
        ),
        None => line,
    };
    truncate_str(&line, view.width.unwrap_or(usize::MAX), "…").into_owned()
}

fn wave_line(
    view: &View,
    wave: &Wave,
    (name_width, bar_width): (usize, usize),
    width: usize,
) -> String {
    let name = truncate_str(&wave.name, name_width, "…").into_owned();
    let pad = " ".repeat(name_width.saturating_sub(measure_text_width(&name)));
    let left = format!("{:>2} {name}{pad} ", wave.number);
    let left = match wave.opened_at {
        Some(_) => left,
        None => view.paint(Paint::Faint, &left),
    };
    let bar = bar(view, &wave.outcomes.unwrap_or_default(), bar_width);
    let line = format!("{left}{bar}  {}", numbers(view, wave));
    truncate_str(&line, width, "…").into_owned()
}

fn numbers(view: &View, wave: &Wave) -> String {
    let outcomes = wave.outcomes.unwrap_or_default();
    let asked = outcomes.total.saturating_sub(outcomes.excluded);
    let mut parts = vec![format!("{}/{asked}", outcomes.succeeded)];
    if outcomes.failed > 0 {
        parts.push(view.paint(Paint::Bad, &format!("{} failed", outcomes.failed)));
    }
    if outcomes.unreached > 0 {
        parts.push(view.paint(Paint::Notice, &format!("{} unreached", outcomes.unreached)));
    }
    if wave.opened_at.is_some() && outcomes.pending > 0 {
        parts.push(format!(
            "in flight {}/{}",
            wave.in_flight, wave.max_in_flight
        ));
    }
    parts.join("  ")
}

/// What holds a wave that is not open; else what its hosts are busy with. Holds are asked for less often than waves come,
/// so those of a wave that has opened meanwhile are old.
fn wave_hold(view: &View, frame: &Frame, wave: &Wave) -> Option<String> {
    let closed = wave.opened_at.is_none();
    let holds = frame
        .holds
        .iter()
        .find(|holds| closed && holds.number == wave.number);
    if let Some(hold) = holds.and_then(|holds| holds.holds.first()) {
        // One closed wave says why; those behind it wait for the same.
        let before = frame
            .rollout
            .waves
            .iter()
            .find(|other| other.number + 1 == wave.number);
        let first = before.is_none_or(|before| before.opened_at.is_some());
        return first.then(|| match view.left(hold.until) {
            // The countdown stands first: the end of a long text may not fit.
            Some(left) => format!("{left}: {}", whole_seconds(&hold.text)),
            None => whole_seconds(&hold.text),
        });
    }
    if wave.opened_at.is_none() || wave.activity.is_empty() {
        return None;
    }
    let words = counts(&wave.activity);
    let words: Vec<String> = words
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    Some(words.join(", "))
}
