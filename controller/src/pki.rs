//! The controller's own certificate authority: made at the first start, it names every host, operator and server.
//!
//! ```text
//!   enrolment: token ──> tokens::TokenRecord::redeem ──> Ca::issue_host / issue_operator ──> certificate
//!   serving:   Ca::issue_server ──> RenewingCertificate ──swap──> TLS configuration
//! ```
//!
//! Touches the directory of the CA and nothing else; token records are kept by the store. This CA proves who talks to
//! the controller. It signs no release: a stolen CA key lets nobody install anything.

mod ca;
mod issue;
mod serving;
pub mod tokens;

pub use ca::{CA_LIFE, Ca, CaError};
pub use issue::{IssueError, Issued, MAX_CSR_BYTES};
pub use serving::{RenewingCertificate, ServingError};

#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod tests;
