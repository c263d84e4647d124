//! `comber why host|rollout`: the answer, what holds it, what to do.
//!
//! Reads only.

use clap::{Args, Subcommand};
use comber_proto::host::v1::ExplainHostRequest;
use comber_proto::rollout::v1::ExplainRolloutRequest;

use super::rollout::resolve;
use crate::error::Outcome;
use crate::render::{self, json};
use crate::session::Session;

/// Explains why a host or rollout is where it is.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  comber why host web-1
  comber why rollout r7")]
pub(crate) enum WhyCommand {
    /// Why a host does or does not run what it shall
    Host(WhyHostArgs),
    /// Why a rollout does not go on
    Rollout(WhyRolloutArgs),
}

/// Why a host does or does not run what it shall.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber why host web-1")]
pub(crate) struct WhyHostArgs {
    host: String,
}

/// Why a rollout does not go on, or how it ended.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber why rollout r7
  comber why rollout")]
pub(crate) struct WhyRolloutArgs {
    /// For example r7; the newest where it is left out
    rollout: Option<String>,
}

/// Asks and shows.
pub(crate) async fn run(command: WhyCommand, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    match command {
        WhyCommand::Host(args) => {
            let request = ExplainHostRequest { id: args.host };
            let answer = client.hosts().explain_host(request).await;
            let answer = client.answered("explain the host", answer)?;
            session.screen.show(
                || json::HostExplanation::from(&answer),
                |view| render::why_host(view, &answer),
            )
        }
        WhyCommand::Rollout(args) => {
            let id = resolve(&client, args.rollout.as_deref()).await?;
            let answer = client
                .rollouts()
                .explain_rollout(ExplainRolloutRequest { id })
                .await;
            let answer = client.answered("explain the rollout", answer)?;
            session.screen.show(
                || json::RolloutExplanation::from(&answer),
                |view| render::why_rollout(view, &answer),
            )
        }
    }
}
