//! The agent against a real controller's protocol: TLS with its own CA, on loopback, in temporary directories.
#![cfg(test)]

mod ca;
mod command;
mod controller;
mod crash;
mod enrol;
mod first_boot;
mod host;
mod hostile;
mod link;
mod local;
mod module;
mod packages;
mod renew;
mod rollout;
mod support;
#[path = "../../src/testing/vendor.rs"]
mod vendor;
mod whole_host;
