//! Why something is where it is: the answer first, in one sentence, then what holds it, then what can be typed next.
//!
//! Pure. Invariant: every hold that the controller names is shown in the controller's own words.

use comber_proto::host::v1::{BarReason, ExplainHostResponse, Host, HostExplanation};
use comber_proto::rollout::v1::{ExplainRolloutResponse, Hold, Rollout, RolloutState, WaveHolds};

use super::host::{outcome_word, told};
use super::outcomes::{sentence, state_of};
use super::rollout::{head, hold_text};
use super::text::{hosts_are, next, wrap};
use super::{Paint, View};

/// Why a host is where it is.
pub(crate) fn why_host(view: &View, answer: &ExplainHostResponse) -> String {
    let host = answer.host.clone().unwrap_or_default();
    let main = deciding(&answer.rollouts);
    let mut out = view.paint(
        Paint::Strong,
        &wrap(view, "", &host_sentence(view, &host, main)),
    );
    out.push('\n');
    out.push_str(&wrap(view, "", &link_sentence(view, &host)));
    for part in &answer.rollouts {
        out.push_str(&host_part(view, part));
    }
    out.push_str(&next(view, &host_commands(&host, main)));
    out
}

/// Why a rollout is where it is.
pub(crate) fn why_rollout(view: &View, answer: &ExplainRolloutResponse) -> String {
    let rollout = answer.rollout.clone().unwrap_or_default();
    let mut out = view.paint(
        Paint::Strong,
        &wrap(view, "", &rollout_sentence(view, &rollout, answer)),
    );
    out.push('\n');
    out.push_str(&head(view, &rollout));
    out.push_str(&wrap(
        view,
        "",
        &sentence(view, &rollout.outcomes.unwrap_or_default()),
    ));
    out.push_str(&holds(view, "", &answer.holds));
    for wave in &answer.waves {
        out.push_str(&wave_part(view, &rollout, wave, &answer.holds));
    }
    if !answer.failed.is_empty() {
        out.push_str("failed:\n");
    }
    for member in &answer.failed {
        let first = format!(
            "  {} ({}, tries {}): ",
            member.host, member.reason, member.attempts
        );
        out.push_str(&wrap(
            view,
            "  ",
            &format!("{}{}", first.trim_start(), told(member)),
        ));
    }
    out.push_str(&next(view, &answer.next));
    out
}

/// The rollout that decides for the host: one that still wants something of it, else one that failed.
fn deciding(parts: &[HostExplanation]) -> Option<&HostExplanation> {
    let with = |outcomes: &[&str]| {
        parts.iter().find(|part| {
            let outcome = part
                .member
                .as_ref()
                .map_or("", |member| member.outcome.as_str());
            outcomes.contains(&outcome)
        })
    };
    with(&["pending", "unreached"])
        .or_else(|| with(&["failed"]))
        .or_else(|| parts.first())
}

fn host_sentence(view: &View, host: &Host, part: Option<&HostExplanation>) -> String {
    let name = &host.id;
    if host.retired_at.is_some() {
        return format!(
            "{name} is retired, {}: no rollout means it any more.",
            view.ago(host.retired_at)
        );
    }
    let Some(part) = part else {
        return format!("{name} is in no rollout, so nothing is to change on it.");
    };
    let member = part.member.clone().unwrap_or_default();
    let (rollout, release) = (&part.rollout, &part.release);
    let held = part.holds.first().map(|hold| hold_text(view, hold));
    match (member.outcome.as_str(), held) {
        ("succeeded", _) => format!(
            "{name} has succeeded: it runs {release} for {} now ({rollout}).",
            view.elapsed(member.since)
        ),
        ("failed", _) => format!(
            "{name} failed to take {release} ({rollout}, {}): {}.",
            member.reason,
            told(&member)
        ),
        ("excluded", _) => format!(
            "{name} is set aside from {rollout} ({release}): {}.",
            member.reason
        ),
        (_, Some(held)) => format!(
            "{name} does not run {release} yet ({rollout}, {}): {held}.",
            member.outcome
        ),
        (outcome, None) => format!(
            "{name} is {outcome} in {rollout} ({release}): {}.",
            member.detail
        ),
    }
}

fn link_sentence(view: &View, host: &Host) -> String {
    let state = super::host::agent_word(host.actual.as_ref());
    let state = if state.is_empty() {
        "it never said its state"
    } else {
        state
    };
    if let Some(bar) = &host.bar {
        let remedy = match bar.reason() {
            BarReason::Cloned => format!(
                "enrol each machine again with a token and a name of its own, or, where one machine alone holds the key: \
                 comber host resolve {}",
                host.id
            ),
            BarReason::Revoked | BarReason::Unspecified => {
                "enrol it again with a token of: comber token create".to_owned()
            }
        };
        return format!(
            "it is let in no more, {}: {}; {remedy}",
            view.ago(bar.since),
            bar.detail
        );
    }
    match (host.connected, host.link_since.is_some()) {
        (true, _) => format!(
            "connected for {}; agent: {state}",
            view.elapsed(host.link_since)
        ),
        (false, true) => format!(
            "not connected for {}; agent, when last heard: {state}",
            view.elapsed(host.link_since)
        ),
        (false, false) => {
            "it has never connected: check that comber-agent runs there and reaches the controller"
                .to_owned()
        }
    }
}

fn host_part(view: &View, part: &HostExplanation) -> String {
    let member = part.member.clone().unwrap_or_default();
    let mut out = format!(
        "{} {} wave {}: {}, {}\n",
        view.paint(Paint::Strong, &part.rollout),
        part.release,
        member.wave,
        view.paint(
            super::outcomes::outcome_paint(&member.outcome),
            &outcome_word(&member)
        ),
        view.ago(member.since)
    );
    if !member.detail.is_empty() {
        out.push_str(&wrap(view, "  ", told(&member)));
    }
    out.push_str(&holds(view, "  ", &part.holds));
    out
}

fn host_commands(host: &Host, part: Option<&HostExplanation>) -> Vec<String> {
    let mut commands = vec![format!("comber host show {}", host.id)];
    if let Some(part) = part {
        commands.push(format!("comber why rollout {}", part.rollout));
        commands.push(format!("comber events --host {} --last 20", host.id));
    }
    commands
}

fn rollout_sentence(view: &View, rollout: &Rollout, answer: &ExplainRolloutResponse) -> String {
    let id = &rollout.id;
    match state_of(rollout) {
        RolloutState::Completed => format!("{id} is completed: nothing holds it."),
        RolloutState::Halted => match &rollout.halt {
            Some(halt) => format!("{id} halted {}: {}.", view.ago(halt.at), halt.text),
            None => format!("{id} is halted."),
        },
        RolloutState::Aborted => format!(
            "{id} was aborted {}; it changes no host any more.",
            view.ago(rollout.since)
        ),
        RolloutState::Draft
        | RolloutState::Running
        | RolloutState::Paused
        | RolloutState::RollingBack
        | RolloutState::Unspecified => moving_sentence(view, rollout, answer),
    }
}

fn moving_sentence(view: &View, rollout: &Rollout, answer: &ExplainRolloutResponse) -> String {
    let id = &rollout.id;
    let wave_holds = answer.waves.iter().flat_map(|wave| &wave.holds);
    let in_flight: u32 = rollout.waves.iter().map(|wave| wave.in_flight).sum();
    let first = answer
        .holds
        .first()
        .or_else(|| wave_holds.into_iter().next());
    let moves = in_flight > 0 && state_of(rollout) == RolloutState::Running;
    match first {
        Some(hold) if moves => format!(
            "{id} moves, {} in flight; next: {}.",
            hosts_are(in_flight),
            hold_text(view, hold)
        ),
        Some(hold) => format!("{id} waits: {}.", hold_text(view, hold)),
        None => format!("{id} moves by itself: {} in flight.", hosts_are(in_flight)),
    }
}

fn wave_part(view: &View, rollout: &Rollout, wave: &WaveHolds, told: &[Hold]) -> String {
    // What holds the whole rollout was said above.
    let own: Vec<Hold> = wave
        .holds
        .iter()
        .filter(|hold| !told.contains(hold))
        .cloned()
        .collect();
    if own.is_empty() && wave.hosts.is_empty() {
        return String::new();
    }
    let name = rollout
        .waves
        .iter()
        .find(|other| other.number == wave.number);
    let name = name
        .map(|wave| format!(" {}", wave.name))
        .unwrap_or_default();
    let mut out = format!("wave {}{name}:\n", wave.number);
    out.push_str(&holds(view, "  ", &own));
    for held in &wave.hosts {
        let hold = held.hold.clone().unwrap_or_default();
        let text = format!(
            "{} held by {}: {}",
            hosts_are(held.count),
            hold.rule,
            hold_text(view, &hold)
        );
        out.push_str(&wrap(
            view,
            "  - ",
            &format!("{text}, for example {}", held.example),
        ));
    }
    out
}

fn holds(view: &View, indent: &str, holds: &[Hold]) -> String {
    holds
        .iter()
        .map(|hold| {
            wrap(
                view,
                &format!("{indent}- "),
                &format!("{}: {}", hold.rule, hold_text(view, hold)),
            )
        })
        .collect()
}
