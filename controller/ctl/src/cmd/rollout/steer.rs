//! `comber rollout start|pause|resume`: one rpc each.
//!
//! Invariant: the state that is shown is the one that the controller answered with, durable there.

use clap::Args;
use comber_proto::rollout::v1::{
    PauseRolloutRequest, ResumeRolloutRequest, Rollout, StartRolloutRequest,
};

use super::super::promised;
use super::{named, next_of, watch};
use crate::client::Client;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::render::{self, json};
use crate::session::Session;

/// Starts a draft: its first wave opens.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber rollout start r7
  comber rollout start latest --watch

With --watch the exit code tells how the rollout ended, see: comber help exit-codes")]
pub(crate) struct StartArgs {
    /// For example r7; latest for the newest
    rollout: Option<String>,
    /// Follow it until it is over
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    following: watch::Following,
}

/// Gives no further permits until it is resumed; hosts that are active finish.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber rollout pause r7")]
pub(crate) struct PauseArgs {
    /// For example r7; latest for the newest
    rollout: Option<String>,
}

/// Goes on after a pause or a halt. After a halt this says: the failures so far are accepted.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber rollout resume r7")]
pub(crate) struct ResumeArgs {
    /// For example r7; latest for the newest
    rollout: Option<String>,
}

/// Starts, and watches where asked.
pub(super) async fn start(args: StartArgs, session: &Session) -> Outcome<Exit> {
    let client = session.client().await?;
    let id = named(&client, args.rollout.as_deref()).await?;
    start_and_watch(&client, id, args.watch, &args.following, session).await
}

/// The same for a rollout that was just made.
pub(super) async fn start_and_watch(
    client: &Client,
    id: String,
    then_watch: bool,
    following: &watch::Following,
    session: &Session,
) -> Outcome<Exit> {
    let doing = "start the rollout";
    let request = StartRolloutRequest { id };
    let answer = client.answered(doing, client.rollouts().start_rollout(request).await)?;
    let rollout = promised(doing, answer.rollout)?;
    if then_watch {
        if !session.screen.is_json() {
            session
                .screen
                .note(&format!("started {} ({})", rollout.id, rollout.release));
        }
        return watch::follow(client, rollout.id, following, session).await;
    }
    show(&rollout, "started", session)?;
    Ok(Exit::Ok)
}

/// Pauses.
pub(super) async fn pause(args: PauseArgs, session: &Session) -> Outcome<()> {
    let doing = "pause the rollout";
    let client = session.client().await?;
    let id = named(&client, args.rollout.as_deref()).await?;
    let answer = client
        .rollouts()
        .pause_rollout(PauseRolloutRequest { id })
        .await;
    let rollout = promised(doing, client.answered(doing, answer)?.rollout)?;
    show(&rollout, "paused", session)
}

/// Resumes.
pub(super) async fn resume(args: ResumeArgs, session: &Session) -> Outcome<()> {
    let doing = "resume the rollout";
    let client = session.client().await?;
    let id = named(&client, args.rollout.as_deref()).await?;
    let answer = client
        .rollouts()
        .resume_rollout(ResumeRolloutRequest { id })
        .await;
    let rollout = promised(doing, client.answered(doing, answer)?.rollout)?;
    show(&rollout, "resumed", session)
}

fn show(rollout: &Rollout, did: &str, session: &Session) -> Outcome<()> {
    session.screen.show(
        || json::Rollout::from(rollout),
        |view| render::steered(view, rollout, did, &next_of(rollout)),
    )
}
