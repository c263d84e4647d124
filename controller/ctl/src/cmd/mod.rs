//! The commands, one file each: ask the controller, show the answer.
//!
//! Invariant: a command that changes something says in its result what it changed.

pub(crate) mod budget;
pub(crate) mod certificate;
pub(crate) mod completion;
pub(crate) mod context;
pub(crate) mod events;
pub(crate) mod freeze;
pub(crate) mod help;
pub(crate) mod host;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod release;
pub(crate) mod repo;
pub(crate) mod rollout;
pub(crate) mod token;
pub(crate) mod version;
pub(crate) mod why;

use crate::error::{CliError, Outcome};
use crate::exit::Exit;

/// A message that the protocol promises; without it the controller is of another version.
pub(crate) fn promised<T>(doing: &str, message: Option<T>) -> Outcome<T> {
    message.ok_or_else(|| {
        CliError::new(
            Exit::Failed,
            format!("cannot {doing}: the controller's answer is incomplete"),
        )
        .hint("is it of another version? compare with: comber version")
    })
}
