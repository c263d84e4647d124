//! `comber freeze add|list|remove|import`: when nothing may move in the whole fleet.
//!
//! Reads a calendar where asked. Invariant: a calendar is taken whole or not at all, and what was not understood is named.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comber_model::calendar::ics;
use comber_proto::freeze::v1::{
    AddFreezeRequest, Freeze, FreezeTime, ListFreezesRequest, RemoveFreezeRequest,
};

use super::promised;
use crate::args::Confirm;
use crate::error::{CliError, Outcome};
use crate::render::{self, json};
use crate::session::Session;
use crate::toml_file;

/// Adds, lists, removes and imports freezes: times in which no host of the fleet begins to activate anything, except for
/// emergencies and, unless a rollout file says otherwise, on the way back.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  comber freeze add year-end 12-20..01-06 --reason 'nobody is there'")]
pub(crate) enum FreezeCommand {
    /// Add a freeze
    Add(AddArgs),
    /// List freezes
    List(ListArgs),
    /// Remove a freeze
    Remove(RemoveArgs),
    /// Add a freeze with all events of a calendar (iCalendar)
    Import(ImportArgs),
}

/// Adds a freeze. It is in force when the command returns; permits that are not used yet are taken back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber freeze add year-end 12-20..01-06 --reason 'nobody is there'
  comber freeze add weekends 'Fri 16:00-24:00' Sat,Sun --reason policy
  comber freeze add launch '2026-12-01T18:00..2026-12-02T06:00' --zone Europe/Berlin --reason launch")]
pub(crate) struct AddArgs {
    /// What to call it
    #[arg(value_name = "NAME")]
    name: String,
    /// When, as in the windows of a rollout file
    #[arg(value_name = "WHEN", required = true)]
    when: Vec<String>,
    #[command(flatten)]
    said: Said,
}

/// What is said of every freeze.
#[derive(Debug, Args)]
pub(crate) struct Said {
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Whose clock counts: each host's own, or that of one zone
    #[arg(long, value_name = "ZONE", default_value = "host")]
    zone: String,
    /// Put it in the place of a freeze of that name
    #[arg(long)]
    replace: bool,
}

/// Lists freezes by name, with the time that is now or comes next.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber freeze list")]
pub(crate) struct ListArgs {}

/// Removes a freeze, also one that is in force.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber freeze remove year-end")]
pub(crate) struct RemoveArgs {
    /// As in the list
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Adds a freeze with all events of a calendar: all-day ones and ones with times, once or by a rule. A calendar with
/// anything that is not understood is refused as a whole.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber freeze import holidays.ics --name holidays --reason 'public holidays' --replace")]
pub(crate) struct ImportArgs {
    /// The calendar; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to call the freeze
    #[arg(long, value_name = "NAME")]
    name: String,
    #[command(flatten)]
    said: Said,
}

/// Does what was asked.
pub(crate) async fn run(command: FreezeCommand, session: &Session) -> Outcome<()> {
    match command {
        FreezeCommand::Add(args) => {
            let times = args.when.into_iter().map(|when| FreezeTime {
                when,
                title: String::new(),
            });
            add(args.name, times.collect(), args.said, session).await
        }
        FreezeCommand::Import(args) => import(args, session).await,
        FreezeCommand::List(ListArgs {}) => list(session).await,
        FreezeCommand::Remove(args) => remove(args, session).await,
    }
}

async fn import(args: ImportArgs, session: &Session) -> Outcome<()> {
    let (text, file) = toml_file::read(&args.file)?;
    let times = ics::parse(&text).map_err(|problem| {
        CliError::invalid(format!("{file} is not a calendar of freezes"), &[problem])
    })?;
    let times = times.into_iter().map(|time| FreezeTime {
        when: time.when.to_string(),
        title: time.title.unwrap_or_default(),
    });
    add(args.name, times.collect(), args.said, session).await
}

async fn add(name: String, times: Vec<FreezeTime>, said: Said, session: &Session) -> Outcome<()> {
    let doing = "add the freeze";
    let client = session.client().await?;
    let request = AddFreezeRequest {
        freeze: Some(Freeze {
            name,
            reason: said.reason,
            zone: said.zone,
            times,
            ..Freeze::default()
        }),
        replace: said.replace,
    };
    let answer = client.answered(doing, client.freezes().add_freeze(request).await)?;
    let freeze = promised(doing, answer.freeze.clone())?;
    session.screen.show(
        || json::AddedFreeze::new(&freeze, &answer),
        |view| render::freeze_added(view, &freeze, &answer),
    )
}

async fn list(session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let answer = client.freezes().list_freezes(ListFreezesRequest {}).await;
    let freezes = client.answered("list freezes", answer)?.freezes;
    session.screen.show(
        || json::Freezes::new(&freezes),
        |view| render::freezes(view, &freezes),
    )
}

async fn remove(args: RemoveArgs, session: &Session) -> Outcome<()> {
    let doing = "remove the freeze";
    let client = session.client().await?;
    session.screen.confirm(
        args.confirm.yes,
        &format!("Remove the freeze {}?", args.name),
    )?;
    let request = RemoveFreezeRequest { name: args.name };
    let answer = client.answered(doing, client.freezes().remove_freeze(request).await)?;
    let freeze = promised(doing, answer.freeze)?;
    session.screen.show(
        || json::Freeze::from(&freeze),
        |_| format!("freeze {} holds nobody any more\n", freeze.name),
    )
}
