//! `comber rollout create|plan`: a rollout file becomes a plan to look at, or a rollout.
//!
//! Reads one file. Invariant: a file that is wrong is refused here with its line, before the controller is asked.

use std::path::PathBuf;

use clap::Args;
use comber_proto::rollout::v1::{CreateRolloutRequest, PreviewRolloutRequest};

use super::super::promised;
use super::{next_of, steer, watch};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::render::{self, json};
use crate::session::Session;
use crate::toml_file::read_rollout;

/// Makes a rollout from a file. It is a draft, which changes no host, unless --start is given.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber rollout create webapp.toml
  comber rollout create webapp.toml --start --watch
  comber rollout create - --start

With --watch the exit code tells how the rollout ended, see: comber help exit-codes")]
pub(crate) struct CreateArgs {
    /// Rollout file (TOML); - for standard input
    file: PathBuf,
    /// Start it at once
    #[arg(long)]
    start: bool,
    /// Follow it until it is over
    #[arg(long, requires = "start")]
    watch: bool,
    #[command(flatten)]
    following: watch::Following,
}

/// Shows what a rollout file would do on the live inventory: waves, hosts, bytes, and how far a bad release could get.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber rollout plan webapp.toml
  comber rollout plan webapp.toml --all")]
pub(crate) struct PlanArgs {
    /// Rollout file (TOML); - for standard input
    file: PathBuf,
    /// Name every host
    #[arg(long)]
    all: bool,
}

/// Creates, and where asked starts and watches.
pub(super) async fn run(args: CreateArgs, session: &Session) -> Outcome<Exit> {
    let doing = "create the rollout";
    let spec = read_rollout(&args.file)?;
    let client = session.client().await?;
    let request = CreateRolloutRequest { spec };
    let answer = client.answered(doing, client.rollouts().create_rollout(request).await)?;
    let rollout = promised(doing, answer.rollout)?;
    if args.start {
        return steer::start_and_watch(&client, rollout.id, args.watch, &args.following, session)
            .await;
    }
    session.screen.show(
        || json::Rollout::from(&rollout),
        |view| render::steered(view, &rollout, "created", &next_of(&rollout)),
    )?;
    Ok(Exit::Ok)
}

/// Shows the plan.
pub(super) async fn plan(args: PlanArgs, session: &Session) -> Outcome<()> {
    let spec = read_rollout(&args.file)?;
    let client = session.client().await?;
    let request = PreviewRolloutRequest { spec };
    let plan = client.answered(
        "plan the rollout",
        client.rollouts().preview_rollout(request).await,
    )?;
    let file = args.file.display().to_string();
    session.screen.show(
        || json::Plan::from(&plan),
        |view| render::plan(view, &file, &plan, args.all),
    )
}
