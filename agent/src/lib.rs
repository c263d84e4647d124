//! The Comber agent: brings one host to what its controller wants, and back where that fails.
//!
//! ```text
//!   controller <──stream──> link ── LinkView ──> feed ── FromLink ──> driver ── step ──> machine (pure)
//!                            ▲ ▲                                       │ │ │ save ─────> ledger (ledger.json)
//!              facts_watch ──┘ └───────────── HostStatus ──────────────┘ │ ▲ events
//!   renew ──> identity ──> link, fetch                                   ▼ │
//!                                          hands ──> host_effects: fetch, trust, install, health, reboot
//! ```
//!
//! One task owns the ledger and all of the host's changes ([`driver`]); the others hold the link, the certificate, the
//! facts, the service manager and the socket of the subcommands ([`local`]), and every channel between them is bounded or holds the newest only. Decisions are
//! made in `comber-machine`; this crate acts. `app` is the one place that puts it together.

pub mod app;
pub mod before;
pub mod cli;
pub mod config;
pub mod driver;
pub mod effects;
pub mod enrol;
pub mod exec;
pub mod exit;
pub mod facts;
pub mod facts_watch;
pub mod feed;
pub mod fetch;
pub mod first_boot;
mod hands;
pub mod health;
pub mod history;
pub mod host_effects;
pub mod identity;
pub mod install;
pub mod ledger;
pub mod leftovers;
pub mod link;
pub mod local;
pub mod lock;
pub mod manager;
pub mod packages;
pub mod preflight;
pub mod reboot;
pub mod renew;
pub mod service;
pub mod status;
pub mod surroundings;
pub mod systemd;
#[cfg(test)]
mod testing;
pub mod trust;
pub mod trusted;
pub mod update;

pub use driver::{Driver, FromLink, Handle, Parts};
pub use effects::{Activated, Effects, Noted, Verdict};
pub use ledger::LedgerFile;
