//! `comber rollout abort`: stops for good, and with `--wait` returns when no host can begin to activate any more.
//!
//! Invariant: `--wait` ends well only when the controller said that the fence is closed; run again, it waits again.

use std::time::Duration;

use clap::Args;
use comber_proto::rollout::v1::{
    AbortRolloutRequest, AwaitFenceRequest, AwaitFenceResponse, GetRolloutRequest, RolloutState,
};
use comber_runtime::backoff::Backoff;
use tonic::{Code, Status, Streaming};

use super::super::promised;
use super::named;
use crate::args::Confirm;
use crate::client::Client;
use crate::error::Outcome;
use crate::render::{self, json};
use crate::session::Session;
use crate::status::{is_connection, transport_cause};
use crate::watch::Ticker;

/// Stops a rollout for good. Hosts that are active finish; with --wait it returns when no host can begin to activate any more.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber rollout abort r7 --wait
  comber rollout abort latest --yes --wait")]
pub(crate) struct AbortArgs {
    /// For example r7; latest for the newest
    rollout: Option<String>,
    /// Return only when no host can begin to activate the release any more
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// Aborts, and waits where asked.
pub(super) async fn run(args: AbortArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let id = named(&client, args.rollout.as_deref()).await?;
    let screen = &session.screen;
    screen.confirm(args.confirm.yes, &format!("Abort {id} for good?"))?;
    abort(&client, &id, args.wait, session).await?;
    if !args.wait {
        return Ok(());
    }
    let fence = wait(&client, &id, session).await?;
    screen.show(
        || json::Fence::new(&id, &fence),
        |view| format!("{}\n", render::fence(view, &id, &fence)),
    )
}

async fn abort(client: &Client, id: &str, wait: bool, session: &Session) -> Outcome<()> {
    let doing = "abort the rollout";
    let request = AbortRolloutRequest { id: id.to_owned() };
    let answer = match client.rollouts().abort_rollout(request).await {
        // Somebody who broke off the wait comes back for it.
        Err(status)
            if wait
                && status.code() == Code::FailedPrecondition
                && is_aborted(client, id).await =>
        {
            return Ok(());
        }
        answer => client.answered(doing, answer)?,
    };
    let rollout = promised(doing, answer.rollout)?;
    let screen = &session.screen;
    match (screen.is_json(), wait) {
        (true, true) => Ok(()),
        (true, false) => screen.print_json(&json::Rollout::from(&rollout)),
        (false, true) => screen.print(&render::steered(&screen.view(), &rollout, "aborted", &[])),
        (false, false) => {
            let again = format!(
                "comber rollout abort {id} --wait    (until no host can begin to activate any more)"
            );
            screen.print(&render::steered(
                &screen.view(),
                &rollout,
                "aborted",
                &[again],
            ))
        }
    }
}

async fn is_aborted(client: &Client, id: &str) -> bool {
    let answer = client
        .rollouts()
        .get_rollout(GetRolloutRequest { id: id.to_owned() })
        .await;
    let rollout = answer.ok().and_then(|answer| answer.into_inner().rollout);
    rollout.is_some_and(|rollout| rollout.state() == RolloutState::Aborted)
}

/// Follows the fence until it is closed, over restarts of the controller.
async fn wait(client: &Client, id: &str, session: &Session) -> Outcome<AwaitFenceResponse> {
    let mut ticker = Ticker::new(&session.screen);
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
    loop {
        let request = AwaitFenceRequest { id: id.to_owned() };
        let status = match client.rollouts().await_fence(request).await {
            Ok(stream) => {
                match follow(stream.into_inner(), id, &mut ticker, &mut backoff, session).await {
                    Ok(closed) => return Ok(closed),
                    Err(status) => status,
                }
            }
            Err(status) => status,
        };
        if !is_connection(&status) {
            return Err(client.refused("wait for the fence", &status));
        }
        ticker.say(&format!(
            "connection to the controller lost ({}); trying again",
            transport_cause(&status)
        ));
        tokio::time::sleep(backoff.ceiling()).await;
        backoff.next(u64::MAX);
    }
}

async fn follow(
    mut stream: Streaming<AwaitFenceResponse>,
    id: &str,
    ticker: &mut Ticker,
    backoff: &mut Backoff,
    session: &Session,
) -> Result<AwaitFenceResponse, Status> {
    let mut last: Option<AwaitFenceResponse> = None;
    loop {
        // Both arms are cancel-safe: a stream keeps what it has not given out, and a tick is only a tick.
        let message = tokio::select! {
            message = stream.message() => message?,
            () = ticker.tick() => last.clone(),
        };
        let Some(fence) = message else {
            if last.is_none() {
                return Err(Status::unavailable("the controller ended the stream"));
            }
            continue;
        };
        backoff.reset();
        if fence.closed {
            ticker.clear();
            return Ok(fence);
        }
        ticker.say(&render::fence(&session.screen.error_view(), id, &fence));
        last = Some(fence);
    }
}
