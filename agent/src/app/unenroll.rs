//! `unenroll`: this host leaves the fleet.
//!
//! The agent that runs decides whether it may, ends, and removes the identity as its last act; where none runs this does
//! the same under the agent's lock, so that none can start meanwhile. Touches the identity and the record of the
//! enrolment. Invariant: the identity of a host in the middle of an activation is removed only where that was asked for.

use std::{
    fmt, io,
    io::{IsTerminal, Write},
    path::Path,
    thread,
    time::Duration,
};

use comber_machine::Ledger;
use comber_runtime::clock::Clock;
use serde::Serialize;

use super::{AppError, show};
use crate::{
    cli::UnenrollArgs,
    config::AgentSettings,
    identity::{self, StoreError},
    ledger::LedgerFile,
    local::{self, Answer, Ask, AskError},
    lock::{AGENT_LOCK, Lock, LockError},
};

/// The driver decides between two steps of its work.
const DECIDE_MAX: Duration = Duration::from_secs(30);
/// The agent lets a switch that is in hand end for two minutes.
const END_TRIES: u32 = 1500;
const END_PAUSE: Duration = Duration::from_millis(100);

/// What is left.
#[derive(Serialize)]
struct Left {
    /// What the host was called; absent where its certificate did not say.
    host: Option<String>,
    /// `name@version` of what stays installed.
    installed: Vec<String>,
    /// Ends of attempts that the controller will never hear of.
    unacknowledged_reports: usize,
    /// The state directory, which keeps the ledger and the history.
    state_dir: String,
    /// What somebody may still have to do.
    next: Vec<String>,
}

pub(super) fn unenroll(arguments: UnenrollArgs, settings: &AgentSettings) -> Result<(), AppError> {
    let state_dir = &settings.state_dir;
    let loaded = identity::load(state_dir);
    if let Err(error @ StoreError::NotEnrolled { .. }) = loaded {
        return Err(error.into());
    }
    // A damaged identity is removed like any other.
    let host = loaded
        .ok()
        .and_then(|identity| identity::host_of(&identity).ok());
    let host = host.map(|host| host.to_string());
    if !arguments.yes && !is_confirmed(host.as_deref())? {
        return Err(AppError::NotNow("nothing was changed".to_owned()));
    }
    let ask = Ask::Unenroll {
        force: arguments.force,
    };
    match local::ask(state_dir, ask, DECIDE_MAX) {
        Ok(Answer::Leaving) | Err(AskError::NotRunning) => {}
        Ok(Answer::Refused { why }) => return Err(AppError::NotNow(why)),
        Ok(Answer::Link(_)) => return Err(AskError::Answer("a link".to_owned()).into()),
        Err(error) => return Err(error.into()),
    }
    let _lock = ended(state_dir)?;
    let ledger = LedgerFile::new(state_dir)
        .load(Clock::system().wall())?
        .ledger;
    if !arguments.force {
        refuse_between_releases(&ledger)?;
    }
    identity::remove(state_dir)?;
    show(arguments.shown, &left(host, &ledger, settings))
}

/// Waits until no agent runs, and keeps it so.
fn ended(state_dir: &Path) -> Result<Lock, LockError> {
    let path = state_dir.join(AGENT_LOCK);
    for _ in 1..END_TRIES {
        match Lock::try_take(&path) {
            Err(LockError::Held { .. }) => thread::sleep(END_PAUSE),
            taken => return taken,
        }
    }
    Lock::try_take(&path)
}

/// Also looked at where no agent ran: a crash may have stopped one in the middle.
fn refuse_between_releases(ledger: &Ledger) -> Result<(), AppError> {
    let kind = ledger.state.kind();
    match ledger.state.work() {
        Some(work) if kind.is_active() => Err(AppError::NotNow(format!(
            "{} is {kind} on this host and no agent runs to end it; start the agent and wait, or give --force",
            work.assignment.release
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Asks on a terminal only: a script that calls this means it.
fn is_confirmed(host: Option<&str>) -> Result<bool, AppError> {
    if !io::stdin().is_terminal() {
        return Ok(true);
    }
    let failed = |source| AppError::System {
        step: "ask on the terminal",
        source,
    };
    let host = host.unwrap_or("this host");
    let mut terminal = io::stderr();
    write!(
        terminal,
        "{host} leaves the fleet and forgets its identity. Go on? [y/N] "
    )
    .map_err(failed)?;
    terminal.flush().map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn left(host: Option<String>, ledger: &Ledger, settings: &AgentSettings) -> Left {
    let name = host.clone().unwrap_or_else(|| "NAME".to_owned());
    let installed = ledger.installed.iter();
    let mut next = vec![format!(
        "tell the controller, which still counts on it: comber host retire {name}"
    )];
    if settings.controller.is_some() {
        next.push("controller still stands in the agent's configuration".to_owned());
    }
    Left {
        host,
        installed: installed
            .map(|(name, product)| format!("{name}@{}", product.installed.version))
            .collect(),
        unacknowledged_reports: ledger.reports.len(),
        state_dir: settings.state_dir.display().to_string(),
        next,
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("this host");
        writeln!(
            f,
            "{host} belongs to no fleet any more; its key and certificate are removed"
        )?;
        for release in &self.installed {
            writeln!(f, "stays        {release}, as it runs now")?;
        }
        writeln!(
            f,
            "stays        {}, with the ledger and the history; enrolling again goes on from there",
            self.state_dir
        )?;
        if self.unacknowledged_reports > 0 {
            let count = self.unacknowledged_reports;
            writeln!(
                f,
                "lost         {count} reports that the controller has not acknowledged"
            )?;
        }
        for next in &self.next {
            writeln!(f, "next         {next}")?;
        }
        Ok(())
    }
}
