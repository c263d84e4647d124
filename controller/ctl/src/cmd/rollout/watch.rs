//! `comber rollout watch`: follows a rollout until it is over; the exit code tells how it ended.
//!
//! Invariant: interrupting the watch never touches the rollout.

use std::time::Duration;

use clap::Args;
use comber_proto::rollout::v1::{GetRolloutRequest, ListMembersRequest, Rollout, RolloutState};
use comber_runtime::shutdown::Shutdown;

use super::super::promised;
use super::{explain, look, next_of, resolve};
use crate::args::time;
use crate::client::Client;
use crate::error::{Outcome, failed};
use crate::exit::Exit;
use crate::render::{self, Summary, json};
use crate::session::Session;
use crate::watch::{Ended, Goal, Watch};

/// Failed hosts that are looked at for one example of each class.
const EXAMPLES: u32 = 1000;

/// Follows a rollout until it is over. On a terminal the view is redrawn in place, elsewhere each change is a line.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber rollout watch
  comber rollout watch r7 --timeout 2h

Exit codes: 0 completed, no host failed or unreached; 3 completed with failed or unreached hosts; 4 halted; 5 aborted;
6 interrupted or timed out, the rollout goes on")]
pub(crate) struct WatchArgs {
    /// For example r7; the newest where it is left out
    rollout: Option<String>,
    #[command(flatten)]
    following: Following,
}

/// How to follow.
#[derive(Debug, Clone, Args)]
pub(crate) struct Following {
    /// Stop watching after this time, with exit code 6
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
}

/// Watches.
pub(super) async fn run(args: WatchArgs, session: &Session) -> Outcome<Exit> {
    let client = session.client().await?;
    let id = resolve(&client, args.rollout.as_deref()).await?;
    follow(&client, id, &args.following, session).await
}

/// Watches to the end and tells how it was.
pub(super) async fn follow(
    client: &Client,
    id: String,
    following: &Following,
    session: &Session,
) -> Outcome<Exit> {
    match observe(client, &id, Goal::Over, following.timeout, session).await? {
        Ended::Reached(rollout) => tell(client, *rollout, session).await,
        Ended::Interrupted => Ok(stopped("stopped watching", &id, session)),
        Ended::TimedOut => Ok(stopped("stopped watching: --timeout is over", &id, session)),
    }
}

/// Watches until the way back is over.
pub(super) async fn until_back(client: &Client, id: String, session: &Session) -> Outcome<Rollout> {
    match observe(client, &id, Goal::Back, None, session).await? {
        Ended::Reached(rollout) => Ok(*rollout),
        Ended::Interrupted | Ended::TimedOut => Err(crate::error::CliError::new(
            Exit::Interrupted,
            format!("stopped waiting; {id} goes on rolling back"),
        )
        .hint(format!("comber rollout watch {id}"))),
    }
}

async fn observe(
    client: &Client,
    id: &str,
    goal: Goal,
    timeout: Option<Duration>,
    session: &Session,
) -> Outcome<Ended> {
    let shutdown = Shutdown::new();
    shutdown
        .on_signals()
        .map_err(|error| failed("cannot listen for signals")(&error))?;
    let mut watch = Watch::new(client.clone(), id.to_owned(), session.screen.clone(), goal);
    // All arms are cancel-safe: when one of the others wins, the watch is over.
    let ended = tokio::select! {
        ended = watch.run() => ended.map(|rollout| Ended::Reached(Box::new(rollout))),
        _ = shutdown.wait() => Ok(Ended::Interrupted),
        () = over(timeout) => Ok(Ended::TimedOut),
    };
    watch.finish();
    ended
}

async fn over(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

fn stopped(how: &str, id: &str, session: &Session) -> Exit {
    session.screen.note(&format!(
        "{how}; {id} goes on, see it again with: comber rollout watch {id}"
    ));
    Exit::Interrupted
}

async fn tell(client: &Client, seen: Rollout, session: &Session) -> Outcome<Exit> {
    let summary = summarise(client, seen).await;
    let exit = summary.exit();
    let screen = &session.screen;
    if screen.is_json() {
        let summary = Box::new(json::Summary::new(&summary, exit));
        screen.print_json_line(&json::WatchLine::Summary { summary })?;
    } else {
        screen.print(&format!("\n{}", render::summary(&screen.view(), &summary)))?;
    }
    Ok(exit)
}

/// The end, with examples of what failed. The rollout as it was seen is enough where the controller goes away now: the
/// exit code must not depend on decoration.
async fn summarise(client: &Client, seen: Rollout) -> Summary {
    let id = seen.id.clone();
    let fresh = match client
        .rollouts()
        .get_rollout(GetRolloutRequest { id: id.clone() })
        .await
    {
        Ok(answer) => promised("show the rollout", answer.into_inner().rollout).ok(),
        Err(_) => None,
    };
    // A rollout that was resumed this very moment has still ended for this watch.
    let rollout = fresh
        .filter(|fresh| fresh.state == seen.state)
        .unwrap_or(seen);
    let failed = match rollout.outcomes.unwrap_or_default().failed {
        0 => Vec::new(),
        _ => examples(client, &id).await,
    };
    let next = match explain(client, &id).await {
        Ok(answer) if !answer.next.is_empty() => answer.next,
        Ok(_) | Err(_) => next_commands(&rollout),
    };
    Summary {
        rollout,
        failed,
        next,
    }
}

async fn examples(client: &Client, id: &str) -> Vec<comber_proto::rollout::v1::Member> {
    let request = ListMembersRequest {
        id: id.to_owned(),
        outcomes: vec!["failed".to_owned()],
        ..ListMembersRequest::default()
    };
    let members = look::members(client, request, EXAMPLES).await;
    members.map(|(members, _)| members).unwrap_or_default()
}

fn next_commands(rollout: &Rollout) -> Vec<String> {
    let id = &rollout.id;
    let outcomes = rollout.outcomes.unwrap_or_default();
    match rollout.state() {
        RolloutState::Completed if outcomes.failed + outcomes.unreached > 0 => {
            vec![format!(
                "comber rollout hosts {id} --outcome failed,unreached"
            )]
        }
        _ => next_of(rollout),
    }
}
