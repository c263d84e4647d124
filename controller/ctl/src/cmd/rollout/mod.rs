//! `comber rollout ...`: plan, start, watch and steer.
//!
//! Which rollout: commands that only look take the newest where none is named; commands that change something want it
//! named, be it as `latest`, so that nobody stops another's rollout by leaving out a word.
//! Invariant: aborting and rolling back ask first.

mod abort;
mod create;
mod look;
mod rollback;
mod steer;
mod watch;

use clap::Subcommand;
use comber_proto::rollout::v1::{
    ExplainRolloutRequest, ExplainRolloutResponse, ListRolloutsRequest, Rollout, RolloutState,
};

use crate::client::Client;
use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::session::Session;

/// Plans, starts, watches and steers rollouts.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  comber rollout plan webapp.toml
  comber rollout create webapp.toml --start --watch
  comber rollout pause r7")]
pub(crate) enum RolloutCommand {
    /// Make a rollout from a file, as a draft or started
    Create(create::CreateArgs),
    /// Show what a rollout file would do; changes nothing
    Plan(create::PlanArgs),
    /// Start a draft
    Start(steer::StartArgs),
    /// Show how far a rollout is
    Status(look::StatusArgs),
    /// Follow a rollout until it is over
    Watch(watch::WatchArgs),
    /// Give no further permits; hosts that are active finish
    Pause(steer::PauseArgs),
    /// Go on after a pause or a halt
    Resume(steer::ResumeArgs),
    /// Stop a rollout for good
    Abort(abort::AbortArgs),
    /// Take every host of a rollout back to what it had
    Rollback(rollback::RollbackArgs),
    /// List rollouts
    List(look::ListArgs),
    /// Show everything about one rollout, its file included
    Show(look::ShowArgs),
    /// List the hosts of a rollout
    Hosts(look::HostsArgs),
}

/// Does what was asked.
pub(crate) async fn run(command: RolloutCommand, session: &Session) -> Outcome<Exit> {
    let done = match command {
        RolloutCommand::Create(args) => return create::run(args, session).await,
        RolloutCommand::Watch(args) => return watch::run(args, session).await,
        RolloutCommand::Start(args) => return steer::start(args, session).await,
        RolloutCommand::Plan(args) => create::plan(args, session).await,
        RolloutCommand::Status(args) => look::status(args, session).await,
        RolloutCommand::Pause(args) => steer::pause(args, session).await,
        RolloutCommand::Resume(args) => steer::resume(args, session).await,
        RolloutCommand::Abort(args) => abort::run(args, session).await,
        RolloutCommand::Rollback(args) => rollback::run(args, session).await,
        RolloutCommand::List(args) => look::list(args, session).await,
        RolloutCommand::Show(args) => look::show(args, session).await,
        RolloutCommand::Hosts(args) => look::hosts(args, session).await,
    };
    done.map(|()| Exit::Ok)
}

/// The rollout's number: as named (`r7`, `7`), or the newest for `latest` and where none is named.
pub(crate) async fn resolve(client: &Client, named: Option<&str>) -> Outcome<String> {
    match named {
        Some("latest") | None => {}
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            return Ok(format!("r{number}"));
        }
        Some(id) => return Ok(id.to_owned()),
    }
    let request = ListRolloutsRequest {
        name: String::new(),
        limit: 1,
    };
    let answer = client.answered(
        "find the newest rollout",
        client.rollouts().list_rollouts(request).await,
    )?;
    let newest = answer.rollouts.into_iter().next();
    newest.map(|rollout| rollout.id).ok_or_else(|| {
        CliError::new(Exit::Refused, "there is no rollout yet")
            .hint("make one: comber rollout create FILE")
    })
}

/// The rollout that is to be changed: it must be named.
async fn named(client: &Client, named: Option<&str>) -> Outcome<String> {
    match named {
        Some(name) => resolve(client, Some(name)).await,
        None => Err(CliError::usage("which rollout?")
            .hint("name it, for example r7, or latest for the newest")),
    }
}

/// What holds a rollout and what an operator can do about it.
async fn explain(client: &Client, id: &str) -> Outcome<ExplainRolloutResponse> {
    let request = ExplainRolloutRequest { id: id.to_owned() };
    client.answered(
        "explain the rollout",
        client.rollouts().explain_rollout(request).await,
    )
}

/// Commands that make sense for a rollout that was just made or steered.
fn next_of(rollout: &Rollout) -> Vec<String> {
    let id = &rollout.id;
    let commands: &[&str] = match rollout.state() {
        RolloutState::Draft => &["rollout start"],
        RolloutState::Paused => &["rollout resume", "why rollout"],
        RolloutState::Halted => &["why rollout", "rollout resume", "rollout rollback"],
        RolloutState::Running | RolloutState::RollingBack => &["rollout watch", "why rollout"],
        RolloutState::Completed | RolloutState::Aborted | RolloutState::Unspecified => {
            &["rollout show"]
        }
    };
    commands
        .iter()
        .map(|command| format!("comber {command} {id}"))
        .collect()
}
