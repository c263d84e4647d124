//! The Comber agent.

pub mod cli;
pub mod config;
pub mod effects;
pub mod enrol;
pub mod exec;
pub mod exit;
pub mod facts;
pub mod facts_watch;
pub mod feed;
pub mod fetch;
pub mod hands;
pub mod health;
pub mod identity;
pub mod install;
pub mod link;
pub mod lock;
pub mod manager;
pub mod preflight;
pub mod reboot;
pub mod renew;
pub mod status;
pub mod surroundings;
#[cfg(test)]
mod testing;
pub mod trust;

pub use effects::{Activated, Effects, Verdict};
