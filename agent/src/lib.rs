//! The Comber agent

pub mod effects;
pub mod exec;
pub mod facts;
pub mod fetch;
pub mod health;
pub mod host_effects;
pub mod install;
pub mod preflight;
pub mod reboot;
pub mod surroundings;
#[cfg(test)]
mod testing;
pub mod trust;

pub use effects::{Activated, Effects, Verdict};
