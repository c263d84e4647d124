//! A small host for tests: a root, a state directory, and releases that write down what is done with them.

use std::cell::OnceCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use comber_model::ReleaseId;
use comber_runtime::environment::Launched;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::exec::Exec;
use crate::install::{Catalog, Jobs, Record, Site};
use crate::link::LinkView;
use crate::surroundings::Variables;
use crate::systemd::{Systemd, Use};
use crate::trust::{Unverified, Verified};
use crate::update::{Itself, ServiceKind};

mod vendor;

pub(crate) use vendor::Vendor;

/// Removed at its end.
pub(crate) struct TestHost {
    dir: TempDir,
    vendor: OnceCell<Vendor>,
}

impl TestHost {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        Self {
            dir,
            vendor: OnceCell::new(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Who signs releases for it.
    pub(crate) fn vendor(&self) -> &Vendor {
        self.vendor.get_or_init(|| Vendor::new(self.dir.path()))
    }

    /// Lists what was bundled.
    pub(crate) fn list(&self, carried: &Unverified, id: &ReleaseId) {
        self.vendor().list(&carried.path, &carried.artifact, id);
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

    /// A host that runs systemd, as far as its clients say: what they answer with are files of the same directory, and
    /// what they are asked is in the log.
    pub(crate) fn systemd(&self) -> Systemd {
        let dir = self.dir.path().join("systemd");
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in [
            ("state", "running"),
            ("failed", ""),
            ("inhibitors", r#"{"type":"a(ssssuu)","data":[[]]}"#),
            ("sessions", r#"{"type":"a(susso)","data":[[]]}"#),
        ] {
            fs::write(dir.join(file), text).unwrap();
        }
        let log = self.dir.path().join("log").display().to_string();
        let here = dir.display();
        program(
            &dir.join("systemctl"),
            &format!(
                "case $1 in list-units) cat {here}/failed;; is-system-running) cat {here}/state;; esac"
            ),
        );
        program(
            &dir.join("busctl"),
            &format!(
                "shift 2; case \"$*\" in *ListInhibitors*) cat {here}/inhibitors;; *ListSessions*) cat {here}/sessions;; \
                 get-property*) cat {here}/$(basename $3);; *) shift 4; echo \"logind $*\" >>{log};; esac"
            ),
        );
        program(&dir.join("wall"), &format!("echo \"wall $*\" >>{log}"));
        let path = format!("{here}:/usr/bin:/bin");
        let variables = Variables::from([("PATH".to_owned(), path)]);
        Systemd::new(Exec::new(self.state()), variables, Use::Yes)
    }

    /// What systemd's clients answer from now on.
    pub(crate) fn answers(&self, file: &str, text: &str) {
        fs::write(self.dir.path().join("systemd").join(file), text).unwrap();
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
        carried.assume(&id).unwrap()
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

    /// A release of Comber's own agent, whose program only tells its version.
    pub(crate) fn agent_release(&self, version: &str) -> Verified {
        let source = tempfile::tempdir_in(self.dir.path()).unwrap();
        let program = source.path().join("files/comber-agent");
        fs::create_dir(source.path().join("files")).unwrap();
        fs::write(
            &program,
            format!("#!/bin/sh\necho comber-agent {version}\n"),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let manifest = format!(
            "name = \"comber-agent\"\nversion = \"{version}\"\n[installer]\ntype = \"agent\"\nhealthy_for = \"10ms\"\n"
        );
        fs::write(source.path().join("release.toml"), manifest).unwrap();
        let out = self.dir.path().join(format!("agent-{version}.bundle"));
        let built = comber_bundle::build(source.path(), &out, &mut |_| {}).unwrap();
        let unverified = Unverified {
            path: built.path,
            artifact: built.artifact,
        };
        unverified.assume(&built.listing.manifest().id()).unwrap()
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
        unverified.assume(&built.listing.manifest().id()).unwrap()
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

/// A program that is a shell script.
pub(crate) fn program(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
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
        itself: itself_at(dir, None),
    }
}

/// The agent of a host in that directory, on that place of the shelf; its link stands and its launcher is nothing.
pub(crate) fn itself_at(dir: &Path, slot: Option<&str>) -> Itself {
    let program = dir.join("launcher");
    let launched = slot.map(|slot| Launched {
        slot: slot.to_owned(),
        launcher: program.clone(),
    });
    let service = ServiceKind::Process {
        program: program.clone(),
        arguments: Vec::new(),
        dir: dir.to_owned(),
    };
    let view = LinkView {
        connected: true,
        ..LinkView::default()
    };
    // Its link stands as long as the test.
    let link = Box::leak(Box::new(watch::Sender::new(view))).subscribe();
    let boot_id = dir.join("boot_id");
    Itself::with(
        &dir.join("state"),
        &boot_id,
        link,
        launched,
        (program, service),
    )
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
    Record::of(verified)
}
