//! Tests of the agent's machine: text scenarios for every edge, properties over a model of host and controller, and
//! the form of the ledger on disk.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot arrange or read its values fails, as it should"
)]

mod build;
mod golden;
mod ops;
mod promises;
mod properties;
mod scenarios;
mod show;
mod world;
