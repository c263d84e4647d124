//! Tests of the planner as a whole: a small fleet of simulated agents, driven by scenarios that administrators can read
//! and by random faults.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where what it arranges does not work"
)]

mod cases;
mod checks;
mod commands;
mod fleet;
mod hostile;
mod preview;
mod properties;
mod representative;
mod scale;
mod scenarios;
mod script;
mod urgency;
mod world;
