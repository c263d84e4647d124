//! Messages to text: tables and sentences for people, JSON for programs.
//!
//! Pure: width, colour and the present moment come in with the [`View`]. Invariant: without colour nothing is lost, and
//! no line of a table is wider than the view where the view has a width.

mod budget;
mod context;
mod error;
mod event;
mod freeze;
mod host;
pub(crate) mod json;
mod outcomes;
mod packages;
mod plan;
mod release;
mod repository;
mod rollout;
mod summary;
mod table;
mod text;
mod time;
mod token;
mod watch;
mod why;

pub(crate) use budget::{budget, budget_set, budgets};
pub(crate) use context::contexts;
pub(crate) use error::error;
pub(crate) use event::{event_line, events};
pub(crate) use freeze::{freeze_added, freezes};
pub(crate) use host::{host, hosts, members};
pub(crate) use packages::packages;
pub(crate) use plan::plan;
pub(crate) use release::{built, published, release, releases};
pub(crate) use repository::{public_half, repository};
pub(crate) use rollout::{fence, rollout, rollouts, status, steered};
pub(crate) use summary::{Summary, summary};
pub(crate) use text::{bytes, hex};
pub(crate) use time::{at, instant};
pub(crate) use token::{token_note, tokens};
pub(crate) use watch::{Frame, frame, outcome_line};
pub(crate) use why::{why_host, why_rollout};

use jiff::Timestamp;

/// What a renderer needs to know of where its text goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// Columns; absent where nothing limits them, as in a pipe.
    pub(crate) width: Option<usize>,
    /// Whether colour is wanted.
    pub(crate) color: bool,
    /// For relative times.
    pub(crate) now: Timestamp,
}

/// What a piece of text means; how that looks is decided here alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Paint {
    /// Nothing in particular.
    #[default]
    Plain,
    /// What the eye shall find first.
    Strong,
    /// Beside the point.
    Faint,
    /// As it should be.
    Good,
    /// Not wrong, and not done.
    Notice,
    /// Wrong.
    Bad,
}

impl View {
    /// `text` as it looks; the escape codes are added last so that they never count as width.
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Plain => return text.to_owned(),
            Paint::Strong => "1",
            Paint::Faint => "2",
            Paint::Good => "32",
            Paint::Notice => "33",
            Paint::Bad => "31",
        };
        if self.color && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
