//! Modules as Debian ships them, unmodified: under the agent's installer, and under Debian's own client as the oracle.
//!
//! Both need Debian's packages `mender-client` and `mender-artifact` 3.4, which are fetched once with apt and kept below
//! `target/`; the oracle needs root for a mount namespace of its own. Where something is missing, a test says in one line
//! that it was skipped and why.
#![cfg(test)]

mod debian;
mod flows;
mod host;
mod oracle;
mod real;
#[path = "../../src/testing/vendor.rs"]
mod vendor;
