//! How the agent replaces itself, with a watcher that needs nothing of the new one.
//!
//! ```text
//!   package   /usr/bin/comber-agent            never replaced by an update: the launcher, and the watcher
//!   shelf     shelves/comber-agent/current/    the agent that was updated to, while it is newer than the package
//!
//!   old agent ── order ──> watcher ── stops the old, switches the link, starts the new ──> new agent
//!       ^                     │ deadline, or it ends again and again             decides │ linked long enough,
//!       └──── switches back ──┴───────────<── decided: kept, or restore ──<──────────────┘ checks passed
//! ```
//!
//! Everything is in `<state>/update/`, one file for each writer: `order.json` by the agent that begins, `progress.json` by
//! the watcher, and `decided.json` by whoever comes first: it is made by a link that fails where there is one, so an
//! update is either kept or taken back and both sides read the same. Any of the processes may be killed at any instant,
//! all of them by a power cut: the watcher goes on from order, progress, decision and the link on the shelf.
//! Invariant: an agent holds the lock of the state directory, and the watcher switches the link only while nobody does.

mod files;
pub(crate) mod itself;
pub(crate) mod launch;
mod service;
pub(crate) mod watch;

pub use comber_model::order::is_newer;
pub use files::{
    Child, Decision, FORM, Order, Phase, Progress, Proof, Seen, Side, UpdateError, UpdateFiles,
};
pub use itself::Itself;
pub use launch::LaunchError;
pub use service::{ServiceError, ServiceKind, WATCH_UNIT};
pub use watch::WatchError;
