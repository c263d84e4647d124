//! `comber init`: a token becomes an operator's identity and a context; a bearer token becomes a context as it is.
//!
//! Touches the configuration directory and, without an identity yet, the controller. Invariant: the controller is
//! believed only when its CA is the one that the token names, and the private key never leaves this machine.

use std::path::PathBuf;

use clap::Args;
use comber_proto::access::v1::GetOperatorRequest;
use comber_proto::enrolment::v1::{EnrolRequest, IdentityKind};
use comber_runtime::bearer::{self, BearerToken};
use comber_runtime::fsx;
use comber_runtime::identity::{Identity, PrivateKey, make_csr};
use comber_runtime::peer::PeerIdentity;
use comber_runtime::tls;
use comber_runtime::token::Token;
use serde::Serialize;

use crate::client::Client;
use crate::context::{self, Contexts, Entry};
use crate::error::{CliError, Outcome, failed};
use crate::render;
use crate::session::Session;

/// A token is one line.
const TOKEN_FILE_MAX: u64 = 4096;

/// Enrols as an operator: makes a key here, gets a certificate for it, and keeps both as a context.
///
/// The token comes from an admin (comber operator create) or, for the first one, from the controller's own command.
/// Running it again with a new token replaces an identity that is over. With an operator's bearer token (comber operator
/// token create) the context holds that token in place of a key and certificate.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber init --controller https://comber.example:7443 --token-file token
  comber init --token-file token")]
pub(crate) struct InitArgs {
    /// Address of the controller; may be left out to enrol again in a context that exists
    #[arg(long, value_name = "URL")]
    controller: Option<String>,
    /// The token itself; other users of this machine may see it in the list of processes
    #[arg(
        long,
        value_name = "TOKEN",
        required_unless_present = "token_file",
        conflicts_with = "token_file"
    )]
    token: Option<String>,
    /// File that holds the token; - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// What you are to be called in events
    #[arg(long, env = "USER", hide_env_values = true, default_value = "operator")]
    name: String,
}

/// Enrols and saves.
pub(crate) async fn run(args: InitArgs, session: &Session) -> Outcome<()> {
    let text = read_token(&args)?;
    if text.trim().starts_with(bearer::PREFIX) {
        return bear(&args, &text, session).await;
    }
    let token: Token = text
        .parse()
        .map_err(|error: comber_runtime::token::InvalidToken| unusable(&error))?;
    let mut contexts = session.contexts()?;
    let name = session.context.as_deref().unwrap_or(context::DEFAULT);
    context::check_name(name)?;
    let (url, controller) = context::address(&controller_of(&args, &contexts, name)?)?;
    let config = tls::enrolment_client(token.pin(), &session.clock)
        .map_err(|error| failed("cannot set up TLS")(&error))?;
    let client = Client::connect(&url, &config, session.patience, &session.screen).await?;
    let identity = enrol(&client, &token, &args.name).await?;
    let operator = match identity
        .facts()
        .uris
        .first()
        .and_then(|uri| uri.parse().ok())
    {
        Some(PeerIdentity::Operator(operator)) => operator,
        Some(PeerIdentity::Host(_)) | None => args.name,
    };
    let ends = identity.facts().not_after;
    let entry = Entry {
        controller,
        operator,
    };
    contexts.add(name, entry.clone(), &identity)?;
    let done = Done {
        context: name,
        controller: &entry.controller,
        operator: &entry.operator,
        certificate_ends: Some(render::instant(ends)),
    };
    session.screen.show(
        || &done,
        |_| {
            format!(
                "enrolled as {} at {} (context {name})\n\nnext:\n  comber token create --uses 10\n  comber host list\n",
                entry.operator, entry.controller
            )
        },
    )
}

#[derive(Debug, Serialize)]
struct Done<'a> {
    context: &'a str,
    controller: &'a str,
    operator: &'a str,
    /// `null` where a token proves the operator.
    certificate_ends: Option<String>,
}

fn controller_of(args: &InitArgs, contexts: &Contexts, name: &str) -> Outcome<String> {
    let known = contexts.get(name).map(|context| context.entry.controller);
    let Some(given) = &args.controller else {
        return known.ok_or_else(|| {
            CliError::usage("which controller?").hint("give --controller https://HOST:7443")
        });
    };
    let (_, given) = context::address(given)?;
    match known {
        Some(known) if known != given => Err(CliError::usage(format!(
            "the context {name:?} is for another controller, {known}"
        ))
        .hint("give the new one a name of its own: --context NAME")),
        Some(_) | None => Ok(given),
    }
}

fn unusable(error: &dyn std::fmt::Display) -> CliError {
    CliError::usage("the token cannot be used").because(error.to_string())
}

/// Makes a context of an operator's token, once the controller has told whom it proves.
async fn bear(args: &InitArgs, text: &str, session: &Session) -> Outcome<()> {
    let doing = "use the operator's token";
    let token: BearerToken = text
        .parse()
        .map_err(|error: bearer::InvalidBearer| unusable(&error))?;
    let mut contexts = session.contexts()?;
    let name = session.context.as_deref().unwrap_or(context::DEFAULT);
    context::check_name(name)?;
    let (url, controller) = context::address(&controller_of(args, &contexts, name)?)?;
    let client = session.with_token(&url, &token).await?;
    let request = GetOperatorRequest::default();
    let answer = client.answered(doing, client.access().get_operator(request).await)?;
    let operator = super::promised(doing, answer.operator)?.name;
    let entry = Entry {
        controller,
        operator,
    };
    contexts.add_token(name, entry.clone(), &token)?;
    let done = Done {
        context: name,
        controller: &entry.controller,
        operator: &entry.operator,
        certificate_ends: None,
    };
    session.screen.show(
        || &done,
        |_| {
            format!(
                "{} at {} by a token (context {name})\n",
                entry.operator, entry.controller
            )
        },
    )
}

fn read_token(args: &InitArgs) -> Outcome<String> {
    match (&args.token, &args.token_file) {
        (Some(token), _) => Ok(token.clone()),
        (None, Some(path)) if path.as_os_str() == "-" => Ok(crate::toml_file::read(path)?.0),
        (None, Some(path)) => {
            let bytes = fsx::read_limited(path, TOKEN_FILE_MAX).map_err(|error| {
                CliError::configuration("cannot read the token").caused_by(&error)
            })?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        (None, None) => Ok(String::new()),
    }
}

async fn enrol(client: &Client, token: &Token, name: &str) -> Outcome<Identity> {
    let doing = "enrol";
    let cannot = || failed(format!("cannot {doing}"));
    let key = PrivateKey::generate().map_err(|error| cannot()(&error))?;
    let request = EnrolRequest {
        secret: token.secret().to_vec(),
        name: name.to_owned(),
        kind: IdentityKind::Operator.into(),
        signing_request: make_csr(&key, name).map_err(|error| cannot()(&error))?,
    };
    let answer = client.answered(doing, client.enrolment().enrol(request).await);
    let answer = answer.map_err(|mut error| {
        // "Enrol again" is no help to somebody who is just doing that.
        error
            .hints
            .retain(|hint| hint != crate::status::ENROL_AGAIN);
        match error.exit {
            crate::exit::Exit::NotPermitted => {
                error.hint("an admin makes the operator and its token with: comber operator create")
            }
            _ => error,
        }
    })?;
    Identity::new(key, answer.certificate_chain, answer.ca).map_err(|error| cannot()(&error))
}
