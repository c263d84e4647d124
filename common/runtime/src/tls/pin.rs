//! The pin of a CA, and the verifier that a new host uses when the pin is all it knows.
//!
//! The server sends its CA certificate as the last of its chain. The pin proves that it is the CA meant by the token;
//! webpki then proves that this CA signed the server's certificate for the name and the present time. A self-made CA
//! of the same subject has another digest and is refused.

use std::{fmt, str::FromStr, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

use crate::identity::CertificateFacts;

/// The sha256 of a CA certificate (DER).
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Pin([u8; 32]);

/// A text that is not 64 hex digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a pin is the sha256 of the controller's CA certificate in 64 hex digits")]
pub struct InvalidPin;

/// Why a server was refused although its certificates may be in order among themselves.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PinRefused {
    /// The server showed its own certificate alone.
    #[error("the server does not send its CA certificate")]
    NoCaSent,
    /// Another controller, or somebody between.
    #[error("the server's CA is {found}, the token is for {expected}")]
    OtherCa {
        /// Of the certificate that the server sent.
        found: Pin,
        /// Of the token.
        expected: Pin,
    },
    /// The pinned certificate is no CA: such a token was not made by a controller.
    #[error("the pinned certificate is not a CA certificate")]
    NotACa,
}

/// Accepts a server whose chain ends in the pinned CA certificate and verifies against it.
#[derive(Debug)]
pub(super) struct PinnedVerifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl Pin {
    /// The pin of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// The 32 bytes of the digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest that came from a token.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// In hex, as `sha256sum` of the DER file prints it.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(InvalidPin);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidPin)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidPin)?;
        }
        Ok(Self(bytes))
    }
}

impl PinnedVerifier {
    pub(super) fn new(pin: Pin, provider: Arc<CryptoProvider>) -> Self {
        Self { pin, provider }
    }

    /// The pinned CA out of what the server sent beside its own certificate, and what stands between the two.
    fn split_ca<'a, 'b>(
        &self,
        intermediates: &'a [CertificateDer<'b>],
    ) -> Result<(&'a CertificateDer<'b>, &'a [CertificateDer<'b>]), PinRefused> {
        let (ca, between) = intermediates.split_last().ok_or(PinRefused::NoCaSent)?;
        let found = Pin::of(ca);
        if found != self.pin {
            return Err(PinRefused::OtherCa {
                found,
                expected: self.pin,
            });
        }
        Ok((ca, between))
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (ca, between) = self.split_ca(intermediates).map_err(refused)?;
        check_ca(ca, now)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, between, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// webpki takes a trust anchor as it is, so what makes a certificate a CA is checked here.
fn check_ca(ca: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let facts = CertificateFacts::from_der(ca).map_err(|_| CertificateError::BadEncoding)?;
    if !facts.is_ca {
        return Err(refused(PinRefused::NotACa));
    }
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > facts.not_after.as_second() {
        return Err(CertificateError::Expired.into());
    }
    if now < facts.not_before.as_second() {
        return Err(CertificateError::NotValidYet.into());
    }
    Ok(())
}

fn refused(why: PinRefused) -> Error {
    CertificateError::Other(OtherError(Arc::new(why))).into()
}
