//! Who is at the other end of a connection, read from a certificate that TLS has already verified.
//!
//! The name is the one URI in the certificate's subject alternative names, `spiffe://comber/host/<id>` or
//! `spiffe://comber/operator/<name>`. Parsing is strict: a certificate that could be read in two ways is refused.
//! Invariant: a [`PeerIdentity`] prints as the very URI that it was parsed from.

use std::{fmt, str::FromStr};

use rustls_pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::{extensions::GeneralName, prelude::FromDer};

/// Longest host id or operator name, so that keys and log lines stay small; DNS names of hosts fit mostly.
pub const MAX_NAME: usize = 128;

const HOST: &str = "spiffe://comber/host/";
const OPERATOR: &str = "spiffe://comber/operator/";

/// A verified peer: the role decides which calls it may make.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PeerIdentity {
    /// The agent of the host with this id.
    Host(String),
    /// A person or program that drives the controller.
    Operator(String),
}

/// Why a certificate names nobody; the connection is to be refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum InvalidPeer {
    /// The bytes are no certificate.
    #[error("the peer's certificate cannot be parsed")]
    Certificate,
    /// Not exactly one URI: which of them counts would be a matter of taste.
    #[error(
        "the peer's certificate has {0} URI names in place of exactly one; issue it again with this controller's CA"
    )]
    UriCount(usize),
    /// Neither a host nor an operator.
    #[error("{0:?} is not spiffe://comber/host/<id> or spiffe://comber/operator/<name>")]
    Uri(String),
    /// The part behind the role.
    #[error(
        "{0:?} is not a valid name: 1 to {MAX_NAME} letters, digits, '.', '-' and '_', and not only dots"
    )]
    Name(String),
}

impl PeerIdentity {
    /// The peer of a host; refuses an id that could not be told apart in a path.
    pub fn host(id: &str) -> Result<Self, InvalidPeer> {
        checked_name(id).map(Self::Host)
    }

    /// The peer of an operator.
    pub fn operator(name: &str) -> Result<Self, InvalidPeer> {
        checked_name(name).map(Self::Operator)
    }

    /// Reads the name of an already verified certificate.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, InvalidPeer> {
        let uris = uri_names(certificate)?;
        match uris.as_slice() {
            [uri] => uri.parse(),
            uris => Err(InvalidPeer::UriCount(uris.len())),
        }
    }

    /// The host id or operator name alone.
    pub fn name(&self) -> &str {
        match self {
            Self::Host(name) | Self::Operator(name) => name,
        }
    }
}

impl FromStr for PeerIdentity {
    type Err = InvalidPeer;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        if let Some(id) = uri.strip_prefix(HOST) {
            return Self::host(id);
        }
        if let Some(name) = uri.strip_prefix(OPERATOR) {
            return Self::operator(name);
        }
        Err(InvalidPeer::Uri(uri.chars().take(2 * MAX_NAME).collect()))
    }
}

/// The SPIFFE URI.
impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(id) => write!(f, "{HOST}{id}"),
            Self::Operator(name) => write!(f, "{OPERATOR}{name}"),
        }
    }
}

/// All URIs among the subject alternative names.
pub(crate) fn uri_names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, InvalidPeer> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|_| InvalidPeer::Certificate)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| InvalidPeer::Certificate)?;
    let Some(names) = names else {
        return Ok(Vec::new());
    };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    Ok(names.value.general_names.iter().filter_map(uri).collect())
}

fn checked_name(name: &str) -> Result<String, InvalidPeer> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fits = (1..=MAX_NAME).contains(&name.len());
    let only_dots = name.chars().all(|c| c == '.');
    if fits && !only_dots && name.chars().all(allowed) {
        return Ok(name.to_owned());
    }
    Err(InvalidPeer::Name(name.chars().take(2 * MAX_NAME).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["spiffe.example".to_owned()]).unwrap();
        let uris = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .clone()
    }

    #[test]
    fn reads_hosts_and_operators() {
        let peer =
            PeerIdentity::from_certificate(&certificate(&["spiffe://comber/host/web-1.example"]));
        assert_eq!(peer, Ok(PeerIdentity::Host("web-1.example".into())));
        let peer = PeerIdentity::from_certificate(&certificate(&["spiffe://comber/operator/mia"]));
        assert_eq!(peer, Ok(PeerIdentity::Operator("mia".into())));
    }

    #[test]
    fn two_names_or_none_are_refused() {
        let two = certificate(&["spiffe://comber/host/a", "spiffe://comber/operator/b"]);
        assert_eq!(
            PeerIdentity::from_certificate(&two),
            Err(InvalidPeer::UriCount(2))
        );
        assert_eq!(
            PeerIdentity::from_certificate(&certificate(&[])),
            Err(InvalidPeer::UriCount(0))
        );
        let other = certificate(&["https://example.com/"]);
        assert!(matches!(
            PeerIdentity::from_certificate(&other),
            Err(InvalidPeer::Uri(_))
        ));
    }

    #[test]
    fn dubious_names_are_refused() {
        let long = "x".repeat(MAX_NAME + 1);
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a%2fb",
            "ä",
            "a\n",
            long.as_str(),
        ] {
            assert!(
                matches!(PeerIdentity::host(name), Err(InvalidPeer::Name(_))),
                "{name:?}"
            );
        }
        for uri in [
            "spiffe://COMBER/host/a",
            "spiffe://other/host/a",
            "spiffe://comber/hosts/a",
            "",
        ] {
            assert!(
                matches!(uri.parse::<PeerIdentity>(), Err(InvalidPeer::Uri(_))),
                "{uri:?}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        let bytes = CertificateDer::from(vec![0x30, 0x82, 0xff, 0xff]);
        assert_eq!(
            PeerIdentity::from_certificate(&bytes),
            Err(InvalidPeer::Certificate)
        );
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(uri in "spiffe://comber/(host|operator)/[a-c./_-]{0,9}") {
            if let Ok(peer) = uri.parse::<PeerIdentity>() {
                prop_assert_eq!(peer.to_string(), uri);
            }
        }
    }
}
