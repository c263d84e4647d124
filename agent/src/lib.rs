//! The Comber agent

pub mod effects;

pub use effects::{Activated, Effects, Verdict};
