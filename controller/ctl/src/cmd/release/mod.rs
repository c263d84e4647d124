//! `comber release build|publish|add|withdraw|floor|list|show|delete`.
//!
//! Invariant: deleting asks first.

mod build;
mod list;
mod publish;

pub(crate) use publish::{publish_bundle, upload};

use clap::{Args, Subcommand};
use comber_proto::release::v1::{DeleteReleaseRequest, GetReleaseRequest, ListReleasesRequest};
use serde::Serialize;

use super::promised;
use crate::args::Confirm;
use crate::error::Outcome;
use crate::render::{self, json};
use crate::session::Session;

/// Builds and publishes releases.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  comber release publish ./webapp
  comber release list")]
pub(crate) enum ReleaseCommand {
    /// Build a bundle from a directory
    Build(build::BuildArgs),
    /// Build where needed, list, sign, upload and import, in one go
    Publish(publish::PublishArgs),
    /// Prepare a list that names a release
    Add(list::AddArgs),
    /// Prepare a list that does not name it any more
    Withdraw(list::WithdrawArgs),
    /// Prepare a list with the lowest counter that hosts install
    Floor(list::FloorArgs),
    /// List releases
    List(ListArgs),
    /// Show everything about one release
    Show(ShowArgs),
    /// Remove a release that no rollout needs
    Delete(DeleteArgs),
}

/// Lists releases by name, oldest first.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber release list webapp")]
pub(crate) struct ListArgs {
    /// Only of this product
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
}

/// Shows everything about one release, its release.toml included.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber release show webapp@2.4.1")]
pub(crate) struct ShowArgs {
    /// name@version
    release: String,
}

/// Removes a release. Refused while a rollout needs it.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber release delete webapp@2.4.0")]
pub(crate) struct DeleteArgs {
    /// name@version
    release: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Does what was asked.
pub(crate) async fn run(command: ReleaseCommand, session: &Session) -> Outcome<()> {
    match command {
        ReleaseCommand::Build(args) => build::run(&args, session),
        ReleaseCommand::Publish(args) => publish::run(&args, session).await,
        ReleaseCommand::Add(args) => list::add(&args, session),
        ReleaseCommand::Withdraw(args) => list::withdraw(&args, session),
        ReleaseCommand::Floor(args) => list::floor(&args, session),
        ReleaseCommand::List(args) => list(args, session).await,
        ReleaseCommand::Show(args) => show(args, session).await,
        ReleaseCommand::Delete(args) => delete(args, session).await,
    }
}

async fn list(args: ListArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let request = ListReleasesRequest { name: args.name };
    let answer = client.answered(
        "list releases",
        client.releases().list_releases(request).await,
    )?;
    session.screen.show(
        || json::Releases::new(&answer.releases),
        |view| render::releases(view, &answer.releases),
    )
}

async fn show(args: ShowArgs, session: &Session) -> Outcome<()> {
    let doing = "show the release";
    let client = session.client().await?;
    let request = GetReleaseRequest { id: args.release };
    let answer = client.answered(doing, client.releases().get_release(request).await)?;
    let release = promised(doing, answer.release)?;
    session.screen.show(
        || json::Release::from(&release),
        |view| render::release(view, &release),
    )
}

async fn delete(args: DeleteArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    session
        .screen
        .confirm(args.confirm.yes, &format!("Delete {}?", args.release))?;
    let request = DeleteReleaseRequest {
        id: args.release.clone(),
    };
    client.answered(
        "delete the release",
        client.releases().delete_release(request).await,
    )?;
    session.screen.show(
        || Deleted {
            deleted: &args.release,
        },
        |_| format!("{} is deleted\n", args.release),
    )
}

#[derive(Debug, Serialize)]
struct Deleted<'a> {
    deleted: &'a str,
}
