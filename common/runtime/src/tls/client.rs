//! What a client presents and whom it accepts.
//!
//! Session resumption is off: the server sends no tickets, and a stream lives for days.

use std::sync::Arc;

use rustls::{
    ClientConfig,
    client::{Resumption, WebPkiServerVerifier},
    version::{TLS12, TLS13},
};
use rustls_pki_types::CertificateDer;

use super::{Pin, TlsError, pin::PinnedVerifier, provider, roots};
use crate::{clock::Clock, identity::Identity};

/// For an enrolled process: presents its certificate, accepts servers of its CA only.
///
/// ALPN is left empty; [`crate::channel`] and [`crate::download`] set what they speak.
pub fn client(identity: &Identity, clock: &Clock) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(identity.ca())?, provider())
        .build()
        .map_err(|_| TlsError::NoCa)?;
    let config = ClientConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsError::Setup {
            step: "set up TLS 1.3",
            source,
        })?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(identity.chain().to_vec(), identity.key().to_der()?)
        .map_err(|source| TlsError::Setup {
            step: "use the identity's certificate",
            source,
        })?;
    Ok(finish(config))
}

/// For a new host that holds only a token: presents nothing, accepts the server whose chain ends in the pinned CA.
pub fn enrolment_client(pin: Pin, clock: &Clock) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = Arc::new(PinnedVerifier::new(pin, provider()));
    let config = ClientConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsError::Setup {
            step: "set up TLS 1.3",
            source,
        })?
        // The name warns of verifiers that skip checks; this one adds the pin and leaves the rest to webpki.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(finish(config))
}

/// For a server that is not Comber's: presents nothing, accepts what one of `ca` vouches for under the name that is dialled.
pub fn outside_client(
    ca: &[CertificateDer<'static>],
    clock: &Clock,
) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(ca)?, provider())
        .build()
        .map_err(|_| TlsError::NoCa)?;
    let config = ClientConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|source| TlsError::Setup {
            step: "set up TLS",
            source,
        })?
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    Ok(finish(config))
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::disabled();
    Arc::new(config)
}
