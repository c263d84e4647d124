//! A publisher, the directory it exports to, and hosts that look at it through somebody in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use comber_trust::publisher::{Lives, Publisher};
use comber_trust::{
    Directory, Listing, Record, RoleType, Signed, Signer, SigningKey, Source, VerifyError, refresh,
};
use jiff::Timestamp;
use tempfile::TempDir;

/// One publisher with a key for each role; the root has three, two of which must sign.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) roots: Vec<SigningKey>,
    pub(crate) release: SigningKey,
    pub(crate) online: SigningKey,
    pub(crate) now: Timestamp,
}

pub(crate) fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

pub(crate) fn entry(id: &str, counter: u64) -> Signed {
    let (product, version) = id.split_once('@').unwrap();
    Signed {
        product: product.parse().unwrap(),
        version: version.parse().unwrap(),
        counter,
        platforms: None,
        min_agent: None,
        min_from: None,
        rollback_ok: true,
    }
}

impl Site {
    /// Publishes the first root and an empty list.
    pub(crate) fn new() -> Self {
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
            roots: vec![key(), key(), key()],
            release: key(),
            online: key(),
            now: now(),
        };
        let roots = site.roots.iter().map(Signer::public).collect();
        let keys = BTreeMap::from([
            ("root", (roots, 2)),
            ("targets", (vec![site.release.public()], 1)),
            ("snapshot", (vec![site.online.public()], 1)),
            ("timestamp", (vec![site.online.public()], 1)),
        ]);
        let publisher = Publisher::init(&site.repo(), &keys, Lives::default(), site.now).unwrap();
        publisher
            .sign(&[&site.roots[0], &site.roots[1], &site.release, &site.online])
            .unwrap();
        publisher.finish().unwrap();
        site
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::open(&self.repo(), Lives::default(), self.now).unwrap()
    }

    pub(crate) fn bundle(&self, content: &str) -> PathBuf {
        let path = self.dir.path().join("bundle");
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Adds a release and publishes the list.
    pub(crate) fn release(&self, id: &str, counter: u64) {
        let bundle = self.bundle(id);
        self.publisher().add(&bundle, entry(id, counter)).unwrap();
        self.publish();
    }

    /// Signs with the everyday keys and publishes.
    pub(crate) fn publish(&self) {
        let publisher = self.publisher();
        publisher.sign(&[&self.release, &self.online]).unwrap();
        publisher.finish().unwrap();
    }

    pub(crate) fn metadata(&self) -> PathBuf {
        self.repo().join("metadata")
    }

    /// A copy of the metadata as it is now, for somebody who shows it later.
    pub(crate) fn photograph(&self, name: &str) -> PathBuf {
        let to = self.dir.path().join(name);
        self.publisher().export(&to).unwrap();
        to.join("metadata")
    }

    pub(crate) fn root(&self, number: u64) -> String {
        std::fs::read_to_string(self.metadata().join(format!("{number}.root.json"))).unwrap()
    }

    /// A host that was given the first root.
    pub(crate) fn host(&self) -> Host {
        let dir = tempfile::tempdir().unwrap();
        Record::pinned(self.root(1))
            .save(&dir.path().join("trust.json"))
            .unwrap();
        Host { dir }
    }
}

/// One host's record.
pub(crate) struct Host {
    dir: TempDir,
}

impl Host {
    pub(crate) fn record(&self) -> PathBuf {
        self.dir.path().join("trust.json")
    }

    pub(crate) async fn look(&self, metadata: &Path) -> Result<Listing, VerifyError> {
        self.look_at(Arc::new(Directory(metadata.to_owned()))).await
    }

    pub(crate) async fn look_at(&self, source: Arc<dyn Source>) -> Result<Listing, VerifyError> {
        refresh(&self.record(), source, now()).await
    }
}

/// The names of what is listed.
pub(crate) fn names(listing: &Listing) -> Vec<String> {
    listing.releases.keys().map(ToString::to_string).collect()
}

pub(crate) fn role_of(error: &VerifyError) -> Option<RoleType> {
    match error {
        VerifyError::Older { role, .. } | VerifyError::Expired { role } => Some(*role),
        _ => None,
    }
}

/// The library reads the machine's clock itself, so tests go by that one too.
pub(crate) fn now() -> Timestamp {
    comber_runtime::clock::Clock::system().wall()
}
