//! The identity file, and the facts by which certificates are renewed.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use jiff::Timestamp;
use proptest::prelude::*;
use rcgen::CertificateParams;

use super::*;

fn self_signed(key: &PrivateKey) -> String {
    let params = CertificateParams::new(vec!["host.example".to_owned()]).unwrap();
    params
        .self_signed(&key.to_key_pair().unwrap())
        .unwrap()
        .pem()
}

fn identity() -> Identity {
    let key = PrivateKey::generate().unwrap();
    let pem = self_signed(&key);
    Identity::new(key, pem.clone(), pem).unwrap()
}

#[test]
fn saves_for_its_owner_alone_and_loads_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.toml");
    let identity = identity();
    identity.save(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let loaded = Identity::load(&path).unwrap();
    assert_eq!(loaded.facts(), identity.facts());
    assert_eq!(loaded.key().to_pem(), identity.key().to_pem());
    assert_eq!(loaded.ca_pem(), identity.ca_pem());
}

#[test]
fn the_file_is_readable_as_pem() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.toml");
    let identity = identity();
    identity.save(&path).unwrap();
    let leaf = CertificateDer::from_pem_file(&path).unwrap();
    assert_eq!(&leaf, identity.chain().first().unwrap());
}

#[test]
fn an_unenrolled_machine_is_told_from_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.toml");
    assert!(Identity::load(&path).unwrap_err().is_missing());
    fs::write(&path, "version = 2\nkey = ''\nchain = ''\nca = ''\n").unwrap();
    let error = Identity::load(&path).unwrap_err();
    assert!(!error.is_missing());
    assert!(
        error
            .to_string()
            .contains("not an identity file of version 1"),
        "{error}"
    );
}

#[test]
fn parts_of_two_enrolments_are_refused() {
    let (mine, other) = (
        PrivateKey::generate().unwrap(),
        PrivateKey::generate().unwrap(),
    );
    let pem = self_signed(&other);
    assert!(matches!(
        Identity::new(mine, pem.clone(), pem),
        Err(IdentityError::Mismatch)
    ));
}

#[test]
fn parts_without_pem_are_named() {
    let key = PrivateKey::generate().unwrap();
    let pem = self_signed(&key);
    let error = Identity::new(key, pem, "nothing".into()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the CA holds no readable PEM certificate; enrol again"
    );
    assert!(matches!(
        PrivateKey::from_pem("nothing"),
        Err(KeyError::Pem)
    ));
}

#[test]
fn a_key_is_not_shown() {
    let identity = identity();
    let secret = identity.key().to_pem().lines().nth(1).unwrap();
    assert!(!format!("{identity:?}").contains(secret));
}

#[test]
fn facts_are_those_of_the_certificate() {
    let facts = identity().facts;
    assert_eq!(facts.fingerprint.len(), 64);
    assert!(!facts.serial.is_empty() && !facts.is_ca && facts.uris.is_empty());
    let trailing = CertificateDer::from([&identity().chain()[0][..], &[0]].concat());
    assert_eq!(
        CertificateFacts::from_der(&trailing),
        Err(InvalidCertificate)
    );
}

fn facts(issued: Timestamp, ttl: Duration) -> CertificateFacts {
    CertificateFacts {
        not_before: issued.checked_sub(NOT_BEFORE_BACKDATE).unwrap(),
        not_after: later(issued, ttl),
        ..identity().facts
    }
}

use crate::clock::later;

#[test]
fn a_life_of_seconds_is_renewed_within_it() {
    let issued: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    let facts = facts(issued, Duration::from_secs(30));
    assert_eq!(facts.renew_at(0), later(issued, Duration::from_secs(18)));
    assert_eq!(
        facts.renew_at(u64::MAX),
        later(issued, Duration::from_secs(20))
    );
    assert_eq!(facts.remaining(issued), Duration::from_secs(30));
    assert!(facts.is_expired(later(issued, Duration::from_secs(31))));
    assert_eq!(
        facts.remaining(later(issued, Duration::from_secs(31))),
        Duration::ZERO
    );
}

proptest! {
    #[test]
    fn renewal_is_always_before_the_end(ttl in 1_u64..400_000_000, random in any::<u64>()) {
        let issued: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let template = CertificateFacts {
            not_before: issued.checked_sub(NOT_BEFORE_BACKDATE).unwrap(),
            not_after: later(issued, Duration::from_secs(ttl)),
            serial: String::new(),
            fingerprint: String::new(),
            uris: Vec::new(),
            is_ca: false,
        };
        let renew = template.renew_at(random);
        prop_assert!(renew >= issued && renew < template.not_after);
    }
}
