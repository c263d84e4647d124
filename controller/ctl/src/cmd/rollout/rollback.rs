//! `comber rollout rollback`: every host goes back to what it had.
//!
//! Invariant: with `--wait` it ends well only when every host that can go back is back.

use clap::Args;
use comber_proto::rollout::v1::{RollBackRolloutRequest, Rollout};

use super::super::promised;
use super::{named, next_of, watch};
use crate::args::Confirm;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::render::{self, json};
use crate::session::Session;

/// Takes every host of the rollout back to what it had before.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber rollout rollback r7
  comber rollout rollback r7 --wait --yes")]
pub(crate) struct RollbackArgs {
    /// For example r7; latest for the newest
    rollout: Option<String>,
    /// Return only when every host that can go back is back
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// Asks for it, and waits where asked.
pub(super) async fn run(args: RollbackArgs, session: &Session) -> Outcome<()> {
    let doing = "roll back the rollout";
    let client = session.client().await?;
    let id = named(&client, args.rollout.as_deref()).await?;
    let screen = &session.screen;
    screen.confirm(
        args.confirm.yes,
        &format!("Take every host of {id} back to what it had?"),
    )?;
    let request = RollBackRolloutRequest { id: id.clone() };
    let answer = client.answered(doing, client.rollouts().roll_back_rollout(request).await)?;
    let rollout = promised(doing, answer.rollout)?;
    if args.wait {
        let rollout = watch::until_back(&client, id, session).await?;
        show(&rollout, "rolled back", session)?;
        return incomplete(&rollout);
    }
    show(&rollout, "rolling back", session)
}

fn show(rollout: &Rollout, did: &str, session: &Session) -> Outcome<()> {
    session.screen.show(
        || json::Rollout::from(rollout),
        |view| render::steered(view, rollout, did, &next_of(rollout)),
    )
}

/// Hosts that could not go back need a person.
fn incomplete(rollout: &Rollout) -> Outcome<()> {
    let back = rollout.roll_back.unwrap_or_default();
    if back.failed + back.impossible == 0 {
        return Ok(());
    }
    let count = |hosts: u32, what| (hosts > 0).then(|| format!("{hosts} {what}"));
    let what: Vec<String> = [
        count(back.failed, "tried to go back and failed"),
        count(back.impossible, "have nothing to go back to"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let what = format!("not every host is back: {}", what.join(", "));
    Err(crate::error::CliError::new(Exit::HostsFailed, what)
        .hint(format!("comber rollout hosts {} shows them", rollout.id)))
}
