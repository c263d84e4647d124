//! A publisher for tests: a development repository in a directory, to which bundles are added.
//!
//! Used by the tests in this crate and by those over the binary. Invariant: what it lists is signed as a real publisher
//! signs it.

use std::path::{Path, PathBuf};

use comber_model::{Artifact, ReleaseId};
use comber_runtime::clock::Clock;
use comber_trust::publisher::Publisher;
use comber_trust::{Signed, dev};

/// One publisher.
pub(crate) struct Vendor {
    pub(crate) dir: PathBuf,
}

impl Vendor {
    /// Makes its repository below `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        let dir = dir.join("repository");
        dev::create(&dir, now()).unwrap();
        Self { dir }
    }

    /// What anybody relays.
    pub(crate) fn metadata(&self) -> PathBuf {
        self.dir.join("metadata")
    }

    /// Its first root.
    pub(crate) fn root(&self) -> String {
        std::fs::read_to_string(self.metadata().join("1.root.json")).unwrap()
    }

    /// Lists a carried bundle, above all that it listed before.
    pub(crate) fn list(&self, carried: &Path, artifact: &Artifact, id: &ReleaseId) -> u64 {
        self.list_with(carried, artifact, id, |_| {})
    }

    /// The same with more said of it.
    pub(crate) fn list_with(
        &self,
        carried: &Path,
        artifact: &Artifact,
        id: &ReleaseId,
        more: impl FnOnce(&mut Signed),
    ) -> u64 {
        let publisher = self.publisher();
        let tar = self.dir.join("decoded");
        comber_bundle::decode(carried, artifact, &tar).unwrap();
        // Tests may give other bytes to a version.
        let _ = publisher.withdraw(id);
        let mut signed = Signed {
            product: id.name.clone(),
            version: id.version.clone(),
            counter: publisher.next_counter(&id.name).unwrap(),
            platforms: None,
            min_agent: None,
            min_from: None,
            rollback_ok: true,
        };
        more(&mut signed);
        let counter = signed.counter;
        publisher.add(&tar, signed).unwrap();
        self.publish();
        counter
    }

    pub(crate) fn publish(&self) {
        dev::publish(&self.dir, now()).unwrap();
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::open(&self.dir, dev::lives(), now()).unwrap()
    }
}

/// The library reads the machine's clock, so its repositories are made by that.
pub(crate) fn now() -> jiff::Timestamp {
    Clock::system().wall()
}
