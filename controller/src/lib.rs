//! The Comber controller: the server that plans rollouts and tells every host what to run.
//!
//! [`core`] is where state changes, [`api`] and [`serve`] are how it is reached, [`store`] and [`artifact`] are where it
//! lies, [`pki`] is who is believed. [`app`] wires them.

pub mod api;
pub mod app;
pub mod artifact;
pub mod cli;
pub mod config;
pub mod core;
pub mod fleet_lock;
pub mod gates;
pub mod metrics;
pub mod pki;
pub mod serve;
pub mod store;
