//! Effects and ledgers as the scenarios write them.

use std::fmt::Write as _;

use comber_machine::{Effect, Ledger, State, next_deadline};
use comber_model::{Action, ReleaseId, ReportResult, duration};

fn show_action(action: &Action, release: &ReleaseId) -> String {
    match action {
        Action::Install { .. } => release.to_string(),
        Action::Remove => format!("removal of {release}"),
    }
}

pub(crate) fn show_effect(effect: &Effect) -> String {
    let change = |word: &str, change: &comber_machine::Change| {
        let before = change
            .before
            .as_ref()
            .map(|before| format!(" over {}", before.version));
        let what = show_action(&change.action, &change.release);
        format!("{word} {what}{}", before.unwrap_or_default())
    };
    match effect {
        Effect::Cancel => "cancel".to_owned(),
        Effect::Fetch { change: it } => change("fetch", it),
        Effect::Preflight { change: it } => change("preflight", it),
        Effect::Activate { change: it, leave } => {
            let until = leave.as_ref().map(|leave| duration::format(leave.at));
            let until = until.map_or_else(|| " alone".to_owned(), |at| format!(" before {at}"));
            change("activate", it) + &until
        }
        Effect::Reboot { release, from } => format!("reboot out of {from} for {release}"),
        Effect::Verify {
            change: it,
            activated,
        } => change(if *activated { "verify" } else { "look at" }, it),
        Effect::RollBack { change: it } => change("roll back", it),
        Effect::VerifyBack { change: it } => change("verify the way back from", it),
        Effect::Inspect => "inspect".to_owned(),
        Effect::Cleanup { product, keep } => {
            let keep: Vec<_> = keep.iter().map(comber_model::Version::as_str).collect();
            format!("clean up {product} but [{}]", keep.join(", "))
        }
        Effect::Publish => "publish".to_owned(),
    }
}

/// The parts of a ledger that a reader of a scenario needs.
pub(crate) fn show(ledger: &Ledger) -> String {
    let mut text = format!("= {} gen {}", ledger.state.kind(), ledger.generation);
    if let Some(work) = ledger.state.work() {
        let what = show_action(&work.assignment.action, &work.assignment.release);
        write!(text, ", {what} #{}", work.assignment.attempt).unwrap();
    }
    match &ledger.state {
        State::AwaitingPermit { request, .. } => {
            let nonce = request.as_ref().map(|request| request.nonce.0);
            write!(text, ", nonce {nonce:?}").unwrap();
        }
        State::Verifying {
            activated: false, ..
        } => text.push_str(", only looks"),
        State::RollingBack { booted: true, .. } => text.push_str(", booted"),
        State::Broken { failure } => write!(text, " ({failure})").unwrap(),
        State::Idle
        | State::Fetching { .. }
        | State::Staged { .. }
        | State::Activating { .. }
        | State::Rebooting { .. }
        | State::Verifying { .. }
        | State::Committed { .. }
        | State::RollingBack { .. }
        | State::RolledBack { .. } => {}
    }
    if let Some(next) = &ledger.next {
        let what = next
            .assignment
            .as_ref()
            .map(|it| show_action(&it.action, &it.release));
        let what = what.unwrap_or_else(|| "nothing".to_owned());
        write!(text, ", then {what} of gen {}", next.generation).unwrap();
    }
    if let Some(deadline) = next_deadline(ledger) {
        write!(text, ", due {}", duration::format(deadline.at)).unwrap();
    }
    for (name, product) in &ledger.installed {
        write!(text, "\n  active {name}@{}", product.installed.version).unwrap();
        if let Some(previous) = &product.installed.previous {
            write!(text, ", keeps {previous}").unwrap();
        }
    }
    for bad in &ledger.locally_bad {
        write!(text, "\n  bad {} ({})", bad.release, bad.failure).unwrap();
    }
    for report in &ledger.reports {
        let result = match &report.result {
            ReportResult::Committed => "committed".to_owned(),
            ReportResult::NotActivated { failure } => format!("not activated, {failure}"),
            ReportResult::NotApplicable { failure } => format!("not applicable, {failure}"),
            ReportResult::RolledBack { failure } => format!("rolled back, {failure}"),
            ReportResult::Broken { failure } => format!("broken, {failure}"),
        };
        let number = report.number;
        let (release, attempt) = (&report.release, report.attempt);
        write!(
            text,
            "\n  report {number}: {release} #{attempt} of gen {}: {result}",
            report.generation
        )
        .unwrap();
    }
    text
}
