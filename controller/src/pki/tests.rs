//! The CA on disk, and that of a request nothing but its key gets into a certificate.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use comber_runtime::{
    clock::later,
    identity::{CertificateFacts, NOT_BEFORE_BACKDATE, PrivateKey, make_csr},
    peer::PeerIdentity,
    tls::Pin,
};
use jiff::Timestamp;
use rcgen::{CertificateParams, IsCa, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::FromDer;

use super::*;

const DAY: Duration = Duration::from_hours(24);

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn ca(dir: &Path) -> Ca {
    Ca::load_or_create(dir, now()).unwrap()
}

fn csr() -> String {
    make_csr(&PrivateKey::generate().unwrap(), "whoever").unwrap()
}

#[track_caller]
fn refused(dir: &Path, at: Timestamp) -> String {
    Ca::load_or_create(dir, at).unwrap_err().to_string()
}

#[test]
fn made_once_then_read_with_its_key_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let first = ca(&dir.path().join("sub/ca"));
    let again = ca(&dir.path().join("sub/ca"));
    assert_eq!(first.pin(), again.pin());
    assert_eq!(first.pin(), Pin::of(first.certificate()));
    let mode = |path: &str| {
        let path = dir.path().join(path);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("sub/ca"), 0o700);
    assert_eq!(mode("sub/ca/ca-key.pem"), 0o600);
    assert!(first.facts().is_ca);
    assert_eq!(first.facts().not_after, later(now(), CA_LIFE));
}

#[test]
fn half_a_ca_is_refused_with_a_remedy() {
    for (kept, lost) in [("ca.pem", "ca-key.pem"), ("ca-key.pem", "ca.pem")] {
        let dir = tempfile::tempdir().unwrap();
        ca(dir.path());
        let before = fs::read(dir.path().join(kept)).unwrap();
        fs::remove_file(dir.path().join(lost)).unwrap();
        let told = refused(dir.path(), now());
        assert!(told.contains(&format!("{kept} is there but")), "{told}");
        assert!(told.contains("restore"), "{told}");
        assert_eq!(
            fs::read(dir.path().join(kept)).unwrap(),
            before,
            "nothing is repaired"
        );
        assert!(!dir.path().join(lost).exists());
    }
}

#[test]
fn a_key_of_another_ca_is_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ca(one.path());
    ca(other.path());
    fs::copy(
        other.path().join("ca-key.pem"),
        one.path().join("ca-key.pem"),
    )
    .unwrap();
    assert!(refused(one.path(), now()).contains("is not the key of ca.pem"));
}

#[test]
fn damaged_or_wrong_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let made = ca(dir.path());
    let certificate = dir.path().join("ca.pem");
    fs::write(&certificate, made.certificate_pem().repeat(2)).unwrap();
    assert!(refused(dir.path(), now()).contains("ca.pem cannot be read as one PEM certificate"));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["server.example".to_owned()]).unwrap();
    params.is_ca = IsCa::ExplicitNoCa;
    fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(dir.path().join("ca-key.pem"), key.serialize_pem()).unwrap();
    assert!(refused(dir.path(), now()).contains("is not a CA certificate"));
    fs::write(dir.path().join("ca-key.pem"), "nothing").unwrap();
    fs::write(&certificate, made.certificate_pem()).unwrap();
    assert!(refused(dir.path(), now()).contains("ca-key.pem cannot be read as a PKCS#8 PEM key"));
}

#[test]
fn a_ca_that_ended_is_refused_and_issues_nothing_past_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(dir.path());
    let end = ca.facts().not_after;
    let last = end.checked_sub(Duration::from_secs(10)).unwrap();
    let issued = ca.issue_host(&csr(), "web-1", DAY, last).unwrap();
    assert_eq!(issued.facts.not_after, end);
    assert!(matches!(
        ca.issue_host(&csr(), "web-1", DAY, end),
        Err(IssueError::CaEnds(_))
    ));
    let told = refused(dir.path(), later(end, Duration::from_secs(1)));
    assert!(
        told.contains("the CA's certificate ended at 2036-"),
        "{told}"
    );
}

#[test]
fn of_a_request_only_the_key_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(dir.path());
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::new(vec!["controller.example".to_owned()]).unwrap();
    wish.subject_alt_names.push(SanType::URI(
        "spiffe://comber/operator/root".try_into().unwrap(),
    ));
    wish.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    wish.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    wish.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let request = wish.serialize_request(&key).unwrap().pem().unwrap();
    let issued = ca.issue_host(&request, "web-1", DAY, now()).unwrap();
    let peer = PeerIdentity::from_certificate(&issued.certificate);
    assert_eq!(peer, Ok(PeerIdentity::Host("web-1".into())));
    assert!(!issued.facts.is_ca);
    let (_, parsed) =
        x509_parser::certificate::X509Certificate::from_der(&issued.certificate).unwrap();
    assert_eq!(
        parsed.public_key().subject_public_key.data,
        key.public_key_raw()
    );
    assert_eq!(parsed.subject().to_string(), "CN=web-1");
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1);
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.value.digital_signature() && !usage.value.key_cert_sign());
    let extended = parsed.extended_key_usage().unwrap().unwrap();
    assert!(extended.value.client_auth && !extended.value.server_auth && !extended.value.any);
}

#[test]
fn times_are_ours_and_serial_numbers_differ() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(dir.path());
    let ttl = Duration::from_secs(30);
    let one = ca.issue_operator(&csr(), "mia", ttl, now()).unwrap().facts;
    let other = ca.issue_operator(&csr(), "mia", ttl, now()).unwrap().facts;
    assert_eq!(later(one.not_before, NOT_BEFORE_BACKDATE), now());
    assert_eq!(one.not_after, later(now(), ttl));
    assert_ne!(one.serial, other.serial);
    assert_eq!(one.serial.len(), 32);
    assert_eq!(one.uris, ["spiffe://comber/operator/mia"]);
}

#[test]
fn the_chain_ends_in_the_ca() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(dir.path());
    let issued = ca.issue_host(&csr(), "web-1", DAY, now()).unwrap();
    let chain = comber_runtime::identity::certificates("chain", &issued.chain_pem).unwrap();
    assert_eq!(chain, [issued.certificate, ca.certificate().clone()]);
}

#[test]
fn hostile_requests_get_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(dir.path());
    let issue = |request: &str| ca.issue_host(request, "web-1", DAY, now());
    assert!(matches!(issue("no request"), Err(IssueError::Csr)));
    assert!(matches!(
        issue(&" ".repeat(MAX_CSR_BYTES + 1)),
        Err(IssueError::CsrTooLarge(_))
    ));
    assert!(matches!(issue(&forged_request()), Err(IssueError::Csr)));
    let long = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let request = CertificateParams::default()
        .serialize_request(&long)
        .unwrap()
        .pem()
        .unwrap();
    assert!(matches!(issue(&request), Err(IssueError::Algorithm)));
    for name in ["", "a/b", "..", "web-1\0"] {
        let issued = ca.issue_host(&csr(), name, DAY, now());
        assert!(matches!(issued, Err(IssueError::Name(_))), "{name:?}");
    }
}

#[test]
fn an_ed25519_key_is_certified_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let request = CertificateParams::default()
        .serialize_request(&key)
        .unwrap()
        .pem()
        .unwrap();
    let issued = ca(dir.path())
        .issue_host(&request, "web-1", DAY, now())
        .unwrap();
    assert_eq!(public_key(&issued.certificate), key.public_key_raw());
}

#[test]
fn a_server_needs_proper_names() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(dir.path());
    let issue = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        ca.issue_server(&names, DAY, now())
    };
    let (issued, _) = issue(&["comber.example", "192.0.2.1", "2001:db8::1"]).unwrap();
    assert!(issued.facts.uris.is_empty());
    assert!(matches!(issue(&[]), Err(IssueError::NoServerName)));
    for name in ["", "a b", "https://x", "x:7443"] {
        assert!(
            matches!(issue(&[name]), Err(IssueError::ServerName(_))),
            "{name:?}"
        );
    }
}

/// A request with the key of somebody else put in: its signature no longer fits.
fn forged_request() -> String {
    let key = KeyPair::generate().unwrap();
    let victim = KeyPair::generate().unwrap();
    let request = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let mut der = request.der().to_vec();
    let mine = key.public_key_raw();
    let at = der
        .windows(mine.len())
        .position(|window| window == mine)
        .unwrap();
    der[at..at + mine.len()].copy_from_slice(victim.public_key_raw());
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
}

fn public_key(certificate: &CertificateDer<'_>) -> Vec<u8> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).unwrap();
    parsed.public_key().subject_public_key.data.to_vec()
}

#[test]
fn facts_of_the_ca_are_read_from_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(dir.path());
    assert_eq!(
        ca.facts(),
        &CertificateFacts::from_der(ca.certificate()).unwrap()
    );
    assert_eq!(ca.facts().fingerprint, ca.pin().to_string());
}
