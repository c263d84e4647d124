//! The agent against a real controller's protocol: TLS with its own CA, on loopback, in temporary directories.
#![cfg(test)]

mod ca;
mod controller;
mod enrol;
mod link;
mod renew;
mod support;
