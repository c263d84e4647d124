//! The Comber agent: brings one host to what its controller wants, and back where that fails.
//!
//! ```text
//!   link ── FromLink ──> driver ── step ──> machine (pure)     driver ── save ──> ledger (ledger.json)
//!   link <── HostStatus ──┘ │ ▲
//!                           ▼ │ events
//!                         hands ──> Effects: fetch, install, checks, reboot
//! ```
//!
//! One task owns the ledger and all of the host's changes ([`driver`]); it hears the link by a bounded channel and
//! shows the actual state by a watch channel. Decisions are made in `comber-machine`; this crate acts.

pub mod boot;
pub mod driver;
pub mod effects;
mod hands;
pub mod ledger;

pub use driver::{Driver, FromLink, Handle, Parts};
pub use effects::{Activated, Effects, Verdict};
pub use ledger::LedgerFile;
