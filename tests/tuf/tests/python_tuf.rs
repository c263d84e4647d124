//! python-tuf, the reference implementation, beside ours: it verifies what our publisher makes, and our verifier refuses the
//! hostile repositories that it makes, each by the rule that it breaks.
//!
//! Needs the Python environment that `tests/tuf/conformance.sh python` makes, and says so in one line where it is not there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use comber_model::Digest;
use comber_runtime::clock::Clock;
use comber_trust::publisher::{Lives, Publisher};
use comber_trust::{
    Directory, Key, Listing, Record, RoleType, Signed, Signer, SigningKey, VerifyError, refresh,
};
use tempfile::TempDir;

/// A case, and a part of what is said of it; `listed` and `unlisted` where the look itself is good.
const EXPECTED: [(&str, &str); 43] = [
    ("honest", "listed"),
    ("unknown_fields", "listed"),
    (
        "threshold_not_reached",
        "1.targets.json is not signed by enough",
    ),
    (
        "threshold_by_the_same_signature_twice",
        "1.targets.json is not signed by enough",
    ),
    (
        "duplicate_key_ids_in_a_role",
        "1.targets.json is not signed by enough",
    ),
    ("key_under_another_name", "cannot be read"),
    (
        "signed_by_a_stranger",
        "1.targets.json is not signed by enough",
    ),
    (
        "one_key_signs_for_another_role",
        "1.targets.json is not signed by enough",
    ),
    ("expired_root", "root metadata has expired"),
    ("expired_timestamp", "timestamp metadata has expired"),
    ("expired_snapshot", "snapshot metadata has expired"),
    ("expired_targets", "targets metadata has expired"),
    (
        "text_changed_after_signing",
        "1.targets.json is not signed by enough",
    ),
    ("listed_with_another_hash", "1.targets.json is another file"),
    (
        "listed_with_another_length",
        "1.snapshot.json is another file",
    ),
    ("listed_under_another_version", "2.targets.json is missing"),
    (
        "file_of_another_role",
        "1.targets.json is no metadata of its role",
    ),
    (
        "no_targets_listed",
        "1.snapshot.json does not list targets.json",
    ),
    ("specification_2", "version \"2.0.0\" of the specification"),
    (
        "specification_is_no_version",
        "version \"../../etc\" of the specification",
    ),
    ("oversized_timestamp", "timestamp.json has"),
    ("oversized_targets", "1.targets.json has"),
    ("many_values", "1.targets.json has more than"),
    (
        "nested_beyond_measure",
        "1.targets.json is no metadata of its role",
    ),
    ("version_zero", "timestamp.json is no metadata of its role"),
    (
        "version_beyond_integers",
        "timestamp.json is no metadata of its role",
    ),
    ("threshold_zero", "cannot be read"),
    ("garbage", "1.snapshot.json is no text"),
    ("unlisted_name_that_climbs", "unlisted"),
    ("unlisted_name_of_another_release", "unlisted"),
    ("unlisted_name_with_control_characters", "unlisted"),
    ("unlisted_without_custom", "unlisted"),
    // The library leaves an empty `custom` out of what it verifies, so this errs to the safe side.
    ("empty_custom", "1.targets.json is not signed by enough"),
    ("unlisted_custom_of_another_kind", "unlisted"),
    ("unlisted_negative_counter", "unlisted"),
    ("unlisted_product_that_climbs", "unlisted"),
    (
        "rollback_of_the_timestamp",
        "timestamp version 1 is older than 2",
    ),
    (
        "rollback_of_the_snapshot",
        "snapshot version 1 is older than 2",
    ),
    (
        "rollback_of_the_targets",
        "targets version 1 is older than 2",
    ),
    (
        "root_that_its_own_keys_do_not_sign",
        "2.root.json is not signed by enough",
    ),
    (
        "root_that_the_old_keys_do_not_sign",
        "2.root.json is not signed by enough",
    ),
    (
        "root_under_another_version",
        "2.root.json says that it is version 3",
    ),
    (
        "root_that_is_older",
        "2.root.json says that it is version 1",
    ),
];

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Python with python-tuf in it.
fn python() -> Option<PathBuf> {
    let python = here().join("../../target/tuf/bin/python");
    if python.exists() {
        return Some(python);
    }
    eprintln!("skipped: no python-tuf in target/tuf; tests/tuf/conformance.sh python installs it");
    None
}

#[track_caller]
fn script(python: &Path, arguments: &[&Path]) -> String {
    let output = Command::new(python)
        .arg(here().join("tests/repository.py"))
        .args(arguments)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).unwrap()
}

/// A publisher with a root of two of three.
struct Site {
    dir: TempDir,
    roots: Vec<SigningKey>,
    release: SigningKey,
    online: SigningKey,
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

impl Site {
    fn new() -> Self {
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
            roots: vec![key(), key(), key()],
            release: key(),
            online: key(),
        };
        let publics =
            |keys: &[SigningKey]| -> Vec<Key> { keys.iter().map(Signer::public).collect() };
        let online = vec![site.online.public()];
        let keys = BTreeMap::from([
            ("root", (publics(&site.roots), 2)),
            ("targets", (vec![site.release.public()], 1)),
            ("snapshot", (online.clone(), 1)),
            ("timestamp", (online, 1)),
        ]);
        let now = Clock::system().wall();
        Publisher::init(&site.repo(), &keys, Lives::default(), now).unwrap();
        let signers: [&dyn Signer; 4] =
            [&site.roots[0], &site.roots[1], &site.release, &site.online];
        site.publish(&signers);
        site
    }

    fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    fn publisher(&self) -> Publisher {
        Publisher::open(&self.repo(), Lives::default(), Clock::system().wall()).unwrap()
    }

    fn publish(&self, keys: &[&dyn Signer]) {
        self.publisher().sign(keys).unwrap();
        self.publisher().finish().unwrap();
    }

    /// Lists a release; gives the name of its target and its sha256.
    fn release(&self, version: &str, counter: u64) -> (String, String) {
        let bundle = self.dir.path().join("bundle");
        fs::write(&bundle, version).unwrap();
        let signed = Signed {
            product: "webapp".parse().unwrap(),
            version: version.parse().unwrap(),
            counter,
            platforms: Some("facts.arch == \"x86_64\"".to_owned()),
            min_agent: None,
            min_from: None,
            rollback_ok: true,
        };
        let entry = self.publisher().add(&bundle, signed).unwrap();
        self.publish(&[&self.release, &self.online]);
        (entry.signed.target(), Digest(entry.sha256).to_string())
    }

    /// Another root key takes the place of one.
    fn exchange_root(&mut self, which: usize) {
        let fresh = key();
        let publisher = self.publisher();
        publisher.add_key(RoleType::Root, &fresh.public()).unwrap();
        let old = std::mem::replace(&mut self.roots[which], fresh);
        publisher.remove_key(RoleType::Root, &old.public()).unwrap();
        let mut keys: Vec<&dyn Signer> = self.roots.iter().map(|key| key as &dyn Signer).collect();
        keys.extend([&old as &dyn Signer, &self.online]);
        self.publish(&keys);
    }

    fn verified_by_python(&self, python: &Path, target: &str) -> String {
        let repo = self.repo();
        let (metadata, targets) = (repo.join("metadata"), repo.join("targets"));
        let arguments = [Path::new("verify"), &metadata, &targets, Path::new(target)];
        script(python, &arguments).trim().to_owned()
    }
}

#[test]
fn python_tuf_verifies_what_our_publisher_makes() {
    let Some(python) = python() else { return };
    let site = Site::new();
    let (target, sha256) = site.release("1.0", 1);
    assert_eq!(site.verified_by_python(&python, &target), sha256);
    let (target, sha256) = site.release("1.1", 2);
    assert_eq!(site.verified_by_python(&python, &target), sha256);
}

#[test]
fn python_tuf_follows_our_roots_through_three_exchanges_of_keys() {
    let Some(python) = python() else { return };
    let mut site = Site::new();
    let (target, sha256) = site.release("1.0", 1);
    for which in 0..3 {
        site.exchange_root(which);
    }
    assert!(site.repo().join("metadata/4.root.json").exists());
    assert_eq!(site.verified_by_python(&python, &target), sha256);
}

async fn look(record: &Path, metadata: &Path) -> Result<Listing, VerifyError> {
    let source = Arc::new(Directory(metadata.to_owned()));
    refresh(record, source, Clock::system().wall()).await
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// What a host says of a case.
async fn said(case: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("trust.record");
    let (first, now) = (case.join("first"), case.join("now"));
    let begins = if first.exists() { &first } else { &now };
    let root = fs::read_to_string(begins.join("1.root.json")).unwrap();
    Record::pinned(root).save(&record).unwrap();
    if first.exists() {
        look(&record, &first).await.unwrap();
    }
    let before = Record::load(&record).unwrap();
    match look(&record, &now).await {
        Ok(listing) if listing.releases.is_empty() => "unlisted".to_owned(),
        Ok(_) => "listed".to_owned(),
        Err(error) => {
            let after = Record::load(&record).unwrap();
            assert_eq!(
                after.targets,
                before.targets,
                "{} changed the list",
                case.display()
            );
            chain(&error)
        }
    }
}

#[tokio::test]
async fn hostile_repositories_that_python_tuf_makes_are_refused_each_by_its_rule() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    script(&python, &[Path::new("make"), dir.path()]);
    let mut made: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    made.sort();
    let mut expected: Vec<&str> = EXPECTED.iter().map(|(case, _)| *case).collect();
    expected.sort_unstable();
    assert_eq!(made, expected, "each case has its answer here");
    for (case, part) in EXPECTED {
        let said = said(&dir.path().join(case)).await;
        assert!(said.contains(part), "{case}: {said}");
        assert_eq!(said == "listed", part == "listed", "{case}: {said}");
    }
}
