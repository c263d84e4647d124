//! Rollouts: the table, one of them, what steering it came to, and the fence of an abort.
//!
//! Pure. Invariant: outcomes are always shown all together, so that they can be seen to add up.

use comber_proto::rollout::v1::{AwaitFenceResponse, Coverage, Hold, Rollout, RolloutState, Wave};

use super::outcomes::{bar, sentence, state_of, state_paint, state_word};
use super::table::{Table, cell, number, prose, text, whole};
use super::text::{counts, fields, hosts_are, indented, next, wrap};
use super::{Paint, View};

/// One row each.
pub(crate) fn rollouts(view: &View, rollouts: &[Rollout]) -> String {
    if rollouts.is_empty() {
        return "there is no rollout; make one: comber rollout create FILE\n".to_owned();
    }
    let mut table = Table::new([
        text("ROLLOUT", 4, 9),
        text("RELEASE", 10, 8),
        text("STATE", 9, 8),
        number("OK", 7),
        number("FAILED", 7),
        number("PENDING", 7),
        number("UNREACHED", 7),
        number("EXCL", 7),
        number("TOTAL", 7),
        whole("CREATED", 3),
        text("BY", 4, 1),
    ]);
    for rollout in rollouts {
        let outcomes = rollout.outcomes.unwrap_or_default();
        let alarming = |count: u32, paint| {
            cell(
                if count > 0 { paint } else { Paint::Plain },
                count.to_string(),
            )
        };
        table.row([
            cell(Paint::Strong, rollout.id.clone()),
            rollout.release.clone().into(),
            cell(state_paint(rollout), state_word(rollout)),
            outcomes.succeeded.to_string().into(),
            alarming(outcomes.failed, Paint::Bad),
            outcomes.pending.to_string().into(),
            alarming(outcomes.unreached, Paint::Notice),
            outcomes.excluded.to_string().into(),
            outcomes.total.to_string().into(),
            view.ago(rollout.created_at).into(),
            rollout.author.clone().into(),
        ]);
    }
    table.render(view)
}

/// How far it is: state, outcomes, waves, and what holds it.
pub(crate) fn status(
    view: &View,
    rollout: &Rollout,
    holds: &[Hold],
    commands: &[String],
) -> String {
    let mut out = head(view, rollout);
    out.push_str(&wrap(
        view,
        "",
        &sentence(view, &rollout.outcomes.unwrap_or_default()),
    ));
    if let Some(halt) = &rollout.halt {
        out.push_str(&wrap(
            view,
            "",
            &format!(
                "halted {} in wave {}: {}",
                view.ago(halt.at),
                halt.wave,
                halt.text
            ),
        ));
    }
    if rollout.overdue_at.is_some() {
        let due = view.ago(rollout.due_at);
        let text = format!("overdue: it was due {due} ({} priority)", rollout.priority);
        out.push_str(&view.paint(Paint::Notice, &wrap(view, "", &text)));
    }
    out.push_str(&roll_back(view, rollout));
    if let Some(coverage) = &rollout.coverage {
        out.push_str(&covered(view, coverage));
    }
    out.push('\n');
    out.push_str(&waves(view, &rollout.waves));
    for hold in holds {
        out.push_str(&wrap(view, "hold: ", &hold_text(view, hold)));
    }
    out.push_str(&next(view, commands));
    out
}

/// Everything about one, its file last.
pub(crate) fn rollout(view: &View, rollout: &Rollout) -> String {
    let reasons = |map| {
        let all = counts(map);
        let words: Vec<String> = all
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        words.join(", ")
    };
    let started = match rollout.started_at {
        Some(_) => view.ago(rollout.started_at),
        None => "not yet".to_owned(),
    };
    let about = fields(
        view,
        &[
            ("selector", rollout.selector.clone()),
            ("priority", rollout.priority.clone()),
            ("due", due(view, rollout)),
            (
                "created",
                format!("{} by {}", view.ago(rollout.created_at), rollout.author),
            ),
            ("started", started),
            ("failed by class", reasons(&rollout.failed_by_class)),
            ("excluded by reason", reasons(&rollout.excluded_by_reason)),
        ],
    );
    let spec = indented(rollout.spec.trim_end());
    let title = view.paint(Paint::Faint, "rollout file:");
    format!(
        "{}\n{about}\n{title}\n{spec}",
        status(view, rollout, &[], &[]).trim_end()
    )
}

/// When it is due, or was.
fn due(view: &View, rollout: &Rollout) -> String {
    match (rollout.due_at, view.left(rollout.due_at)) {
        (None, _) => String::new(),
        (Some(_), _) if rollout.overdue_at.is_some() => {
            format!("{}, overdue", view.ago(rollout.due_at))
        }
        (Some(_), Some(left)) => left,
        (Some(_), None) => view.ago(rollout.due_at),
    }
}

/// What a command did to it, in one line, and what can be typed next.
pub(crate) fn steered(view: &View, rollout: &Rollout, did: &str, commands: &[String]) -> String {
    let state = view.paint(state_paint(rollout), state_word(rollout));
    let total = rollout.outcomes.unwrap_or_default().total;
    let over = match (state_of(rollout), total) {
        // A draft's hosts are chosen when it starts.
        (RolloutState::Draft, 0) => String::new(),
        (_, total) => format!(", {}", super::text::hosts(total)),
    };
    format!(
        "{did} {} ({}): {state}{over}\n{}",
        view.paint(Paint::Strong, &rollout.id),
        rollout.release,
        next(view, commands)
    )
}

/// The fence of an aborted rollout: who can still activate, and until when.
pub(crate) fn fence(view: &View, id: &str, fence: &AwaitFenceResponse) -> String {
    if fence.closed {
        return view.paint(
            Paint::Good,
            &format!(
                "the fence is closed: no host can begin to activate on behalf of {id} any more"
            ),
        );
    }
    let mut named = fence
        .open
        .iter()
        .take(5)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if fence.open_count > 5 {
        named.push_str(", …");
    }
    let until = match view.left(fence.until) {
        Some(left) if left == "now" => "any moment now".to_owned(),
        Some(left) => format!("at the latest {left}"),
        None => "when they answer".to_owned(),
    };
    let who = hosts_are(fence.open_count);
    format!("the fence is open: {who} able to activate ({named}); closed {until}")
}

/// The rule in its own words, and how long until it can change.
pub(crate) fn hold_text(view: &View, hold: &Hold) -> String {
    let text = super::text::whole_seconds(&hold.text);
    match view.left(hold.until) {
        Some(left) => format!("{text} ({left})"),
        None => text,
    }
}

/// Environments named in one line.
const MISSING_SHOWN: usize = 5;

/// What the first wave covers, and what it does not.
pub(crate) fn covered(view: &View, coverage: &Coverage) -> String {
    let (covered, all) = (coverage.covered, coverage.environments);
    let text = format!("the first wave covers {covered} of {all} environments");
    if coverage.missing.is_empty() {
        return wrap(view, "", &text);
    }
    let missing = coverage.missing.iter().take(MISSING_SHOWN);
    let missing: Vec<&str> = missing.map(String::as_str).collect();
    let more = match coverage.missing.len().saturating_sub(MISSING_SHOWN) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let text = format!("{text}; not covered: {}{more}", missing.join(", "));
    view.paint(Paint::Notice, &wrap(view, "", &text))
}

/// `r7  webapp@2.4.1  running for 4m`.
pub(crate) fn head(view: &View, rollout: &Rollout) -> String {
    format!(
        "{}  {}  {} for {}\n",
        view.paint(Paint::Strong, &rollout.id),
        rollout.release,
        view.paint(state_paint(rollout), state_word(rollout)),
        view.elapsed(rollout.since)
    )
}

/// How far the way back is, where there is one.
pub(crate) fn roll_back(view: &View, rollout: &Rollout) -> String {
    let Some(back) = &rollout.roll_back else {
        return String::new();
    };
    let text = format!(
        "way back: {} done, {} to go, {} failed, {} impossible of {}",
        back.done,
        back.wanted,
        back.failed,
        back.impossible,
        super::text::hosts(back.total)
    );
    wrap(view, "", &text)
}

/// Each wave with its bar and counts.
fn waves(view: &View, waves: &[Wave]) -> String {
    let mut table = Table::new([
        number("WAVE", 9),
        text("NAME", 6, 8),
        whole("OPENED", 5),
        whole("PROGRESS", 3),
        number("OK", 7),
        number("FAILED", 7),
        number("PENDING", 7),
        number("UNREACHED", 7),
        number("EXCL", 6),
        whole("IN FLIGHT", 7),
        prose("ACTIVITY", 12, 1),
    ]);
    // The bar is drawn for its place here; a table cuts from the right, which would lie about a bar.
    let width = if view.width.is_some_and(|width| width < 100) {
        10
    } else {
        20
    };
    let plain = View {
        color: false,
        ..*view
    };
    for wave in waves {
        let outcomes = wave.outcomes.unwrap_or_default();
        table.row([
            wave.number.to_string().into(),
            wave.name.clone().into(),
            match wave.opened_at {
                Some(_) => view.ago(wave.opened_at).into(),
                None => cell(Paint::Faint, "closed"),
            },
            bar(&plain, &outcomes, width).into(),
            outcomes.succeeded.to_string().into(),
            outcomes.failed.to_string().into(),
            outcomes.pending.to_string().into(),
            outcomes.unreached.to_string().into(),
            outcomes.excluded.to_string().into(),
            format!("{}/{}", wave.in_flight, wave.max_in_flight).into(),
            activity(wave).into(),
        ]);
    }
    if waves.is_empty() {
        return String::new();
    }
    table.render(view)
}

fn activity(wave: &Wave) -> String {
    let words: Vec<String> = counts(&wave.activity)
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    words.join(", ")
}
