//! Why a connection was refused before its first request: a word for the metrics, a sentence for the log.
//!
//! Pure. Invariant: the words are few and fixed, whatever a peer sends.

use std::io;

use comber_runtime::peer::InvalidPeer;
use comber_runtime::tls;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use thiserror::Error;

/// A connection that was closed in or just after its handshake.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    /// The peer did not finish its handshake.
    #[error("the handshake took too long")]
    Slow,
    /// The handshake failed.
    #[error("{}", tls::explain(.0))]
    Handshake(#[source] io::Error),
    /// The certificate is of our CA, but names nobody.
    #[error("the certificate names no peer")]
    Identity(#[from] InvalidPeer),
    /// As many peers without certificate are connected as may be.
    #[error("too many peers without certificate are connected")]
    Crowd,
}

impl Refusal {
    /// The word for the metrics.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Handshake(error) => match cause(error) {
                Some(cause) => handshake_word(cause),
                None => "hung_up",
            },
            Self::Identity(_) => "no_identity",
            Self::Crowd => "too_many",
        }
    }
}

/// What rustls says, within what the operating system's error says; nothing where the connection just ended.
fn cause(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

fn handshake_word(error: &TlsError) -> &'static str {
    match error {
        TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "certificate_expired",
        TlsError::InvalidCertificate(_) => "certificate_refused",
        // The peer refuses ours: another CA, another name, or its clock is wrong.
        TlsError::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        ) => "refused_by_peer",
        TlsError::InvalidMessage(_) => "not_tls",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(error: TlsError) -> Refusal {
        Refusal::Handshake(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn every_failure_has_a_word_of_a_fixed_set() {
        let expired = TlsError::InvalidCertificate(CertificateError::Expired);
        let unknown = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let garbage = TlsError::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let alert = TlsError::AlertReceived(AlertDescription::UnknownCA);
        let cases = [
            (Refusal::Slow, "slow"),
            (Refusal::Crowd, "too_many"),
            (handshake(expired), "certificate_expired"),
            (handshake(unknown), "certificate_refused"),
            (handshake(garbage), "not_tls"),
            (handshake(alert), "refused_by_peer"),
            (handshake(TlsError::HandshakeNotComplete), "other"),
            (
                Refusal::Handshake(io::ErrorKind::UnexpectedEof.into()),
                "hung_up",
            ),
        ];
        for (refusal, word) in cases {
            assert_eq!(refusal.word(), word, "{refusal}");
        }
    }
}
