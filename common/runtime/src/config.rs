//! Configuration: TOML fragments of vendor, runtime and administrator, merged and read into checked settings.
//!
//! ```text
//!   fragments (files, flags) ──merge──> one tree, each value with its origin ──Settings::read──> settings
//!   /usr/lib/comber/X.d < /run/comber/X.d < /etc/comber/X.toml < /etc/comber/X.d < --config < flags
//! ```
//!
//! Tables merge key by key; any other value, lists too, replaces the earlier one whole. Reading goes on after a mistake,
//! so that `check-config` tells all of them at once, each with its file, its key and what is allowed.
//! Invariant: settings come out only when nothing at all was wrong.

mod nested;
mod problem;
mod section;
mod sources;
mod tree;
mod value;

use std::fmt::{self, Write};

pub use problem::{ConfigError, Problem};
pub use section::{Section, Settings};
pub use sources::Sources;
pub use value::{ConfigValue, Size};

use section::Report;

/// Settings with where each of them comes from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// What the process uses.
    pub settings: T,
    shown: Vec<Shown>,
}

/// One effective setting, as `show-config` prints it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Shown {
    key: String,
    /// In TOML; `None` when it is not set and has no default.
    value: Option<String>,
    origin: String,
}

/// Reads, merges and checks all fragments. Used by the start of a process, by `check-config` and by `show-config`.
pub fn load<T: Settings>(sources: &Sources) -> Result<Loaded<T>, ConfigError> {
    let (tree, problems) = sources.merge();
    let mut report = Report::new(problems);
    let settings = Section::root(&tree, &mut report).read_all::<T>();
    match (settings, report.problems.is_empty()) {
        (Some(settings), true) => Ok(Loaded {
            settings,
            shown: report.shown,
        }),
        (_, _) => Err(ConfigError::new(report.problems)),
    }
}

/// The text of one setting, whatever is wrong with all the others; `None` where it is not set, or no text.
///
/// For a program that must find its way with a configuration which only a newer one understands.
pub fn peek(sources: &Sources, key: &str) -> Option<String> {
    let (tree, _) = sources.merge();
    match tree.get(key)? {
        tree::Node::Value(toml::Value::String(text), _) => Some(text.clone()),
        tree::Node::Value(..) | tree::Node::Table(_) => None,
    }
}

/// All effective settings as TOML, one a line with its origin behind; what is printed loads again to the same settings.
impl<T> fmt::Display for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = String::new();
        for Shown { key, value, origin } in &self.shown {
            match value {
                Some(value) => writeln!(lines, "{key} = {value}  # {origin}")?,
                None => writeln!(lines, "# {key} is not set")?,
            }
        }
        f.write_str(&lines)
    }
}

#[cfg(test)]
mod tests;
