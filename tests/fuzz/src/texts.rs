//! What people write and hosts tell as text: manifests, rollout files, selectors, names, lists of packages.
//!
//! Pure. Invariant: what a parser accepted is accepted again in its own spelling.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::sync::OnceLock;

use comber_model::packages::{Difference, PackageList, PackageSummary, Versions};
use comber_model::release::Manifest;
use comber_model::rollout::RolloutSpec;
use comber_model::selector::{Selector, Subject};
use comber_model::{Digest, Facts, Host, Labels, Version};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// `release.toml`.
pub(crate) fn manifest(bytes: &[u8]) {
    let Some(text) = utf8(bytes) else { return };
    if let Ok(manifest) = Manifest::parse(text) {
        assert!(manifest.problems().is_empty());
        again(&manifest);
        spelled(&manifest.id());
    }
}

/// A rollout file.
pub(crate) fn rollout(bytes: &[u8]) {
    let Some(text) = utf8(bytes) else { return };
    if let Ok(spec) = RolloutSpec::parse(text) {
        assert!(spec.problems().is_empty());
        again(&spec);
        spec.starts_at();
        // Whoever previews it compiles its selector.
        Selector::parse(&spec.selector).ok();
    }
}

/// A selector, compiled and asked of a host that has everything and of one that has nothing.
pub(crate) fn selector(bytes: &[u8]) {
    static SUBJECTS: OnceLock<Vec<Subject>> = OnceLock::new();
    let Some(text) = utf8(bytes) else { return };
    if let Ok(selector) = Selector::parse(text) {
        assert_eq!(selector.source(), text);
        for subject in SUBJECTS.get_or_init(subjects) {
            selector.selects(subject);
        }
    }
}

/// Names, versions, labels, tokens: everything that is one word.
pub(crate) fn names(bytes: &[u8]) {
    let Some(text) = utf8(bytes) else { return };
    one::<comber_model::HostId>(text);
    one::<comber_model::ReleaseId>(text);
    one::<comber_model::ReleaseName>(text);
    one::<comber_model::RolloutId>(text);
    one::<comber_model::FreezeName>(text);
    one::<Digest>(text);
    one::<comber_model::Percent>(text);
    one::<comber_model::packages::Package>(text);
    if let Ok(version) = text.parse::<Version>() {
        spelled(&version);
        assert!(!version.is_older_than(&version));
    }
    text.parse::<comber_runtime::token::Token>().ok();
    text.parse::<comber_runtime::peer::PeerIdentity>().ok();
    if let Some((key, value)) = text.split_once('=') {
        let labels = Labels::default().edited([(key.to_owned(), value.to_owned())], []);
        labels.ok().inspect(again);
    }
}

/// A host's list of packages and a change of it: three texts, apart by NUL.
pub(crate) fn packages(bytes: &[u8]) {
    let Some(text) = utf8(bytes) else { return };
    let mut parts = text.splitn(3, '\0');
    let base = PackageList::parse(parts.next().unwrap_or_default());
    let base = base.unwrap_or_default();
    let lines = |text: Option<&str>| {
        text.unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    };
    let change = Difference {
        removed: lines(parts.next()),
        added: lines(parts.next()),
    };
    if let Ok(next) = base.apply(&change) {
        assert_eq!(PackageList::parse(next.as_text()).as_ref(), Ok(&next));
        assert_eq!(base.apply(&next.difference(&base)).as_ref(), Ok(&next));
    }
}

fn subjects() -> Vec<Subject> {
    let disks = [("/".to_owned(), comber_model::facts::DiskFacts::default())];
    let full = Facts {
        disks: disks.into(),
        failed_units: vec!["a.service".to_owned()],
        booted_at: Some(Timestamp::UNIX_EPOCH),
        ..Facts::default()
    };
    let labels =
        [("role", "web"), ("rack", "r1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels = Labels::default().edited(labels, []).unwrap_or_default();
    let mut versions = Versions::default();
    versions.set("openssl".into(), Some("3.0.11-1".into()));
    // As a store keeps one; what it does not say is as it was in the beginning.
    let host = |labels: &Labels, facts: &Facts, packages: Option<PackageSummary>| {
        let host = json!({
            "id": "web-01",
            "labels": labels,
            "facts": facts,
            "packages": packages,
            "enrolled_at": Timestamp::UNIX_EPOCH,
            "retired_at": null,
            "certificate": Digest([0; 32]),
            "certificates_since": Timestamp::UNIX_EPOCH,
        });
        serde_json::from_value::<Host>(host).expect("a host")
    };
    let summary = PackageSummary {
        digest: Digest([1; 32]),
        count: 480,
    };
    vec![
        Subject::new(&host(&labels, &full, Some(summary)), &versions),
        Subject::new(
            &host(&Labels::default(), &Facts::default(), None),
            &Versions::default(),
        ),
    ]
}

pub(crate) fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// It reads back as it was written to a store.
pub(crate) fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let json = serde_json::to_vec(value).expect("a valid value can be written");
    let read: T = serde_json::from_slice(&json).expect("what was written can be read");
    assert_eq!(&read, value);
}

fn one<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    text.parse::<T>().ok().as_ref().map(spelled);
}

/// Its own spelling names the same.
fn spelled<T: FromStr + Display + PartialEq + Debug>(value: &T) {
    let text = value.to_string();
    let read = text.parse::<T>().ok();
    assert_eq!(read.as_ref(), Some(value), "{text} is not read again");
}
