//! The controller's one TLS port, as agents, operators and strangers meet it: a real port on loopback, a real store and a
//! real CA in a temporary directory.
#![cfg(test)]

mod access;
mod artifacts;
mod clones;
mod enrolment;
mod events;
mod link;
mod packages;
mod port;
mod revocation;
mod rollouts;
mod tls;
