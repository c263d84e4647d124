//! `trust`: whom this host believes, and the two ways in which an administrator says it.
//!
//! Reads and replaces the record below the state directory, under its lock; the agent that runs takes up what it finds there
//! at its next look. Invariant: a root that was pinned is left by `reset` alone, which asks.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    path::Path,
};

use comber_runtime::{clock::Clock, telemetry::error_chain};
use comber_trust::RootFacts;
use jiff::Timestamp;
use serde::Serialize;

use super::{AppError, controller, show};
use crate::{
    cli::{Shown, TrustArgs, TrustCommand},
    config::AgentSettings,
    first_boot::read_root,
    trust::{self, PinError, Pinned},
    trusted::Trusted,
};

/// Does what was asked.
pub(super) fn trust(arguments: &TrustArgs, settings: &AgentSettings) -> Result<(), AppError> {
    let shown = Shown {
        output: arguments.output,
    };
    match &arguments.command {
        None | Some(TrustCommand::Status) => status(shown, settings),
        Some(TrustCommand::Init { root }) => init(root, shown, &settings.state_dir),
        Some(TrustCommand::Reset { root, yes }) => reset(root, *yes, shown, &settings.state_dir),
    }
}

/// What pinning came to.
#[derive(Serialize)]
struct Begun {
    version: u64,
    sha256: String,
    expires: Timestamp,
}

impl From<RootFacts> for Begun {
    fn from(facts: RootFacts) -> Self {
        Self {
            version: facts.version,
            sha256: facts.sha256,
            expires: facts.expires,
        }
    }
}

impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            sha256,
            expires,
        } = self;
        writeln!(
            f,
            "this host installs what the publisher with this root signs: version {version}, valid until {expires}"
        )?;
        writeln!(f, "compare its sha256 with the publisher's: {sha256}")
    }
}

fn init(root: &Path, shown: Shown, state_dir: &Path) -> Result<(), AppError> {
    match trust::pin(state_dir, &read_root(root)?)? {
        Pinned::Now(facts) => show(shown, &Begun::from(facts)),
        Pinned::Before(pinned) => Err(PinError::Before { pinned }.into()),
    }
}

fn reset(root: &Path, yes: bool, shown: Shown, state_dir: &Path) -> Result<(), AppError> {
    let root = read_root(root)?;
    let asks = !yes && io::stdin().is_terminal() && io::stderr().is_terminal();
    if asks && !confirmed() {
        return Err(AppError::NotNow(
            "nothing was changed; answer y, or give --yes".to_owned(),
        ));
    }
    show(shown, &Begun::from(trust::reset(state_dir, &root)?))
}

fn confirmed() -> bool {
    let question = "Forget what this host trusted and begin anew with this root? [y/N] ";
    let asked = io::stderr().write_all(question.as_bytes());
    let mut answer = String::new();
    let read = asked.and_then(|()| io::stdin().read_line(&mut answer));
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn status(shown: Shown, settings: &AgentSettings) -> Result<(), AppError> {
    let from = match settings.controller {
        Some(_) => "configuration",
        None => "enrolment",
    };
    let address = match controller(settings) {
        Ok(url) => Some(url.to_string()),
        Err(error) => {
            // A host may be enrolled and its controller's address lost.
            tracing::debug!(error = error_chain(&error), "no controller");
            None
        }
    };
    let trusted = Trusted::read(&settings.state_dir, (address, from), &Clock::system())?;
    show(shown, &trusted)
}
