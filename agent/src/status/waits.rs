//! What a ledger waits for, in words.
//!
//! Pure. Every state has its sentence; a new state does not compile without one.

use std::time::Duration;

use comber_machine::{Ledger, Moment, Now, State, next_deadline};

/// Why nothing moves now, and what will.
#[derive(Debug, PartialEq)]
pub(super) struct Waits {
    /// What has to happen.
    pub(super) for_what: String,
    /// Until the machine moves by itself.
    pub(super) deadline: Option<Duration>,
    /// What happens then.
    pub(super) next: String,
}

impl Waits {
    pub(super) fn of(ledger: &Ledger, now: &Now) -> Self {
        let (for_what, next) = words(ledger);
        let deadline = next_deadline(ledger).and_then(|deadline| left(deadline, now));
        Self {
            for_what,
            deadline,
            next,
        }
    }
}

/// Time until a moment of this boot; one of another boot says nothing about now.
fn left(moment: &Moment, now: &Now) -> Option<Duration> {
    (moment.boot_id == now.boot_id).then(|| moment.at.saturating_sub(now.boot))
}

fn words(ledger: &Ledger) -> (String, String) {
    let said = |waits: &str, next: &str| (waits.to_owned(), next.to_owned());
    match &ledger.state {
        State::Idle => said("an assignment", "fetches what is assigned"),
        State::Fetching { work } => (
            format!("the bytes of {}", work.assignment.release),
            "checks that the host can take it".to_owned(),
        ),
        State::Staged { .. } => said("the checks before activation", "asks for a permit"),
        State::AwaitingPermit {
            request: Some(_), ..
        } => said(
            "a permit of the controller (its gate, windows and budgets decide: see comber why host)",
            "activates",
        ),
        State::AwaitingPermit { request: None, .. } => said(
            "the link to the controller, which alone gives permits",
            "asks for a permit",
        ),
        State::Activating { .. } => said("the installer", "proves the host healthy, or goes back"),
        State::Rebooting { refused, .. } => match refused {
            Some(why) => (
                format!("a reboot, which was refused: {why}"),
                "asks again".to_owned(),
            ),
            None => said("a reboot", "proves the host healthy in the new boot"),
        },
        State::Verifying { .. } => said(
            "the checks after activation",
            "keeps the release, or goes back",
        ),
        State::RollingBack {
            failure,
            booted: true,
            ..
        } => (
            format!("the host to come up from the way back ({failure})"),
            "reports the failure".to_owned(),
        ),
        State::RollingBack { failure, .. } => (
            format!("the way back ({failure})"),
            "reports the failure".to_owned(),
        ),
        State::Committed { .. } => said(
            "the controller to acknowledge the report of success",
            "is idle",
        ),
        State::RolledBack { .. } => said(
            "the controller to acknowledge the report of failure",
            "is idle",
        ),
        State::Broken { failure } => (
            format!("a person: {failure}"),
            "goes on once an operator assigns a repair, a retry or a way back".to_owned(),
        ),
    }
}
