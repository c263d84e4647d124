//! `comber operator create|list|show|revoke|token`: who may do what.
//!
//! Invariant: a token's text is written exactly once, to standard output or to a file of mode 0600.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use comber_model::wire::time::to_span;
use comber_proto::access::v1::{
    CreateOperatorRequest, CreateOperatorTokenRequest, GetOperatorRequest, Grant,
    ListOperatorsRequest, OperatorToken, RevokeOperatorRequest, RevokeOperatorTokenRequest,
};
use comber_proto::enrolment::v1::{CreateTokenRequest, IdentityKind};
use comber_runtime::fsx;
use serde::Serialize;

use super::promised;
use crate::args::{Confirm, time};
use crate::client::Client;
use crate::error::{CliError, Outcome};
use crate::render::{self, json};
use crate::session::Session;

/// Makes, lists, shows and revokes operators, and their tokens. A role can be held over some hosts only:
/// operator='labels.team == "web"'.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  comber operator create anna --role 'operator=labels.team == \"web\"' --out anna.token")]
pub(crate) enum OperatorCommand {
    /// Make an operator, with a token for its enrolment
    Create(CreateArgs),
    /// List operators
    List(ListArgs),
    /// Show an operator, or who you are
    Show(ShowArgs),
    /// End all that proves an operator
    Revoke(RevokeArgs),
    /// Make and revoke bearer tokens, for programs
    #[command(subcommand)]
    Token(TokenCommand),
}

/// Makes an operator, and a token that enrols it once within a day: `comber init` on its own machine turns that into a
/// certificate. For a program, give --no-enrolment and make a bearer token.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber operator create anna --role operator --role approver --group ops-lead --out anna.token
  comber operator create web-team --role 'operator=labels.team == \"web\"' --out web.token
  comber operator create ci --role publisher --no-enrolment
  comber operator create anna --role viewer --replace")]
pub(crate) struct CreateArgs {
    /// What to call it
    #[arg(value_name = "NAME")]
    name: String,
    /// viewer, operator, approver, publisher or admin; operator and approver can be held over some hosts:
    /// ROLE=SELECTOR; may be repeated
    #[arg(long = "role", value_name = "ROLE[=SELECTOR]", required = true, value_parser = grant)]
    roles: Vec<Grant>,
    /// What approvals call it, beside its roles; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// How long it may do that; until it is revoked where absent
    #[arg(long, value_name = "TIME", value_parser = time)]
    ttl: Option<Duration>,
    /// Change the roles, groups and end of one that is there, and make no token
    #[arg(long)]
    replace: bool,
    /// Make no token for its enrolment
    #[arg(long)]
    no_enrolment: bool,
    /// Write the token to this file, readable by its owner alone, in place of showing it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replace", "no_enrolment"])]
    out: Option<PathBuf>,
}

/// Lists operators by name, revoked ones among them.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber operator list")]
pub(crate) struct ListArgs {}

/// Shows an operator with its tokens; without a name, whom this context proves.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber operator show
  comber operator show anna")]
pub(crate) struct ShowArgs {
    /// As in the list
    #[arg(value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,
}

/// Revokes an operator: its certificates and tokens prove nobody from the moment the command returns, and what it
/// watches ends.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber operator revoke anna")]
pub(crate) struct RevokeArgs {
    /// As in the list
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Makes and revokes bearer tokens. `comber operator show NAME` lists them.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  comber operator token create ci --ttl 90d --purpose pipeline --out ci.token")]
pub(crate) enum TokenCommand {
    /// Make a bearer token
    Create(TokenCreateArgs),
    /// End a bearer token at once
    Revoke(TokenRevokeArgs),
}

/// Makes a bearer token. Its text is shown once: alone on standard output, so that a script can take it. Whoever has it
/// is the operator, until it ends or is revoked: comber init --token-file FILE makes a context of it.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber operator token create ci --ttl 90d --purpose pipeline --out ci.token")]
pub(crate) struct TokenCreateArgs {
    /// Whom it proves
    #[arg(value_name = "NAME")]
    name: String,
    /// How long it lives, at most 365d
    #[arg(long, default_value = "90d", value_name = "TIME", value_parser = time)]
    ttl: Duration,
    /// What it is for
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    purpose: String,
    /// Write the token to this file, readable by its owner alone, in place of showing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Ends a bearer token at once.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber operator token revoke ci 3f2a9c01b7de")]
pub(crate) struct TokenRevokeArgs {
    /// Whose
    #[arg(value_name = "NAME")]
    name: String,
    /// Which, as `comber operator show` names it
    #[arg(value_name = "TOKEN")]
    id: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Does what was asked.
pub(crate) async fn run(command: OperatorCommand, session: &Session) -> Outcome<()> {
    match command {
        OperatorCommand::Create(args) => create(args, session).await,
        OperatorCommand::List(ListArgs {}) => list(session).await,
        OperatorCommand::Show(args) => show(args, session).await,
        OperatorCommand::Revoke(args) => revoke(args, session).await,
        OperatorCommand::Token(TokenCommand::Create(args)) => create_token(args, session).await,
        OperatorCommand::Token(TokenCommand::Revoke(args)) => revoke_token(args, session).await,
    }
}

/// `role` or `role=selector`.
fn grant(text: &str) -> Result<Grant, String> {
    let (role, selector) = text.split_once('=').unwrap_or((text, ""));
    if role.len() < text.len() && selector.trim().is_empty() {
        return Err("has no selector behind the =".to_owned());
    }
    role.parse::<comber_model::access::Role>()
        .map_err(|error| error.problem)?;
    Ok(Grant {
        role: role.to_owned(),
        selector: selector.trim().to_owned(),
    })
}

async fn create(args: CreateArgs, session: &Session) -> Outcome<()> {
    let doing = "make the operator";
    let client = session.client().await?;
    let request = CreateOperatorRequest {
        name: args.name.clone(),
        grants: args.roles,
        groups: args.groups,
        ttl: args.ttl.map(to_span),
        replace: args.replace,
    };
    let answer = client.answered(doing, client.access().create_operator(request).await)?;
    let operator = promised(doing, answer.operator)?;
    let token = if args.replace || args.no_enrolment {
        None
    } else {
        Some(enrolment_token(&client, &args.name).await?)
    };
    let shown = write(args.out.as_deref(), token, || {
        format!(
            "make another: comber token create --operator --name-pattern {}",
            args.name
        )
    })?;
    let screen = &session.screen;
    if screen.is_json() {
        return screen.print_json(&json::NewOperator::new(&operator, shown));
    }
    screen.note(&render::operator_note(
        &screen.error_view(),
        client.address(),
        &operator,
    ));
    match (shown, &args.out) {
        (Some(token), _) => screen.print(&format!("{token}\n")),
        (None, Some(path)) => screen.print(&format!("wrote the token to {}\n", path.display())),
        (None, None) => Ok(()),
    }
}

/// A token that enrols this operator once.
async fn enrolment_token(client: &Client, name: &str) -> Outcome<String> {
    let request = CreateTokenRequest {
        kind: IdentityKind::Operator.into(),
        name_pattern: name.to_owned(),
        ..CreateTokenRequest::default()
    };
    let answer = client.enrolment().create_token(request).await;
    Ok(client
        .answered("make a token for its enrolment", answer)?
        .token)
}

/// Writes a token to its file; gives it back where it is to be shown.
fn write(
    out: Option<&Path>,
    token: Option<String>,
    remedy: impl FnOnce() -> String,
) -> Outcome<Option<String>> {
    let (Some(path), Some(token)) = (out, &token) else {
        return Ok(token);
    };
    let text = format!("{token}\n");
    fsx::write_atomic(path, text.as_bytes(), 0o600).map_err(|error| {
        CliError::configuration("the token was made but cannot be written")
            .caused_by(&error)
            .hint(remedy())
    })?;
    Ok(None)
}

async fn list(session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let answer = client
        .access()
        .list_operators(ListOperatorsRequest {})
        .await;
    let operators = client.answered("list operators", answer)?.operators;
    session.screen.show(
        || json::Operators::new(&operators),
        |view| render::operators(view, &operators),
    )
}

async fn show(args: ShowArgs, session: &Session) -> Outcome<()> {
    let doing = "show the operator";
    let client = session.client().await?;
    let request = GetOperatorRequest { name: args.name };
    let answer = client.answered(doing, client.access().get_operator(request).await)?;
    let operator = promised(doing, answer.operator)?;
    session.screen.show(
        || json::Operator::from(&operator),
        |view| render::operator(view, &operator),
    )
}

async fn revoke(args: RevokeArgs, session: &Session) -> Outcome<()> {
    let doing = "revoke the operator";
    let client = session.client().await?;
    let question = format!("End all that proves {}?", args.name);
    session.screen.confirm(args.confirm.yes, &question)?;
    let request = RevokeOperatorRequest { name: args.name };
    let answer = client.answered(doing, client.access().revoke_operator(request).await)?;
    let operator = promised(doing, answer.operator)?;
    session.screen.show(
        || json::Operator::from(&operator),
        |_| format!("operator {} may do nothing any more\n", operator.name),
    )
}

async fn create_token(args: TokenCreateArgs, session: &Session) -> Outcome<()> {
    let doing = "make a token";
    let client = session.client().await?;
    let request = CreateOperatorTokenRequest {
        name: args.name.clone(),
        ttl: Some(to_span(args.ttl)),
        purpose: args.purpose,
    };
    let answer = client.answered(doing, client.access().create_operator_token(request).await)?;
    let record: OperatorToken = promised(doing, answer.record)?;
    let shown = write(args.out.as_deref(), Some(answer.token), || {
        format!(
            "end it: comber operator token revoke {} {}",
            args.name, record.id
        )
    })?;
    let screen = &session.screen;
    if screen.is_json() {
        return screen.print_json(&json::NewOperatorToken::new(shown, &record));
    }
    screen.note(&render::operator_token_note(
        &screen.error_view(),
        &args.name,
        &record,
    ));
    match (shown, &args.out) {
        (Some(token), _) => screen.print(&format!("{token}\n")),
        (None, Some(path)) => screen.print(&format!("wrote the token to {}\n", path.display())),
        (None, None) => Ok(()),
    }
}

async fn revoke_token(args: TokenRevokeArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let question = format!("End the token {} of {}?", args.id, args.name);
    session.screen.confirm(args.confirm.yes, &question)?;
    let request = RevokeOperatorTokenRequest {
        name: args.name,
        id: args.id.clone(),
    };
    let answer = client.access().revoke_operator_token(request).await;
    client.answered("revoke the token", answer)?;
    session.screen.show(
        || Revoked { revoked: &args.id },
        |_| format!("token {} proves nobody any more\n", args.id),
    )
}

#[derive(Debug, Serialize)]
struct Revoked<'a> {
    revoked: &'a str,
}
