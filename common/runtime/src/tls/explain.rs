//! Turns a failed connection into what a person can do about it.
//!
//! TLS errors name the check that failed, rarely the remedy; over a fleet the same few causes come back every day. Pure;
//! what is not known is told as it is.

use std::{error::Error, io};

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use rustls_pki_types::UnixTime;

use super::PinRefused;
use crate::telemetry::error_chain;

/// All causes of `error` on one line, and behind a semicolon what to do, where that is known.
///
/// Takes an error of any layer (tonic, hyper, io, rustls) and looks for the cause within.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let told = error_chain(error);
    match remedy(error) {
        Some(remedy) => format!("{told}; {remedy}"),
        None => told,
    }
}

fn remedy(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    let mut last_io = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return tls_remedy(error);
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            last_io = Some(error.kind());
            // An io::Error passes over the error it wraps when asked for its source.
            if let Some(inner) = error.get_ref() {
                cause = Some(inner);
                continue;
            }
        }
        cause = error.source();
    }
    last_io.and_then(io_remedy)
}

fn io_remedy(kind: io::ErrorKind) -> Option<String> {
    let remedy = match kind {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there: is the controller running, and is the port right?"
        }
        io::ErrorKind::TimedOut => {
            "no answer: is the address right, and does a firewall drop the port?"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "this machine has no route there: is its network up?"
        }
        _ => return None,
    };
    Some(remedy.to_owned())
}

fn tls_remedy(error: &rustls::Error) -> Option<String> {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate_remedy(error),
        rustls::Error::AlertReceived(alert) => alert_remedy(*alert).map(str::to_owned),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("the other side does not speak TLS: is the port right?".to_owned())
        }
        _ => None,
    }
}

/// Of the certificate that the other side presented to us.
fn certificate_remedy(error: &CertificateError) -> Option<String> {
    match error {
        CertificateError::ExpiredContext { time, not_after } => Some(format!(
            "the other side's certificate ended at {}, and it is {} here: set this machine's clock if it is wrong, else \
             renew the certificate there (a controller renews its own: see its log)",
            instant(*not_after),
            instant(*time)
        )),
        CertificateError::Expired => Some("the other side's certificate is over: renew it there, or set this machine's clock".into()),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("the other side's certificate is not valid yet: set the clock of this machine or of the other".into())
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(
            "the certificate there is not of the CA that this identity trusts: the address leads to another controller, or \
             its CA was replaced; check the address, else enrol again with a new token"
                .into(),
        ),
        CertificateError::NotValidForNameContext { expected, presented } => Some(format!(
            "the certificate there is for {}; use one of these names, or add {} to the controller's names",
            bare_names(presented),
            expected.to_str()
        )),
        CertificateError::NotValidForName => Some("the certificate there is for another name; add this one to the controller's names".into()),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Some("the certificate there is not one of a server: the address leads to an agent or a relay".into())
        }
        CertificateError::Other(other) => other.0.downcast_ref::<PinRefused>().map(|refused| pin_remedy(*refused)),
        _ => None,
    }
}

/// rustls shows what a verifier of ours refused by its `Debug`, so it is told once more in words.
fn pin_remedy(refused: PinRefused) -> String {
    let remedy = match refused {
        PinRefused::NoCaSent => {
            "is this a Comber controller, reached without a proxy that ends TLS?"
        }
        PinRefused::OtherCa { .. } => {
            "the address leads to another controller than the one that made the token, or somebody is \
             between; do not enrol until you know which"
        }
        PinRefused::NotACa => "make a new token with `comber token create`",
    };
    format!("{refused}; {remedy}")
}

/// rustls presents names as `DnsName("comber.example")`; people look for what is between the quotes.
fn bare_names(presented: &[String]) -> String {
    let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}

/// Of the certificate that we presented and the other side refused.
fn alert_remedy(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::CertificateExpired => Some(
            "the other side says that our certificate is over: enrol again with a new token, or set the clocks right",
        ),
        AlertDescription::UnknownCA => Some(
            "the other side does not know the CA of our certificate: this identity belongs to another controller; enrol again",
        ),
        AlertDescription::CertificateRevoked => {
            Some("our certificate was revoked; enrol again with a new token")
        }
        AlertDescription::CertificateRequired => {
            Some("the other side wants a certificate and we have none; enrol first")
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::DecryptError => {
            Some("the other side refused our certificate: its log says why")
        }
        AlertDescription::ProtocolVersion => {
            Some("the other side cannot do TLS 1.3: is this a Comber controller?")
        }
        AlertDescription::NoApplicationProtocol => {
            Some("the other side speaks neither HTTP/2 nor HTTP/1.1: is the port right?")
        }
        _ => None,
    }
}

fn instant(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .map_or_else(|_| format!("second {seconds}"), |time| time.to_string())
}
