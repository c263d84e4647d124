//! The server's certificate, which can be replaced while the server runs.
//!
//! Connections that are open keep the certificate they were made with; each new handshake takes the present one.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::CertificateDer;

use super::{TlsError, provider};
use crate::identity::PrivateKey;

/// The present certificate, shared by the TLS configuration and by whoever renews it; clones are one and the same.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    present: Arc<RwLock<Arc<CertifiedKey>>>,
}

impl ServerCertificate {
    /// Starts with `key`, from [`certified_key`].
    pub fn new(key: CertifiedKey) -> Self {
        Self {
            present: Arc::new(RwLock::new(Arc::new(key))),
        }
    }

    /// Every handshake from now on uses `key`.
    pub fn swap(&self, key: CertifiedKey) {
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }

    /// The certificate and key in use now.
    pub fn present(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.present())
    }
}

/// A chain with its key, refused when they do not belong together.
///
/// The chain of a server ends with the CA certificate itself: a new host finds the pinned one there.
pub fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKey,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key.to_der()?, &provider()).map_err(|source| TlsError::Setup {
        step: "use the server's certificate",
        source,
    })
}
