//! `comber version`: of this command; the controller's own is in its log and metrics.
//!
//! Touches nothing.

use clap::Args;
use serde::Serialize;

use crate::error::Outcome;
use crate::session::Session;

/// Shows the version of this command.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber version")]
pub(crate) struct VersionArgs {}

#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
}

/// Shows it.
pub(crate) fn run(_: &VersionArgs, session: &Session) -> Outcome<()> {
    let version = env!("CARGO_PKG_VERSION");
    session
        .screen
        .show(|| Version { version }, |_| format!("comber {version}\n"))
}
