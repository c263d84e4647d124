//! What a certificate says that Comber acts on: when it is valid, when to renew it, how to name it.
//!
//! Pure. Invariant: `renew_at` is always before `not_after`, so a process that renews when told is never without a
//! valid certificate.

use std::{fmt::Write, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time};

use crate::{backoff::fraction, clock::later};

/// How far the CA sets `not_before` back, so that a peer whose clock is a little behind accepts a new certificate.
///
/// Life is counted from the moment of issue, which is this much after `not_before`.
pub const NOT_BEFORE_BACKDATE: Duration = Duration::from_mins(5);

/// The facts of one certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFacts {
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity, the last valid second.
    pub not_after: Timestamp,
    /// The serial number in hex, as openssl prints it.
    pub serial: String,
    /// The sha256 of the whole certificate in hex: the key for listing and revoking.
    pub fingerprint: String,
    /// All URI names; a peer's identity is the only one, see [`crate::peer::PeerIdentity`].
    pub uris: Vec<String>,
    /// Whether it may sign other certificates.
    pub is_ca: bool,
}

/// The bytes are no X.509 certificate, or one with a time that cannot be.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the certificate cannot be parsed; issue it again")]
pub struct InvalidCertificate;

impl CertificateFacts {
    /// Reads a certificate; it proves nothing about who signed it.
    pub fn from_der(certificate: &CertificateDer<'_>) -> Result<Self, InvalidCertificate> {
        let (rest, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| InvalidCertificate)?;
        if !rest.is_empty() {
            return Err(InvalidCertificate);
        }
        Ok(Self {
            not_before: timestamp(parsed.validity().not_before)?,
            not_after: timestamp(parsed.validity().not_after)?,
            serial: hex(parsed.raw_serial()),
            fingerprint: hex(&Sha256::digest(certificate)),
            uris: crate::peer::uri_names(certificate).map_err(|_| InvalidCertificate)?,
            is_ca: parsed.is_ca(),
        })
    }

    /// When to ask for the next certificate: between six and two thirds of a life, spread by `random`.
    ///
    /// A third of the life is left for a controller that is down. Hosts that were enrolled together draw different
    /// moments, so they do not come together for ever after. One process keeps its `random`, or the moment would move.
    pub fn renew_at(&self, random: u64) -> Timestamp {
        let issued = self.issued_at();
        let life = Duration::try_from(self.not_after.duration_since(issued)).unwrap_or_default();
        let (earliest, latest) = (life * 6 / 10, life * 2 / 3);
        later(
            issued,
            earliest + fraction(latest.saturating_sub(earliest), random),
        )
    }

    /// Whether `now` is after the last valid second.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now > self.not_after
    }

    /// What is left of the validity; zero once it is over.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.not_after.duration_since(now).max(SignedDuration::ZERO))
            .unwrap_or_default()
    }

    fn issued_at(&self) -> Timestamp {
        let issued = later(self.not_before, NOT_BEFORE_BACKDATE);
        if issued < self.not_after {
            issued
        } else {
            self.not_before
        }
    }
}

fn timestamp(time: ASN1Time) -> Result<Timestamp, InvalidCertificate> {
    Timestamp::from_second(time.timestamp()).map_err(|_| InvalidCertificate)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
