//! A host of the agent for these tests, and the releases that go to it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use comber_agent::exec::Exec;
use comber_agent::install::{Catalog, Current, InstallError, Installer, Jobs, Kind, Record, Site};
use comber_agent::trust::Unverified;
use tempfile::TempDir;

/// What every file of a payload is called and holds.
pub(crate) type Payload = Vec<(String, Vec<u8>)>;

/// Removed at its end.
pub(crate) struct Host {
    dir: TempDir,
    pub(crate) variables: BTreeMap<String, String>,
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
        Site {
            root: self.dir().join("root"),
            shelves: state.join("shelves"),
            modules: vec![self.dir().join("modules")],
            exec: Exec::new(&state),
            variables: self.variables.clone(),
            catalog: Catalog::new(&state),
            jobs: Jobs::default(),
        }
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
        let verified = unverified.verify(&record.id()).unwrap();
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
