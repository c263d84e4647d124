//! A host of the agent for these tests, and the releases that go to it.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use comber_agent::exec::Exec;
use comber_agent::fetch::Patience;
use comber_agent::install::{Catalog, Current, InstallError, Installer, Jobs, Kind, Record, Site};
use comber_agent::link::LinkView;
use comber_agent::trust::{Assigned, Keeper, Listed, Unverified, Wait};
use comber_agent::update::Itself;
use comber_runtime::clock::Clock;
use comber_trust::Directory;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::vendor::Vendor;

/// What every file of a payload is called and holds.
pub(crate) type Payload = Vec<(String, Vec<u8>)>;

/// Removed at its end.
pub(crate) struct Host {
    dir: TempDir,
    pub(crate) variables: BTreeMap<String, String>,
    vendor: OnceCell<Vendor>,
}

impl Host {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["root", "state", "modules"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self {
            dir,
            variables: BTreeMap::new(),
            vendor: OnceCell::new(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Gives the host a module.
    pub(crate) fn module(&self, name: &str, from: &Path) {
        let path = self.dir().join("modules").join(name);
        fs::copy(from, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn site(&self) -> Site {
        let state = self.dir().join("state");
        let link = watch::Sender::new(LinkView::default()).subscribe();
        Site {
            root: self.dir().join("root"),
            shelves: state.join("shelves"),
            modules: vec![self.dir().join("modules")],
            exec: Exec::new(&state),
            variables: self.variables.clone(),
            catalog: Catalog::new(&state),
            jobs: Jobs::default(),
            itself: Itself::here(&state, &self.dir().join("boot_id"), link),
        }
    }

    /// A publisher lists it, and this host believes that.
    async fn listed(&self, bundle: &Path, record: &Record) -> Listed {
        let vendor = self.vendor.get_or_init(|| Vendor::new(self.dir()));
        vendor.list(bundle, &record.artifact, &record.id());
        let state = self.dir().join("state");
        comber_agent::trust::pin(&state, &vendor.root()).unwrap();
        let source = Arc::new(Directory(vendor.metadata()));
        let keeper = Keeper::new(&state, source, Patience::default(), Clock::system());
        let assigned = Assigned {
            release: &record.id(),
            artifact: &record.artifact,
            rolls_back: false,
            installed: None,
        };
        keeper.judge(&assigned, Wait::Short).await.unwrap()
    }

    /// A release of `web`, staged.
    pub(crate) async fn staged(&self, version: &str, module: &str, payload: &Payload) -> Release {
        let source = tempfile::tempdir_in(self.dir()).unwrap();
        write_payload(&source.path().join("files"), payload);
        let manifest = format!(
            "name = \"web\"\nversion = \"{version}\"\n\
             [installer]\ntype = \"module\"\nmodule = \"{module}\"\nmetadata = {{ a = 1 }}\n"
        );
        fs::write(source.path().join("release.toml"), manifest).unwrap();
        let out = self.dir().join(format!("web-{version}.bundle"));
        let built = comber_bundle::build(source.path(), &out, &mut |_| {}).unwrap();
        let manifest = built.listing.manifest().clone();
        let record = Record::new(built.artifact, manifest);
        let unverified = Unverified {
            path: built.path,
            artifact: built.artifact,
        };
        let verified = unverified
            .verify(&self.listed(&out, &record).await)
            .unwrap();
        let kind = self.site().installer(&record);
        kind.stage(verified).await.unwrap();
        Release { record, kind }
    }
}

/// One release on that host.
pub(crate) struct Release {
    pub(crate) record: Record,
    pub(crate) kind: Kind,
}

impl Release {
    /// What the agent does with a release that is good.
    pub(crate) async fn keep(&self, before: Option<&Record>) -> Result<(), InstallError> {
        self.kind.preflight(before).await?;
        self.kind.activate(before).await?;
        self.commit().await
    }

    pub(crate) async fn commit(&self) -> Result<(), InstallError> {
        self.kind.prove().await?;
        self.kind.commit().await?;
        self.kind.cleanup(&[]).await
    }

    pub(crate) fn is_active(&self) -> bool {
        self.kind.detect().unwrap() == Current::Release(Box::new(self.record.clone()))
    }
}

pub(crate) fn write_payload(dir: &Path, payload: &Payload) -> Vec<PathBuf> {
    fs::create_dir_all(dir).unwrap();
    let write = |(name, bytes): &(String, Vec<u8>)| {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    payload.iter().map(write).collect()
}
