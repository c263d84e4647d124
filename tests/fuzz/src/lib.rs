//! Every parser of remote bytes, as a function that takes any bytes and must neither panic nor hang nor grow.
//!
//! ```text
//!   corpus/TARGET/*       seeds, made from real files     ─┐
//!   regressions/TARGET/*  what was found once             ─┼─▶ Target::run ◀── cargo test (each file once)
//!   engine/ (libFuzzer, not a member of the workspace)    ─┘                 ◀── tests/fuzz/fuzz.sh TARGET SECONDS
//! ```
//!
//! A target also asserts what must hold of a value that was accepted: that it is still valid when written and read again,
//! and within its bounds. Nothing here touches the network, and no file but the temporary ones
//! from which `metadata` makes its first repository.

mod archive;
mod calendars;
mod edges;
pub mod metadata;
mod records;
mod texts;
mod wires;

use std::fmt;

/// One parser.
pub struct Target {
    /// Its name, and that of its directories.
    pub name: &'static str,
    /// The longest input that is worth trying: a little above what the parser takes, where that is small.
    pub longest: usize,
    /// Parses; asserts what must hold of what was accepted.
    pub run: fn(&[u8]),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.name)
    }
}

const fn target(name: &'static str, longest: usize, run: fn(&[u8])) -> Target {
    Target { name, longest, run }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("bundle", 16 << 10, archive::bundle),
    target("calendar", 8 << 10, calendars::calendar),
    target("facts", 4 << 10, wires::facts),
    target("keys", 1024, edges::keys),
    target("ledger", 8 << 10, records::ledger),
    target("listing", 8 << 10, archive::listing),
    target("manifest", 8 << 10, texts::manifest),
    target("metadata", 8 << 10, metadata::metadata),
    target("module", 64, edges::module),
    target("names", 512, texts::names),
    target("packages", 4 << 10, texts::packages),
    target("range", 256, edges::range),
    target("rollout", 8 << 10, texts::rollout),
    target("selector", 4200, texts::selector),
    target("window", 512, calendars::window),
    target("wire", 4 << 10, wires::agent),
];

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
