//! A small host for tests: a root, a state directory, and releases that write down what is done with them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use comber_model::ReleaseId;
use tempfile::TempDir;

use crate::exec::Exec;
use crate::install::{Catalog, Jobs, Record, Site};
use crate::surroundings::Variables;
use crate::trust::{Unverified, Verified};

/// Removed at its end.
pub(crate) struct TestHost {
    dir: TempDir,
}

impl TestHost {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where releases go.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The directory of `webapp`.
    pub(crate) fn product(&self) -> PathBuf {
        self.root().join("opt/webapp")
    }

    pub(crate) fn site(&self) -> Site {
        site_at(self.dir.path())
    }

    /// What the commands of releases wrote down.
    pub(crate) fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn clear_log(&self) {
        fs::write(self.dir.path().join("log"), "").unwrap();
    }

    /// A release of `webapp` whose start and stop write themselves down.
    pub(crate) fn release(&self, version: &str) -> Verified {
        self.release_with(version, &logging("start"), &logging("stop"), "")
    }

    /// A release with these commands, as TOML lists, and more lines at its end.
    pub(crate) fn release_with(
        &self,
        version: &str,
        start: &str,
        stop: &str,
        more: &str,
    ) -> Verified {
        let recipe = format!("start = {start}\nstop = {stop}\n{more}");
        self.release_of("webapp", version, &recipe)
    }

    /// Any release; `recipe` goes on behind the installer's path.
    pub(crate) fn release_of(&self, name: &str, version: &str, recipe: &str) -> Verified {
        let (carried, id) = self.bundle(name, version, recipe);
        carried.verify(&id).unwrap()
    }

    /// The bytes of a release as they are carried.
    pub(crate) fn bundle(
        &self,
        name: &str,
        version: &str,
        recipe: &str,
    ) -> (Unverified, ReleaseId) {
        self.bundle_with(name, version, "", recipe)
    }

    /// A release that says more of itself than of its installer.
    pub(crate) fn bundle_with(
        &self,
        name: &str,
        version: &str,
        release: &str,
        recipe: &str,
    ) -> (Unverified, ReleaseId) {
        let installer = format!("path = \"/opt/{name}\"\n{recipe}");
        self.build(name, version, release, &installer)
    }

    /// A release for that directory.
    pub(crate) fn bundle_at(
        &self,
        name: &str,
        version: &str,
        path: &str,
    ) -> (Unverified, ReleaseId) {
        self.build(name, version, "", &format!("path = \"{path}\""))
    }

    /// A release of `webapp` for the module `m` with these files; `release` and `recipe` go on behind what must be said.
    pub(crate) fn module_release(
        &self,
        version: &str,
        release: &str,
        recipe: &str,
        files: &[(&str, &[u8])],
    ) -> Verified {
        let source = tempfile::tempdir_in(self.dir.path()).unwrap();
        for (name, bytes) in files {
            let path = source.path().join("files").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            let mode = if bytes.starts_with(b"#!") {
                0o755
            } else {
                0o644
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let manifest = format!(
            "name = \"webapp\"\nversion = \"{version}\"\n{release}\n\
             [installer]\ntype = \"module\"\nmodule = \"m\"\n{recipe}\n"
        );
        fs::write(source.path().join("release.toml"), manifest).unwrap();
        let out = self.dir.path().join(format!("webapp-{version}.bundle"));
        let built = comber_bundle::build(source.path(), &out, &mut |_| {}).unwrap();
        let unverified = Unverified {
            path: built.path,
            artifact: built.artifact,
        };
        unverified.verify(&built.listing.manifest().id()).unwrap()
    }

    fn build(
        &self,
        name: &str,
        version: &str,
        release: &str,
        installer: &str,
    ) -> (Unverified, ReleaseId) {
        let source = tempfile::tempdir_in(self.dir.path()).unwrap();
        let files = source.path().join("files");
        fs::create_dir_all(files.join("bin")).unwrap();
        fs::write(files.join("version"), version).unwrap();
        fs::write(files.join("bin/app"), "#!/bin/sh\ncat version\n").unwrap();
        fs::set_permissions(files.join("bin/app"), fs::Permissions::from_mode(0o755)).unwrap();
        let manifest = format!(
            "name = \"{name}\"\nversion = \"{version}\"\n{release}\n\
             [installer]\ntype = \"archive\"\n{installer}\n"
        );
        fs::write(source.path().join("release.toml"), manifest).unwrap();
        let out = self.dir.path().join(format!("{name}-{version}.bundle"));
        let built = comber_bundle::build(source.path(), &out, &mut |_| {}).unwrap();
        let unverified = Unverified {
            path: built.path,
            artifact: built.artifact,
        };
        (unverified, built.listing.manifest().id())
    }
}

/// The site of a host in that directory.
pub(crate) fn site_at(dir: &Path) -> Site {
    let log = dir.join("log").to_str().unwrap().to_owned();
    Site {
        root: dir.join("root"),
        shelves: dir.join("state/shelves"),
        modules: vec![dir.join("modules")],
        exec: Exec::new(dir.join("state")),
        variables: Variables::from([("LOG".to_owned(), log)]),
        catalog: Catalog::new(&dir.join("state")),
        jobs: Jobs::default(),
    }
}

/// A command that writes down its name and the version it runs for.
pub(crate) fn logging(name: &str) -> String {
    let script = format!(
        "echo {name} $(cat version) in $(basename $(pwd)) after ${{COMBER_PREVIOUS}} >>${{LOG}}"
    );
    format!("[\"sh\", \"-c\", \"{script}\"]")
}

/// What the catalog says of a verified release.
pub(crate) fn record_of(verified: &Verified) -> Record {
    Record::new(*verified.artifact(), verified.manifest().clone())
}
