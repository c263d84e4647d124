//! `comber context list|use`: which controller commands go to.
//!
//! Touches only the configuration directory. Invariant: listing works although an identity is damaged.

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::context::Context;
use crate::error::Outcome;
use crate::render::{self, json};
use crate::session::Session;

/// Lists contexts and changes between them.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  comber context use staging")]
pub(crate) enum ContextCommand {
    /// List contexts
    List(ListArgs),
    /// Make a context the current one
    Use(UseArgs),
}

/// Lists contexts, with the end of each certificate.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber context list")]
pub(crate) struct ListArgs {}

/// Makes a context the one that commands work in.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber context use staging")]
pub(crate) struct UseArgs {
    name: String,
}

/// Does what was asked.
pub(crate) fn run(command: ContextCommand, session: &Session) -> Outcome<()> {
    match command {
        ContextCommand::List(ListArgs {}) => list(session),
        ContextCommand::Use(args) => switch(&args.name, session),
    }
}

fn list(session: &Session) -> Outcome<()> {
    let contexts = session.contexts()?;
    let rows: Vec<(Context, bool, Option<jiff::Timestamp>)> = contexts
        .all()
        .map(|(context, current)| {
            let identity = context.load_identity().ok();
            let ends = identity.map(|identity| identity.facts().not_after);
            (context, current, ends)
        })
        .collect();
    session.screen.show(|| as_json(&rows), |view| {
        let told = |context: &Context, ends: &Option<jiff::Timestamp>| match ends {
            None if context.token.exists() => "a token in its place".to_owned(),
            Some(ends) if *ends < view.now => "over: enrol again".to_owned(),
            Some(ends) => format!("until {}", render::instant(*ends)),
            None => "unreadable: enrol again".to_owned(),
        };
        let rows: Vec<_> = rows
            .iter()
            .map(|(context, current, ends)| (context.clone(), *current, told(context, ends)))
            .collect();
        if rows.is_empty() { "there is no context; make one: comber init --controller https://HOST:7443 --token-file FILE\n".to_owned() } else { render::contexts(view, &rows) }
    })
}

fn as_json(rows: &[(Context, bool, Option<jiff::Timestamp>)]) -> json::Contexts {
    let context =
        |(context, current, ends): &(Context, bool, Option<jiff::Timestamp>)| json::Context {
            name: context.name.clone(),
            current: *current,
            controller: context.entry.controller.clone(),
            operator: context.entry.operator.clone(),
            certificate_ends: ends.map(render::instant),
            proof: if context.token.exists() {
                "token"
            } else {
                "certificate"
            },
        };
    json::Contexts {
        contexts: rows.iter().map(context).collect(),
    }
}

fn switch(name: &str, session: &Session) -> Outcome<()> {
    let mut contexts = session.contexts()?;
    contexts.switch(name)?;
    let context = contexts.pick(Some(name))?;
    session.screen.show(
        || Current { current: name },
        |_| {
            format!(
                "commands go to {} now (context {name})\n",
                context.entry.controller
            )
        },
    )
}

#[derive(Debug, Serialize)]
struct Current<'a> {
    current: &'a str,
}
