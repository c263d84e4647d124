//! A gRPC status in words: what failed, why, and what a person can do about it.
//!
//! Pure. Invariant: every code has words of its own or says that the controller's log knows more.

use std::error::Error as _;

use comber_runtime::tls::explain;
use tonic::{Code, Status};

use crate::error::CliError;
use crate::exit::Exit;

/// What `doing` (for example `list hosts`) came to at the controller at `address`.
pub(crate) fn in_words(doing: &str, address: &str, status: &Status) -> CliError {
    if is_connection(status) {
        return unreachable(doing, address, &transport_cause(status));
    }
    let error = |exit| CliError::new(exit, format!("cannot {doing}"));
    let told = error(exit_of(status.code()));
    let told = message_lines(status)
        .into_iter()
        .fold(told, CliError::because);
    match status.code() {
        Code::Unauthenticated => told.hint(ENROL_AGAIN),
        Code::PermissionDenied => {
            told.hint("see who you are and what you may do with: comber operator show")
        }
        Code::Unimplemented => told.hint(format!(
            "the controller at {address} does not know this call: it is of another version, compare with: comber version"
        )),
        Code::DeadlineExceeded => {
            told.hint(format!("the controller at {address} is slow to answer; try again"))
        }
        Code::Unknown | Code::Internal | Code::DataLoss => {
            told.hint("the controller's log says more: journalctl -u comber-controller")
        }
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable => told,
    }
}

/// How an operator comes back whose certificate is no longer accepted.
pub(crate) const ENROL_AGAIN: &str = "enrol again: comber init --token-file FILE, with a token that an admin makes with: comber token create --operator";

/// No connection to `address`, or it broke.
pub(crate) fn unreachable(doing: &str, address: &str, cause: &str) -> CliError {
    // `explain` puts a remedy that it knows behind the first semicolon.
    let (cause, remedy) = match cause.split_once("; ") {
        Some((cause, remedy)) => (cause, Some(remedy)),
        None => (cause, None),
    };
    // The layers in between tell a person nothing.
    let cause = ["no gRPC channel: ", "transport error: "]
        .iter()
        .fold(cause, |cause, layer| {
            cause.strip_prefix(layer).unwrap_or(cause)
        });
    let error = CliError::new(
        Exit::Unavailable,
        format!("cannot {doing}: no connection to the controller at {address}"),
    )
    .because(cause);
    let error = match remedy {
        Some(remedy) => error.hint(remedy),
        None => error,
    };
    error.hint(
        "on its host: systemctl status comber-controller; another address: comber context list",
    )
}

/// True where the connection failed rather than the call: worth trying again.
pub(crate) fn is_connection(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        // What a controller answers has no source; what hyper and h2 report about a broken connection has one.
        Code::Unknown | Code::Internal | Code::Cancelled => status.source().is_some(),
        _ => false,
    }
}

/// The causes of a broken connection in one line; the message alone where there is no more.
pub(crate) fn transport_cause(status: &Status) -> String {
    match status.source() {
        Some(source) => explain(source),
        None if status.message().is_empty() => "the connection ended".to_owned(),
        None => status.message().to_owned(),
    }
}

fn exit_of(code: Code) -> Exit {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::Aborted => Exit::Refused,
        Code::Unauthenticated | Code::PermissionDenied => Exit::NotPermitted,
        Code::Unavailable | Code::DeadlineExceeded => Exit::Unavailable,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => Exit::Failed,
    }
}

/// The controller puts each wrong field on a line of its own.
fn message_lines(status: &Status) -> Vec<String> {
    let lines: Vec<String> = status
        .message()
        .lines()
        .map(|line| line.trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return vec![status.code().description().to_lowercase()];
    }
    lines
}
