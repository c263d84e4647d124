//! `comber rollout list|show|status|hosts`: looking, without changing.
//!
//! Reads only.

use clap::{Args, ValueEnum};
use comber_proto::rollout::v1::{
    GetRolloutRequest, ListMembersRequest, ListRolloutsRequest, Member,
};

use super::super::promised;
use super::{explain, resolve};
use crate::client::Client;
use crate::error::Outcome;
use crate::render::{self, json};
use crate::session::Session;

/// Largest page that the controller gives.
const PAGE: u32 = 1000;

/// Lists rollouts, newest first.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber rollout list --name webapp --limit 10")]
pub(crate) struct ListArgs {
    /// Only of this product
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    name: String,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u32,
}

/// Shows everything about one rollout, its file included.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber rollout show r7")]
pub(crate) struct ShowArgs {
    /// For example r7; the newest where it is left out
    rollout: Option<String>,
}

/// Shows how far a rollout is, wave by wave, and what holds it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber rollout status
  comber rollout status r7 --output json")]
pub(crate) struct StatusArgs {
    /// For example r7; the newest where it is left out
    rollout: Option<String>,
}

/// Lists the hosts of a rollout in the order of wave and place.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber rollout hosts r7
  comber rollout hosts r7 --outcome failed,unreached --wave 2")]
pub(crate) struct HostsArgs {
    /// For example r7; the newest where it is left out
    rollout: Option<String>,
    /// Only these outcomes
    #[arg(
        long = "outcome",
        value_enum,
        value_delimiter = ',',
        value_name = "OUTCOME"
    )]
    outcomes: Vec<OutcomeWord>,
    /// Only this wave, from 1
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    wave: u32,
    /// At most so many; 0 for all
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: u32,
}

/// The words of outcomes.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum OutcomeWord {
    /// Runs the release and proved healthy
    Succeeded,
    /// Does not, and no further try is planned
    Failed,
    /// Waits for its wave, or is not finished
    Pending,
    /// Its wave is open and it has not confirmed receipt
    Unreached,
    /// Set aside, with a reason
    Excluded,
}

impl OutcomeWord {
    fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Pending => "pending",
            Self::Unreached => "unreached",
            Self::Excluded => "excluded",
        }
    }
}

/// Lists.
pub(super) async fn list(args: ListArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let request = ListRolloutsRequest {
        name: args.name,
        limit: args.limit,
    };
    let answer = client.answered(
        "list rollouts",
        client.rollouts().list_rollouts(request).await,
    )?;
    session.screen.show(
        || json::Rollouts::new(&answer.rollouts),
        |view| render::rollouts(view, &answer.rollouts),
    )
}

/// Shows one whole.
pub(super) async fn show(args: ShowArgs, session: &Session) -> Outcome<()> {
    let doing = "show the rollout";
    let client = session.client().await?;
    let id = resolve(&client, args.rollout.as_deref()).await?;
    let answer = client
        .rollouts()
        .get_rollout(GetRolloutRequest { id })
        .await;
    let rollout = promised(doing, client.answered(doing, answer)?.rollout)?;
    session.screen.show(
        || json::Rollout::from(&rollout),
        |view| render::rollout(view, &rollout),
    )
}

/// Shows progress and holds.
pub(super) async fn status(args: StatusArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let id = resolve(&client, args.rollout.as_deref()).await?;
    let answer = explain(&client, &id).await?;
    let rollout = promised("show the rollout", answer.rollout)?;
    let waves = answer.waves.into_iter().flat_map(|wave| wave.holds);
    let mut holds = answer.holds;
    for hold in waves {
        if !holds.contains(&hold) {
            holds.push(hold);
        }
    }
    session.screen.show(
        || json::Status::new(&rollout, &holds, &answer.next),
        |view| render::status(view, &rollout, &holds, &answer.next),
    )
}

/// Lists its hosts.
pub(super) async fn hosts(args: HostsArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let id = resolve(&client, args.rollout.as_deref()).await?;
    let request = ListMembersRequest {
        id,
        outcomes: args
            .outcomes
            .iter()
            .map(|outcome| outcome.as_str().to_owned())
            .collect(),
        wave: args.wave,
        page_token: String::new(),
        page_size: 0,
    };
    let (members, more) = members(&client, request, args.limit).await?;
    session.screen.show(
        || json::Members::new(&members, more),
        |view| render::members(view, &members, more),
    )
}

/// All pages up to the limit, 0 for none; true where it left some out.
pub(super) async fn members(
    client: &Client,
    mut request: ListMembersRequest,
    limit: u32,
) -> Outcome<(Vec<Member>, bool)> {
    let limit = if limit == 0 {
        usize::MAX
    } else {
        limit as usize
    };
    let mut members = Vec::new();
    loop {
        request.page_size = u32::try_from(limit - members.len())
            .unwrap_or(PAGE)
            .min(PAGE);
        let answer = client.rollouts().list_members(request.clone()).await;
        let answer = client.answered("list the rollout's hosts", answer)?;
        members.extend(answer.members);
        let more = !answer.next_page_token.is_empty() || members.len() > limit;
        members.truncate(limit);
        if !more || members.len() == limit {
            return Ok((members, more));
        }
        request.page_token = answer.next_page_token;
    }
}
