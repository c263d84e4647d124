//! Each of Debian's modules does under the agent what it is for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use comber_agent::install::Installer;
use comber_runtime::telemetry::error_chain;

use crate::debian::{Debian, run};
use crate::host::{Host, Payload};

pub(crate) fn payload(files: &[(&str, &[u8])]) -> Payload {
    let owned = |(name, bytes): &(&str, &[u8])| ((*name).to_owned(), bytes.to_vec());
    files.iter().map(owned).collect()
}

/// What `single-file` puts to `dest`.
pub(crate) fn single_file(dest: &Path, text: &str) -> Payload {
    payload(&[
        ("dest_dir", dest.to_str().unwrap().as_bytes()),
        ("filename", b"page"),
        ("page", text.as_bytes()),
        ("permissions", b"640"),
    ])
}

/// What `directory` makes of `dest`.
pub(crate) fn directory(work: &Path, dest: &Path, text: &str) -> Payload {
    let content = tempfile::tempdir_in(work).unwrap();
    fs::write(content.path().join("page"), text).unwrap();
    let tar = work.join("update.tar");
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--mtime=@0", "-cf"]).arg(&tar);
    run(command.arg("-C").arg(content.path()).arg(".")).unwrap();
    payload(&[
        ("dest_dir", dest.to_str().unwrap().as_bytes()),
        ("update.tar", &fs::read(&tar).unwrap()),
    ])
}

/// What `deb` installs: one file in a package of its own.
pub(crate) fn deb(work: &Path, version: &str) -> Payload {
    let content = tempfile::tempdir_in(work).unwrap();
    fs::set_permissions(content.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let control = content.path().join("DEBIAN/control");
    fs::create_dir_all(control.parent().unwrap()).unwrap();
    let text = format!(
        "Package: comber-page\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: a page\n"
    );
    fs::write(control, text).unwrap();
    fs::create_dir(content.path().join("opt")).unwrap();
    fs::write(content.path().join("opt/page"), version).unwrap();
    let file = work.join("page.deb");
    run(Command::new("dpkg-deb")
        .arg("-b")
        .arg(content.path())
        .arg(&file))
    .unwrap();
    payload(&[("page.deb", &fs::read(file).unwrap())])
}

/// A package database of its own, so that the machine's stays as it is.
pub(crate) fn package_database(dir: &Path) {
    for name in ["info", "updates", "triggers"] {
        fs::create_dir_all(dir.join("var/lib/dpkg").join(name)).unwrap();
    }
    fs::write(dir.join("var/lib/dpkg/status"), "").unwrap();
}

#[tokio::test]
async fn single_file_installs_keeps_and_goes_back() {
    let Some(debian) = Debian::get() else { return };
    let host = Host::new();
    host.module("single-file", &debian.module("single-file"));
    let dest = host.dir().join("www");
    let page = || fs::read_to_string(dest.join("page")).unwrap();
    let old = host
        .staged("1", "single-file", &single_file(&dest, "old"))
        .await;
    old.keep(None).await.unwrap();
    assert_eq!(page(), "old");
    let mode = fs::metadata(dest.join("page"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);

    let new = host
        .staged("2", "single-file", &single_file(&dest, "new"))
        .await;
    new.kind.activate(Some(&old.record)).await.unwrap();
    assert_eq!(page(), "new");
    new.kind.roll_back(Some(&old.record)).await.unwrap();
    assert_eq!(page(), "old");
    assert!(old.is_active());

    new.kind.activate(Some(&old.record)).await.unwrap();
    new.commit().await.unwrap();
    assert_eq!(page(), "new");
    assert!(new.is_active());
}

#[tokio::test]
async fn directory_installs_keeps_and_goes_back() {
    let Some(debian) = Debian::get() else { return };
    let host = Host::new();
    host.module("directory", &debian.module("directory"));
    let dest = host.dir().join("www");
    let page = || fs::read_to_string(dest.join("page")).unwrap();
    let of = |text: &str| directory(host.dir(), &dest, text);
    let old = host.staged("1", "directory", &of("old")).await;
    old.keep(None).await.unwrap();
    let new = host.staged("2", "directory", &of("new")).await;
    new.kind.activate(Some(&old.record)).await.unwrap();
    assert_eq!(page(), "new");
    new.kind.roll_back(Some(&old.record)).await.unwrap();
    assert_eq!(page(), "old");
    new.keep(Some(&old.record)).await.unwrap();
    assert_eq!(page(), "new");

    let root = host
        .staged(
            "3",
            "directory",
            &directory(host.dir(), Path::new("/"), "x"),
        )
        .await;
    let error = error_chain(&root.kind.activate(Some(&new.record)).await.unwrap_err());
    assert!(error.contains("install not supported"), "{error}");
    root.kind.roll_back(Some(&new.record)).await.unwrap();
    assert!(new.is_active());
}

#[tokio::test]
async fn script_runs_its_scripts_and_knows_no_way_back() {
    let Some(debian) = Debian::get() else { return };
    let host = Host::new();
    host.module("script", &debian.module("script"));
    let mark = host.dir().join("mark");
    let script = |end: &str| format!("#!/bin/sh\necho ran >>{}\n{end}\n", mark.display());
    let good = payload(&[("run", script("exit 0").as_bytes())]);
    let good = host.staged("1", "script", &good).await;
    good.keep(None).await.unwrap();
    assert_eq!(fs::read_to_string(&mark).unwrap(), "ran\n");
    let bad = payload(&[("run", script("echo why; exit 1").as_bytes())]);
    let bad = host.staged("2", "script", &bad).await;
    let error = error_chain(&bad.kind.activate(Some(&good.record)).await.unwrap_err());
    assert!(error.ends_with("its output ends: why"), "{error}");
    let error = bad.kind.roll_back(Some(&good.record)).await.unwrap_err();
    assert!(error.to_string().contains("knows no way back"), "{error}");
}

#[tokio::test]
async fn deb_installs_packages() {
    let Some(debian) = Debian::get() else { return };
    if !rustix::process::geteuid().is_root() {
        println!("skipped: dpkg installs for root only");
        return;
    }
    let mut host = Host::new();
    let root = host.dir().join("root");
    package_database(&root);
    let root_text = root.to_str().unwrap().to_owned();
    host.variables.insert("DPKG_ROOT".to_owned(), root_text);
    host.module("deb", &debian.module("deb"));
    for version in ["1", "2"] {
        let release = host.staged(version, "deb", &deb(host.dir(), version)).await;
        release.keep(None).await.unwrap();
        assert_eq!(fs::read_to_string(root.join("opt/page")).unwrap(), version);
        let status = fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
        assert!(
            status.contains(&format!("Version: {version}\n")),
            "{status}"
        );
    }
}
