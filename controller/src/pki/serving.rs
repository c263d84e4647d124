//! The controller's own server certificate: issued at start, renewed while it serves.
//!
//! The private key is new each time and lives in memory alone. A renewal that fails leaves the present certificate in
//! use; a third of its life is left for the next tries. Invariant: what is served is always whole.

use std::{sync::Arc, time::Duration};

use comber_runtime::{
    identity::CertificateFacts,
    tls::{ServerCertificate, TlsError, certified_key},
};
use jiff::Timestamp;
use thiserror::Error;

use super::{Ca, IssueError};

/// A server certificate with what is needed to issue the next one.
#[derive(Debug)]
pub struct RenewingCertificate {
    ca: Arc<Ca>,
    names: Vec<String>,
    ttl: Duration,
    random: u64,
    served: ServerCertificate,
    facts: CertificateFacts,
}

/// No server certificate could be made; the present one, if any, stays in use.
#[derive(Debug, Error)]
pub enum ServingError {
    /// The CA refused.
    #[error("cannot issue the server's certificate")]
    Issue(#[from] IssueError),
    /// rustls refused.
    #[error("cannot use the server's certificate")]
    Tls(#[from] TlsError),
}

impl RenewingCertificate {
    /// Issues the first certificate, for `names` as agents and operators write them in their addresses.
    ///
    /// `random` spreads the moment of renewal within [`CertificateFacts::renew_at`] over several controllers.
    pub fn issue(
        ca: Arc<Ca>,
        names: Vec<String>,
        ttl: Duration,
        random: u64,
        now: Timestamp,
    ) -> Result<Self, ServingError> {
        let (key, facts) = fresh(&ca, &names, ttl, now)?;
        Ok(Self {
            ca,
            names,
            ttl,
            random,
            served: ServerCertificate::new(key),
            facts,
        })
    }

    /// What goes into the TLS configuration; it follows every renewal.
    pub fn served(&self) -> &ServerCertificate {
        &self.served
    }

    /// The certificate that is served now.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// When the next renewal is due; the driver's timer.
    pub fn renew_at(&self) -> Timestamp {
        self.facts.renew_at(self.random)
    }

    /// Whether two thirds of its life are over.
    pub fn renew_due(&self, now: Timestamp) -> bool {
        now >= self.renew_at()
    }

    /// Issues the next certificate and serves it from the next handshake on; open connections stay.
    pub fn renew(&mut self, now: Timestamp) -> Result<(), ServingError> {
        let (key, facts) = fresh(&self.ca, &self.names, self.ttl, now)?;
        self.served.swap(key);
        self.facts = facts;
        Ok(())
    }
}

fn fresh(
    ca: &Ca,
    names: &[String],
    ttl: Duration,
    now: Timestamp,
) -> Result<(rustls::sign::CertifiedKey, CertificateFacts), ServingError> {
    let (issued, key) = ca.issue_server(names, ttl, now)?;
    // The CA's own certificate ends the chain: that is where a new host looks for the pinned one.
    let chain = vec![issued.certificate, ca.certificate().clone()];
    Ok((certified_key(chain, &key)?, issued.facts))
}
