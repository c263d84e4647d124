//! `comber events`: what happened, and with `--follow` what happens.
//!
//! Reads only. Invariant: following survives a restart of the controller without losing or repeating an event.

use std::time::Duration;

use clap::Args;
use comber_proto::event::v1::{Event, WatchEventsRequest};
use comber_runtime::backoff::Backoff;

use super::rollout::resolve;
use crate::client::Client;
use crate::error::Outcome;
use crate::render::{self, json};
use crate::session::Session;
use crate::status::{is_connection, transport_cause};

/// How many are shown unless told otherwise.
const LAST: u32 = 50;

/// Shows what happened, oldest first. As JSON: one event a line.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber events --last 20
  comber events --follow --rollout r7
  comber events --host web-1 --output json")]
pub(crate) struct EventsArgs {
    /// Go on with new ones until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only of this rollout; latest for the newest
    #[arg(long, value_name = "ROLLOUT")]
    rollout: Option<String>,
    /// Only of this host
    #[arg(
        long,
        value_name = "HOST",
        default_value = "",
        hide_default_value = true
    )]
    host: String,
    /// Only the last so many; 0 for all that are kept [default: 50]
    #[arg(long, value_name = "N", conflicts_with = "after")]
    last: Option<u32>,
    /// Only those after this number, for a program that goes on where it was
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true
    )]
    after: u64,
}

/// Asks and shows.
pub(crate) async fn run(args: EventsArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let rollout = match args.rollout.as_deref() {
        Some(rollout) => resolve(&client, Some(rollout)).await?,
        None => String::new(),
    };
    let mut request = WatchEventsRequest {
        after: args.after,
        rollout,
        host: args.host,
        follow: args.follow,
        last: args.last.unwrap_or(if args.after > 0 { 0 } else { LAST }),
    };
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
    loop {
        let before = request.after;
        let Err(status) = stream(&client, &mut request, session).await? else {
            return Ok(());
        };
        if !args.follow || !is_connection(&status) {
            return Err(client.refused("read events", &status));
        }
        if request.after > before {
            backoff.reset();
        }
        if backoff.tries() == 0 {
            let why = transport_cause(&status);
            session.screen.note(&format!(
                "connection to the controller lost ({why}); trying again"
            ));
        }
        tokio::time::sleep(backoff.ceiling()).await;
        backoff.next(u64::MAX);
    }
}

/// Shows events until the stream ends; the request is moved on past each one that was shown.
async fn stream(
    client: &Client,
    request: &mut WatchEventsRequest,
    session: &Session,
) -> Outcome<Result<(), tonic::Status>> {
    let mut events = match client.events().watch_events(request.clone()).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    loop {
        match events.message().await {
            Ok(Some(message)) => {
                let Some(event) = message.event else { continue };
                show(&event, session)?;
                request.after = event.number;
                request.last = 0;
            }
            // A controller that stops ends its streams in order: for a follower that is a lost connection too.
            Ok(None) if request.follow => {
                return Ok(Err(tonic::Status::unavailable(
                    "the controller ended the stream",
                )));
            }
            Ok(None) => return Ok(Ok(())),
            Err(status) => return Ok(Err(status)),
        }
    }
}

fn show(event: &Event, session: &Session) -> Outcome<()> {
    let screen = &session.screen;
    if screen.is_json() {
        screen.print_json_line(&json::Event::from(event))
    } else {
        screen.print(&render::events(&screen.view(), std::slice::from_ref(event)))
    }
}
