//! A certificate authority for tests: issues what a controller's does, with lives down to a second.

use std::{net::Ipv4Addr, time::Duration};

use comber_runtime::{
    clock::Clock,
    identity::{Identity, NOT_BEFORE_BACKDATE, PrivateKey, certificates, make_csr},
    tls::{Pin, ServerCertificate, certified_key},
};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    date_time_ymd,
};
use rustls_pki_types::CertificateDer;

/// Longer than any test runs.
pub(crate) const LONG: Duration = Duration::from_hours(24);

pub(crate) struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = named("test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        let issuer = Issuer::from_ca_cert_der(&der, key).unwrap();
        Self { issuer, der, pem }
    }

    pub(crate) fn pin(&self) -> Pin {
        Pin::of(&self.der)
    }

    /// The chain for a request, valid from now (backdated as a controller does) for `ttl`; negative: it is over.
    pub(crate) fn issue_host(&self, csr_pem: &str, host: &str, ttl: SignedDuration) -> String {
        let request = CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        let mut params = named(host);
        let uri = format!("spiffe://comber/host/{host}");
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let now = Clock::system().wall();
        params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(now - NOT_BEFORE_BACKDATE);
        params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(now + ttl);
        self.chain(&params, &request.public_key)
    }

    /// A whole identity, as after an enrolment.
    pub(crate) fn identity(&self, host: &str, ttl: SignedDuration) -> Identity {
        let key = PrivateKey::generate().unwrap();
        let csr = make_csr(&key, host).unwrap();
        Identity::new(key, self.issue_host(&csr, host, ttl), self.pem.clone()).unwrap()
    }

    /// A certificate for 127.0.0.1.
    pub(crate) fn server(&self) -> ServerCertificate {
        let key = PrivateKey::generate().unwrap();
        let mut params = named("controller");
        params.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let pem = self.chain(&params, &key.to_key_pair().unwrap());
        let chain = certificates("server", &pem).unwrap();
        ServerCertificate::new(certified_key(chain, &key).unwrap())
    }

    fn chain(&self, params: &CertificateParams, key: &impl PublicKeyData) -> String {
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        format!("{}{}", certificate.pem(), self.pem)
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params
}

fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap())
}
