//! The subcommands that only look: `status`, `check-now`, `history`.
//!
//! Each reads what is on disk, so that it works without an agent, and asks the one that runs for what only it knows.
//! Invariant: an agent that does not answer makes the answer shorter and never wrong.

use std::{fmt, time::Duration};

use comber_machine::Now;
use comber_model::{Nonce, Report as Ended, ReportResult};
use comber_runtime::clock::Clock;
use jiff::Timestamp;
use serde::Serialize;

use super::{AppError, controller, run, show};
use crate::{
    cli::{HistoryArgs, Shown},
    config::AgentSettings,
    history::HistoryFile,
    ledger::LedgerFile,
    local::{self, Answer, Ask, AskError, LinkReport},
    status::Report,
};

/// The agent answers at once unless it is stopped in a debugger; people should not wait.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// A check takes twenty seconds at most, and some for the way.
const CHECK_MAX: Duration = Duration::from_secs(30);

/// `status`.
pub(super) fn status(shown: Shown, settings: &AgentSettings) -> Result<(), AppError> {
    let link = match local::ask(&settings.state_dir, Ask::Link, LOOK_MAX) {
        Ok(Answer::Link(link)) => Some(link),
        Ok(Answer::Leaving | Answer::Refused { .. }) | Err(_) => None,
    };
    show(shown, &report(settings, link)?)
}

/// `check-now`. Says everything that `status` says, and ends with a code of its own where there is no link.
pub(super) fn check_now(shown: Shown, settings: &AgentSettings) -> Result<(), AppError> {
    let link = match local::ask(&settings.state_dir, Ask::CheckNow, CHECK_MAX)? {
        Answer::Link(link) => link,
        Answer::Refused { why } => return Err(AppError::NotNow(why)),
        Answer::Leaving => return Err(AskError::Answer("it is leaving".to_owned()).into()),
    };
    show(shown, &report(settings, Some(link.clone()))?)?;
    if link.connected {
        return Ok(());
    }
    let why = link.last_error;
    Err(AppError::NoLink(
        why.unwrap_or_else(|| "it is still being opened".to_owned()),
    ))
}

fn report(settings: &AgentSettings, link: Option<LinkReport>) -> Result<Report, AppError> {
    let clock = Clock::system();
    let controller = controller(settings).ok().map(|url| url.to_string());
    let ledger = LedgerFile::new(&settings.state_dir)
        .load(clock.wall())?
        .ledger;
    let now = Now {
        wall: clock.wall(),
        boot: clock.boot(),
        boot_id: run::boot_id(settings)?,
        nonce: Nonce(0),
        connected: link.as_ref().is_some_and(|link| link.connected),
    };
    let mut report = Report::new(&ledger, &settings.state_dir, controller, &clock, &now);
    report.link = link;
    Ok(report)
}

/// What `history` prints.
#[derive(Serialize)]
struct History {
    /// Newest first.
    attempts: Vec<Attempt>,
}

/// How one attempt ended.
#[derive(Serialize)]
struct Attempt {
    release: String,
    rollout: String,
    number: u32,
    result: &'static str,
    class: Option<&'static str>,
    detail: Option<String>,
    started_at: Timestamp,
    finished_at: Timestamp,
}

/// `history`.
pub(super) fn history(arguments: HistoryArgs, settings: &AgentSettings) -> Result<(), AppError> {
    let ended = HistoryFile::new(&settings.state_dir).load()?;
    let newest = ended.iter().rev().take(arguments.limit);
    let history = History {
        attempts: newest.map(Attempt::from).collect(),
    };
    show(arguments.shown, &history)
}

impl From<&Ended> for Attempt {
    fn from(ended: &Ended) -> Self {
        let failure = ended.result.failure();
        Self {
            release: ended.release.to_string(),
            rollout: ended.rollout.to_string(),
            number: ended.attempt,
            result: word(&ended.result),
            class: failure.map(|failure| failure.class.as_str()),
            detail: failure.map(|failure| failure.detail.clone()),
            started_at: ended.started_at,
            finished_at: ended.finished_at,
        }
    }
}

fn word(result: &ReportResult) -> &'static str {
    match result {
        ReportResult::Committed => "committed",
        ReportResult::NotActivated { .. } => "not_activated",
        ReportResult::NotApplicable { .. } => "not_applicable",
        ReportResult::RolledBack { .. } => "rolled_back",
        ReportResult::Broken { .. } => "broken",
    }
}

/// For people: one attempt a line, and its failure below.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attempts.is_empty() {
            return writeln!(f, "no attempt has ended on this host yet");
        }
        for attempt in &self.attempts {
            let at = attempt.finished_at.strftime("%Y-%m-%d %H:%M:%S UTC");
            let took = attempt.finished_at.duration_since(attempt.started_at);
            let took = Duration::try_from(took).unwrap_or_default().as_secs();
            let took = comber_model::duration::format(Duration::from_secs(took));
            let Attempt {
                release,
                rollout,
                number,
                result,
                ..
            } = attempt;
            writeln!(
                f,
                "{at}  {result:<14}  {release} for {rollout}, attempt {number}, took {took}"
            )?;
            if let (Some(class), Some(detail)) = (attempt.class, &attempt.detail) {
                writeln!(f, "    {class}: {detail}")?;
            }
        }
        Ok(())
    }
}
