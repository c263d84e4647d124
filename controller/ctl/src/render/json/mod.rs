//! The JSON of every result: stable shapes, described in `docs/cli.md`.
//!
//! Pure. Fields are only ever added. Invariant: times are RFC 3339 in UTC, ids are strings, words are those of the wire,
//! and a thing that is absent is `null` or left out as the shape says, never a made-up value.

mod budget;
mod event;
mod explain;
mod freeze;
mod host;
mod packages;
mod release;
mod repository;
mod rollout;
mod token;

pub(crate) use budget::{Budget, BudgetDetail, Budgets, Lock};
pub(crate) use event::Event;
pub(crate) use explain::{HostExplanation, RolloutExplanation};
pub(crate) use freeze::{AddedFreeze, Freeze, Freezes};
pub(crate) use host::{Changed, Host, HostDetail, Hosts};
pub(crate) use packages::HostPackages;
pub(crate) use release::{Built, Published, Release, Releases};
pub(crate) use repository::Repository;
pub(crate) use rollout::{Fence, Members, Plan, Rollout, Rollouts, Status, Summary};
pub(crate) use token::{NewToken, Tokens};

use serde::Serialize;

use super::time;

/// A context, without its secrets.
#[derive(Debug, Serialize)]
pub(crate) struct Context {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is the one in use.
    pub(crate) current: bool,
    /// `https://host:port`.
    pub(crate) controller: String,
    /// The operator there.
    pub(crate) operator: String,
    /// When the operator's certificate ends; `null` where it cannot be read.
    pub(crate) certificate_ends: Option<String>,
}

/// All contexts.
#[derive(Debug, Serialize)]
pub(crate) struct Contexts {
    /// By name.
    pub(crate) contexts: Vec<Context>,
}

/// One line of `rollout watch`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum WatchLine {
    /// The rollout changed.
    Rollout {
        /// As it is now.
        rollout: Box<Rollout>,
    },
    /// Something happened.
    Event {
        /// What.
        event: Box<Event>,
    },
    /// The connection was lost or is back.
    Connection {
        /// Whether it is there.
        connected: bool,
        /// Why not; empty where it is.
        cause: String,
    },
    /// How it ended; the last line.
    Summary {
        /// The whole of it.
        summary: Box<Summary>,
    },
}

/// A moment from the wire.
fn moment(wire: Option<prost_types::Timestamp>) -> Option<String> {
    time::at(wire).map(time::instant)
}

/// Absent where the wire leaves a text empty.
fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
