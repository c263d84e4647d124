//! What the server presents and whose certificates it accepts.
//!
//! No tickets and no session storage: measured, they cost memory per host and an agent reconnects too seldom to gain.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use rustls_pki_types::CertificateDer;

use super::{ALPN_H2, ALPN_HTTP1, ServerCertificate, TlsError, provider, roots};
use crate::clock::Clock;

/// Accepts clients of `client_ca`, and clients without any certificate, which the application lets do nothing but
/// enrol. A certificate that is presented must verify; it is never ignored.
pub fn server(
    certificate: &ServerCertificate,
    client_ca: &[CertificateDer<'static>],
    clock: &Clock,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(client_ca)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|_| TlsError::NoCa)?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsError::Setup {
            step: "set up TLS 1.3",
            source,
        })?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(certificate.clone()));
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}
