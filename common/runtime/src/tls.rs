//! TLS of every Comber connection: one provider, TLS 1.3 only, both ends verified. Servers that are not Comber's own, which
//! the controller asks, may speak TLS 1.2 too ([`outside_client`]).
//!
//! Clients trust the CA of their identity and nothing else; the one exception is enrolment, where the CA is pinned by its
//! digest ([`enrolment_client`]). The server takes peers without a certificate too, since a new host has none: who
//! may do what is the application's decision, by [`crate::peer::PeerIdentity`].
//! Invariant: no path here skips the check of a signature.

mod certificate;
mod client;
mod explain;
mod pin;
mod server;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use rustls::{RootCertStore, crypto::CryptoProvider};
use rustls_pki_types::CertificateDer;
use thiserror::Error;

pub use certificate::{ServerCertificate, certified_key};
pub use client::{client, enrolment_client, outside_client};
pub use explain::explain;
pub use pin::{InvalidPin, Pin, PinRefused};
pub use server::server;

/// ALPN of gRPC.
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN of bulk bytes and the web pages.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// A TLS configuration that cannot be made.
#[derive(Debug, Error)]
pub enum TlsError {
    /// rustls refuses the parts.
    #[error("cannot {step}")]
    Setup {
        /// What was being put together.
        step: &'static str,
        /// Its reason.
        #[source]
        source: rustls::Error,
    },
    /// The verifier of peers has no usable CA.
    #[error("none of the CA certificates can be used to verify peers")]
    NoCa,
    /// The key of the identity.
    #[error(transparent)]
    Key(#[from] crate::identity::KeyError),
}

/// The one cryptography provider, named wherever rustls asks for it so that no process-wide default is needed.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The CA certificates as rustls wants them; refuses one that it cannot use instead of trusting fewer than told.
fn roots(ca: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in ca {
        store
            .add(certificate.clone())
            .map_err(|source| TlsError::Setup {
                step: "use the CA certificate",
                source,
            })?;
    }
    if store.is_empty() {
        return Err(TlsError::NoCa);
    }
    Ok(Arc::new(store))
}
