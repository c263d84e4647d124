//! `comber token create|list|revoke`: what lets hosts and operators in.
//!
//! Invariant: a token's text is written exactly once, to standard output or to a file of mode 0600.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use comber_model::wire::time::to_span;
use comber_proto::enrolment::v1::{
    CreateTokenRequest, IdentityKind, ListTokensRequest, RevokeTokenRequest,
};
use comber_runtime::fsx;
use serde::Serialize;

use super::promised;
use crate::args::{Confirm, pair, time};
use crate::error::{CliError, Outcome};
use crate::render::{self, json};
use crate::session::Session;

/// Makes, lists and revokes enrolment tokens.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  comber token create --uses 10 --ttl 2h --out token")]
pub(crate) enum TokenCommand {
    /// Make a token, for hosts unless told otherwise
    Create(CreateArgs),
    /// List the tokens that can still be used
    List(ListArgs),
    /// End a token at once
    Revoke(RevokeArgs),
}

/// Makes a token. Its text is shown once: alone on standard output, so that a script can take it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber token create
  comber token create --uses 200 --ttl 7d --name-pattern 'web-*' --label role=web --out token
  comber token create --operator --name-pattern anna --out anna.token")]
pub(crate) struct CreateArgs {
    /// For hosts (the default)
    #[arg(long, conflicts_with = "operator")]
    hosts: bool,
    /// For an operator
    #[arg(long)]
    operator: bool,
    /// How often it can be used
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    uses: u32,
    /// How long it can be used, at most 365d
    #[arg(long, default_value = "1d", value_name = "TIME", value_parser = time)]
    ttl: Duration,
    /// Names that it allows, * standing for any text
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "",
        hide_default_value = true
    )]
    name_pattern: String,
    /// Label that hosts enrolled with it get; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair, conflicts_with = "operator")]
    labels: Vec<(String, String)>,
    /// Write the token to this file, readable by its owner alone, in place of showing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Lists the tokens that can still be used, without their secrets.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber token list")]
pub(crate) struct ListArgs {}

/// Ends a token at once. Hosts that enrolled with it stay.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber token revoke 3f2a9c01b7de")]
pub(crate) struct RevokeArgs {
    /// As in the list
    #[arg(value_name = "TOKEN")]
    id: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Does what was asked.
pub(crate) async fn run(command: TokenCommand, session: &Session) -> Outcome<()> {
    match command {
        TokenCommand::Create(args) => create(args, session).await,
        TokenCommand::List(ListArgs {}) => list(session).await,
        TokenCommand::Revoke(args) => revoke(args, session).await,
    }
}

async fn create(args: CreateArgs, session: &Session) -> Outcome<()> {
    let doing = "make a token";
    let client = session.client().await?;
    let kind = if args.operator {
        IdentityKind::Operator
    } else {
        IdentityKind::Host
    };
    let request = CreateTokenRequest {
        kind: kind.into(),
        uses: args.uses,
        ttl: Some(to_span(args.ttl)),
        name_pattern: args.name_pattern,
        labels: args.labels.into_iter().collect::<HashMap<_, _>>(),
    };
    let answer = client.answered(doing, client.enrolment().create_token(request).await)?;
    let record = promised(doing, answer.record)?;
    let screen = &session.screen;
    let shown = match &args.out {
        Some(path) => {
            let text = format!("{}\n", answer.token);
            fsx::write_atomic(path, text.as_bytes(), 0o600).map_err(|error| {
                CliError::configuration("the token was made but cannot be written")
                    .caused_by(&error)
                    .hint(format!("end it: comber token revoke {}", record.id))
            })?;
            None
        }
        None => Some(answer.token),
    };
    if screen.is_json() {
        return screen.print_json(&json::NewToken::new(shown, &record));
    }
    screen.note(&render::token_note(
        &screen.error_view(),
        client.address(),
        &record,
    ));
    match (shown, &args.out) {
        (Some(token), _) => screen.print(&format!("{token}\n")),
        (None, Some(path)) => screen.print(&format!("wrote the token to {}\n", path.display())),
        (None, None) => Ok(()),
    }
}

async fn list(session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let answer = client.enrolment().list_tokens(ListTokensRequest {}).await;
    let tokens = client.answered("list tokens", answer)?.tokens;
    session.screen.show(
        || json::Tokens::new(&tokens),
        |view| render::tokens(view, &tokens),
    )
}

async fn revoke(args: RevokeArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    session
        .screen
        .confirm(args.confirm.yes, &format!("End the token {}?", args.id))?;
    let request = RevokeTokenRequest {
        id: args.id.clone(),
    };
    client.answered(
        "revoke the token",
        client.enrolment().revoke_token(request).await,
    )?;
    session.screen.show(
        || Revoked { revoked: &args.id },
        |_| format!("token {} enrols nobody any more\n", args.id),
    )
}

#[derive(Debug, Serialize)]
struct Revoked<'a> {
    revoked: &'a str,
}
