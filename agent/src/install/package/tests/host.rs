//! A host with a package database of its own, and packages and releases to try on it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use super::super::*;
use crate::install::Kind;
use crate::testing::{TestHost, record_of, site_at};
use crate::trust::Unverified;

/// A host with a package database of its own.
pub(super) struct DebHost {
    pub(super) host: TestHost,
}

/// What a package is made of.
#[derive(Clone, Copy)]
pub(super) struct Made<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    /// More lines of its control file.
    pub(super) control: &'a str,
    pub(super) arch: &'a str,
}

pub(super) fn made<'a>(name: &'a str, version: &'a str) -> Made<'a> {
    Made {
        name,
        version,
        control: "",
        arch: "amd64",
    }
}

/// Whether this machine can run these tests; says so where it cannot.
pub(super) fn can_run(tools: &[&str]) -> bool {
    let root = rustix::process::geteuid().is_root();
    let has = |tool: &&str| Command::new(tool).arg("--version").output().is_ok();
    let can = root && tools.iter().all(has);
    if !can {
        eprintln!("skipped: needs root and {}", tools.join(", "));
    }
    can
}

pub(super) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said} {errors}");
    said
}

/// A release of `tools` with these packages.
pub(super) fn release(dir: &Path, version: &str, recipe: &str, packages: &[PathBuf]) -> Verified {
    let source = tempfile::tempdir_in(dir).unwrap();
    fs::create_dir_all(source.path().join("files/sub")).unwrap();
    for package in packages {
        let name = package.file_name().unwrap();
        fs::copy(package, source.path().join("files/sub").join(name)).unwrap();
    }
    fs::write(source.path().join("files/notes"), version).unwrap();
    let manifest = format!(
        "name = \"tools\"\nversion = \"{version}\"\n{recipe}\n[timeouts]\nactivate = \"1m\"\n"
    );
    fs::write(source.path().join("release.toml"), manifest).unwrap();
    let out = dir.join(format!("tools-{version}.bundle"));
    let built = comber_bundle::build(source.path(), &out, &mut |_| {}).unwrap();
    let unverified = Unverified {
        path: built.path,
        artifact: built.artifact,
    };
    unverified.assume(&built.listing.manifest().id()).unwrap()
}

/// Of a release that only says that it is one of packages.
pub(super) const PLAIN: &str = "[installer]\ntype = \"package\"";

pub(super) async fn staged(dir: &Path, verified: Verified) -> (Record, Kind) {
    let record = record_of(&verified);
    let package = site_at(dir).installer(&record);
    package.stage(verified).await.unwrap();
    (record, package)
}

/// The installer itself, for what is not in the trait.
pub(super) fn inner(dir: &Path, record: &Record) -> Package {
    let comber_model::release::Installer::Package(recipe) = &record.manifest.installer else {
        panic!("{record:?}");
    };
    Package::new(Shelf::new(site_at(dir), record.clone()), recipe.clone())
}

impl DebHost {
    pub(super) fn new() -> Option<Self> {
        if !can_run(&["dpkg", "dpkg-deb", "apt-get"]) {
            return None;
        }
        let host = TestHost::new();
        for dir in [
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "etc/apt/preferences.d",
            "var/log/apt",
            "tmp",
            "usr/lib",
        ] {
            fs::create_dir_all(host.root().join(dir)).unwrap();
        }
        // As on every Debian of today.
        std::os::unix::fs::symlink("usr/lib", host.root().join("lib")).unwrap();
        fs::write(host.root().join("var/lib/dpkg/status"), "").unwrap();
        fs::create_dir(host.dir().join("pool")).unwrap();
        Some(Self { host })
    }

    pub(super) fn dir(&self) -> &Path {
        self.host.dir()
    }

    /// Makes a package with a program, a link, a file below /lib and a configuration file.
    pub(super) fn deb(&self, made: Made<'_>) -> PathBuf {
        let Made {
            name,
            version,
            control,
            arch,
        } = made;
        let source = tempfile::tempdir_in(self.dir()).unwrap();
        let tree = source.path().join("tree");
        let write = |path: &str, text: &str| {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: {arch}\nInstalled-Size: 12\n\
             Maintainer: A <a@example.org>\nDescription: made by a test\n{control}"
        );
        write("DEBIAN/control", &control);
        write("DEBIAN/conffiles", &format!("/etc/{name}.conf\n"));
        write(&format!("etc/{name}.conf"), &format!("conf of {version}\n"));
        write(
            &format!("usr/bin/{name}"),
            &format!("#!/bin/sh\necho {version}\n"),
        );
        write(&format!("lib/{name}/data"), version);
        std::os::unix::fs::symlink(name, tree.join(format!("usr/bin/{name}-link"))).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
        fs::set_permissions(tree.join(format!("usr/bin/{name}")), executable).unwrap();
        let out = self.dir().join(format!("pool/{name}_{version}_{arch}.deb"));
        run(Command::new("dpkg-deb")
            .args(["-Zgzip", "-z1", "--root-owner-group", "--build"])
            .arg(&tree)
            .arg(&out));
        out
    }

    /// Makes an archive of packages that the host's sources name.
    pub(super) fn offer(&self, debs: &[&PathBuf]) {
        let archive = self.dir().join("archive");
        fs::create_dir(&archive).unwrap();
        let mut index = String::new();
        for deb in debs {
            let name = deb.file_name().unwrap().to_str().unwrap();
            fs::copy(deb, archive.join(name)).unwrap();
            let control = run(Command::new("dpkg-deb").arg("--field").arg(deb));
            let bytes = fs::read(deb).unwrap();
            let sum = Sha256::digest(&bytes);
            let sum: Vec<String> = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = write!(
                index,
                "{control}Filename: ./{name}\nSize: {}\nSHA256: {}\n\n",
                bytes.len(),
                sum.concat()
            );
        }
        fs::write(archive.join("Packages"), index).unwrap();
        let source = format!("deb [trusted=yes] file:{} ./\n", archive.display());
        fs::write(self.host.root().join("etc/apt/sources.list"), source).unwrap();
    }

    pub(super) fn dpkg(&self, words: &[&str]) -> String {
        let mut command = Command::new("dpkg");
        let root = format!("--root={}", self.host.root().display());
        run(command
            .arg(root)
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    }

    pub(super) fn by_hand(&self, debs: &[&PathBuf]) {
        let names: Vec<String> = debs.iter().map(|deb| deb.display().to_string()).collect();
        let mut words = vec!["-i"];
        words.extend(names.iter().map(String::as_str));
        self.dpkg(&words);
    }

    /// All packages with how they stand, as `dpkg -l` shows them.
    pub(super) fn packages(&self) -> String {
        let database = self.host.root().join("var/lib/dpkg");
        let mut command = Command::new("dpkg-query");
        let said = run(command
            .arg(format!("--admindir={}", database.display()))
            .args([
                "-W",
                "-f",
                "${db:Status-Abbrev}${Package} ${Version} ${Architecture}, ",
            ]));
        said.trim_end_matches(", ").to_owned()
    }

    pub(super) fn audit(&self) -> String {
        self.dpkg(&["--audit"])
    }

    pub(super) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.host.root().join(path)).unwrap_or_default()
    }

    pub(super) async fn staged(
        &self,
        version: &str,
        recipe: &str,
        debs: &[PathBuf],
    ) -> (Record, Kind) {
        staged(self.dir(), release(self.dir(), version, recipe, debs)).await
    }
}

pub(super) fn detected(package: &Kind) -> String {
    match package.detect().unwrap() {
        Current::Release(record) => record.manifest.version.to_string(),
        other => format!("{other:?}"),
    }
}

pub(super) fn told<T: std::fmt::Debug>(result: Result<T, InstallError>) -> String {
    let error = result.unwrap_err();
    comber_runtime::telemetry::error_chain(&error)
}
