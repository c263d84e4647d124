//! Issuing: of a request only the public key is taken; every name, use and time is ours.
//!
//! Pure but for randomness of serial numbers. Invariants: a certificate that leaves here has exactly one URI name, or is a
//! server's and has none; it outlives the CA never; a request whose own signature fails gets nothing.

use std::{net::IpAddr, time::Duration};

use comber_runtime::{
    clock::later,
    identity::{CertificateFacts, InvalidCertificate, KeyError, NOT_BEFORE_BACKDATE, PrivateKey},
    peer::{InvalidPeer, PeerIdentity},
};
use jiff::Timestamp;
use rcgen::{
    Certificate, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    date_time_ymd,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};
use thiserror::Error;
use x509_parser::prelude::FromDer;

use super::Ca;

/// A request for a P-256 or Ed25519 key is under 1 kB.
pub const MAX_CSR_BYTES: usize = 8 * 1024;
/// 16 random bytes: no two certificates of a CA share a serial number.
const SERIAL_BYTES: usize = 16;

/// A certificate that was just signed.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, followed by the CA's: what the peer presents.
    pub chain_pem: String,
    /// The certificate alone.
    pub certificate: CertificateDer<'static>,
    /// What to record of it.
    pub facts: CertificateFacts,
}

/// Why no certificate was issued.
#[derive(Debug, Error)]
pub enum IssueError {
    /// Not a request, or its signature does not fit its key.
    #[error("the certificate request is not valid PKCS#10 signed by its own key")]
    Csr,
    /// Larger than any honest request.
    #[error("the certificate request has {0} bytes, more than {MAX_CSR_BYTES}")]
    CsrTooLarge(usize),
    /// RSA or a curve that not every peer verifies.
    #[error("the key in the request is neither ECDSA P-256 nor Ed25519")]
    Algorithm,
    /// The name that the certificate would carry.
    #[error(transparent)]
    Name(#[from] InvalidPeer),
    /// A name of the server that is neither DNS name nor address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    /// A server certificate for nothing.
    #[error(
        "a server certificate needs at least one DNS name or IP address; set the controller's names"
    )]
    NoServerName,
    /// The CA does not live as long.
    #[error("the CA itself ends at {0}; replace it before issuing more certificates")]
    CaEnds(Timestamp),
    /// Making the server's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Signing.
    #[error("cannot sign the certificate")]
    Sign(#[source] rcgen::Error),
    /// What was signed does not read back; a bug, nothing is handed out.
    #[error("the signed certificate does not read back")]
    Unreadable(#[from] InvalidCertificate),
    /// No randomness for a serial number.
    #[error("no randomness from the kernel for a serial number")]
    Randomness(#[source] getrandom::Error),
}

impl Ca {
    /// A client certificate for the agent of `host_id`, valid for `ttl` from now on.
    pub fn issue_host(
        &self,
        csr_pem: &str,
        host_id: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        self.issue_peer(csr_pem, &PeerIdentity::host(host_id)?, ttl, now)
    }

    /// A client certificate for an operator.
    pub fn issue_operator(
        &self,
        csr_pem: &str,
        name: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        self.issue_peer(csr_pem, &PeerIdentity::operator(name)?, ttl, now)
    }

    /// A server certificate with a new key, for the DNS names and addresses that agents and operators connect to.
    pub fn issue_server(
        &self,
        names: &[String],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<(Issued, PrivateKey), IssueError> {
        let first = names.first().ok_or(IssueError::NoServerName)?;
        let key = PrivateKey::generate()?;
        let mut params = self.leaf(first, ExtendedKeyUsagePurpose::ServerAuth, ttl, now)?;
        params.subject_alt_names = names
            .iter()
            .map(|name| server_name(name))
            .collect::<Result<_, _>>()?;
        let issued = self.sign(&params, &key.to_key_pair()?)?;
        Ok((issued, key))
    }

    fn issue_peer(
        &self,
        csr_pem: &str,
        peer: &PeerIdentity,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        let request = Request::parse(csr_pem)?;
        let mut params = self.leaf(peer.name(), ExtendedKeyUsagePurpose::ClientAuth, ttl, now)?;
        let uri = peer.to_string().try_into().map_err(IssueError::Sign)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let issued = self.sign(&params, &request.key)?;
        request.check_key_of(&issued.certificate)?;
        Ok(issued)
    }

    /// What host, operator and server certificates have in common.
    fn leaf(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<CertificateParams, IssueError> {
        let ca_end = self.facts().not_after;
        if now >= ca_end {
            return Err(IssueError::CaEnds(ca_end));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial().map_err(IssueError::Randomness)?);
        set_validity(&mut params, now, later(now, ttl).min(ca_end));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<Issued, IssueError> {
        let certificate: Certificate = params
            .signed_by(key, &self.issuer)
            .map_err(IssueError::Sign)?;
        let facts = CertificateFacts::from_der(certificate.der())?;
        let chain_pem = format!("{}{}", certificate.pem(), self.certificate_pem());
        Ok(Issued {
            chain_pem,
            certificate: certificate.der().clone(),
            facts,
        })
    }
}

/// The public key of a request whose signature was verified.
struct Request {
    key: rcgen::PublicKey,
    der: CertificateSigningRequestDer<'static>,
}

impl Request {
    fn parse(csr_pem: &str) -> Result<Self, IssueError> {
        if csr_pem.len() > MAX_CSR_BYTES {
            return Err(IssueError::CsrTooLarge(csr_pem.len()));
        }
        let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
            .map_err(|_| IssueError::Csr)?;
        let parsed =
            CertificateSigningRequestParams::from_der(&der).map_err(|_| IssueError::Csr)?;
        let key = parsed.public_key;
        let allowed = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519];
        if !allowed.contains(&key.algorithm()) {
            return Err(IssueError::Algorithm);
        }
        Ok(Self { key, der })
    }

    /// The library tells the key's kind from the signature of the request; a key of another kind that came with such a
    /// signature would be certified garbled, so the certified key must be the requested one to the byte.
    fn check_key_of(&self, certificate: &CertificateDer<'_>) -> Result<(), IssueError> {
        let (_, request) =
            x509_parser::certification_request::X509CertificationRequest::from_der(&self.der)
                .map_err(|_| IssueError::Csr)?;
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(certificate)
            .map_err(|_| InvalidCertificate)?;
        if request.certification_request_info.subject_pki.raw == certificate.public_key().raw {
            return Ok(());
        }
        Err(IssueError::Algorithm)
    }
}

fn server_name(name: &str) -> Result<SanType, IssueError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let invalid = || IssueError::ServerName(name.to_owned());
    rustls_pki_types::DnsName::try_from(name).map_err(|_| invalid())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| invalid())?))
}

/// A random serial number, positive as X.509 wants it.
pub(super) fn serial() -> Result<SerialNumber, getrandom::Error> {
    let mut bytes = [0; SERIAL_BYTES];
    getrandom::fill(&mut bytes)?;
    // The first bit is the sign; a first byte of zero would be dropped in encoding.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Valid from a little before `now`, see [`NOT_BEFORE_BACKDATE`], to `not_after`; certificates count whole seconds.
pub(super) fn set_validity(params: &mut CertificateParams, now: Timestamp, not_after: Timestamp) {
    let since_epoch =
        |time: Timestamp| Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default());
    let not_before = now.checked_sub(NOT_BEFORE_BACKDATE).unwrap_or(now);
    params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(not_before);
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(not_after);
}
