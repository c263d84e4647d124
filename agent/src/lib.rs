//! The Comber agent.

pub mod cli;
pub mod config;
pub mod effects;
pub mod enrol;
pub mod exit;
pub mod facts_watch;
pub mod feed;
pub mod identity;
pub mod link;
pub mod lock;
pub mod renew;
pub mod status;

pub use effects::{Activated, Effects, Verdict};
