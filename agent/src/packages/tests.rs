//! Real output, hostile output, and the real tools over databases in temporary directories.

use std::fs;
use std::path::Path;

use super::*;

fn purls(packages: &[Package]) -> Vec<String> {
    packages.iter().map(ToString::to_string).collect()
}

#[test]
fn real_output_of_dpkg_is_read() {
    let text = "installed\tlibstdc++6\t12.2.0-14\tamd64\n\
                config-files\tlinux-image-6.1.0-13-amd64\t6.1.55-1\tamd64\n\
                not-installed\temacs\t\t\n\
                half-installed\tupgrading\t1\tall\n\
                triggers-pending\tvim\t2:9.0.1378-2\tamd64\n";
    assert_eq!(
        purls(&dpkg::listed(text, "debian").unwrap()),
        [
            "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64",
            "pkg:deb/debian/upgrading@1?arch=all",
            "pkg:deb/debian/vim@2:9.0.1378-2?arch=amd64",
        ]
    );
}

#[test]
fn real_output_of_rpm_is_read() {
    let text = "1\topenssl\t3.0.7-24.el9\tx86_64\n\
                0\tbash\t5.1.8-6.el9_1\tx86_64\n\
                0\tgpg-pubkey\t8d8b756f-629e59ec\t(none)\n\
                (none)\told\t1-1\tnoarch\n";
    assert_eq!(
        purls(&rpm::listed(text, "rhel").unwrap()),
        [
            "pkg:rpm/rhel/openssl@3.0.7-24.el9?arch=x86_64&epoch=1",
            "pkg:rpm/rhel/bash@5.1.8-6.el9_1?arch=x86_64",
            "pkg:rpm/rhel/old@1-1?arch=noarch",
        ]
    );
}

/// A list with a hole would say that something is not installed.
#[test]
fn hostile_output_gives_no_list_at_all() {
    for text in [
        "installed\tbash\t5.2\n",
        "installed\tbash\t5.2\tamd64\tmore\n",
        "installed\t\t5.2\tamd64\n",
        "installed\t../../etc/passwd\t5.2\tamd64\n",
        "installed\tbash\t\tamd64\n",
        "installed\tba sh\t5.2\tamd64\n",
        "installed\tb\u{fffd}sh\t5.2\tamd64\n",
        "\n",
    ] {
        let error = dpkg::listed(text, "debian").unwrap_err().to_string();
        assert!(error.contains("no package"), "{text:?}: {error}");
    }
    let long = format!("installed\t{}\t1\tall\n", "a".repeat(100_000));
    let error = dpkg::listed(&long, "debian").unwrap_err().to_string();
    assert!(error.len() < 300, "{error}");
    assert!(rpm::listed("x\ty\n", "rhel").is_err());
}

fn entry(name: &str, version: &str) -> String {
    format!(
        "Package: {name}\nStatus: install ok installed\nMaintainer: x\nArchitecture: all\nVersion: {version}\n\
         Description: x\n\n"
    )
}

fn write(root: &Path, entries: &[(&str, &str)]) {
    let dir = root.join("var/lib/dpkg");
    fs::create_dir_all(&dir).unwrap();
    let text: Vec<String> = entries
        .iter()
        .map(|(name, version)| entry(name, version))
        .collect();
    fs::write(dir.join("status-new"), text.concat()).unwrap();
    fs::rename(dir.join("status-new"), dir.join("status")).unwrap();
}

fn has_dpkg() -> bool {
    let found = Path::new("/usr/bin/dpkg-query").exists();
    if !found {
        eprintln!("skipped: this host has no dpkg-query");
    }
    found
}

#[tokio::test]
async fn the_database_is_read_again_only_when_it_changed() {
    if !has_dpkg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut reader = PackageReader::new(dir.path(), Exec::new(dir.path()));
    assert_eq!(reader.read("debian").await, None, "there is no database");
    write(dir.path(), &[("a", "1"), ("b", "2")]);
    let first = reader.read("debian").await.unwrap();
    assert_eq!(
        first.list.as_text(),
        "pkg:deb/debian/a@1?arch=all\npkg:deb/debian/b@2?arch=all\n"
    );
    let again = reader.read("debian").await.unwrap();
    assert!(Arc::ptr_eq(&first, &again), "it was read again");
    write(dir.path(), &[("a", "1"), ("b", "3")]);
    let changed = reader.read("debian").await.unwrap();
    assert_ne!(changed.digest, first.digest);
    write(dir.path(), &[]);
    assert_eq!(reader.read("debian").await.unwrap().list.count(), 0);
}

#[tokio::test]
async fn a_damaged_database_keeps_what_was_known() {
    if !has_dpkg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a", "1")]);
    let mut reader = PackageReader::new(dir.path(), Exec::new(dir.path()));
    let known = reader.read("debian").await.unwrap();
    fs::write(
        dir.path().join("var/lib/dpkg/status"),
        "Package: \u{1}\nrubbish",
    )
    .unwrap();
    assert_eq!(reader.read("debian").await.unwrap(), known);
    write(dir.path(), &[("c", "1")]);
    assert_ne!(reader.read("debian").await.unwrap(), known);
}

/// Runs a tool of rpm; it must succeed.
fn rpm_tool(program: &str, arguments: &[&str]) {
    let mut command = std::process::Command::new(program);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[tokio::test]
async fn a_real_database_of_rpm_is_read() {
    if !Path::new("/usr/bin/rpmbuild").exists() {
        eprintln!("skipped: this host has no rpmbuild");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("usr/lib/sysimage/rpm");
    fs::create_dir_all(&place).unwrap();
    let database = format!("--dbpath={}", place.display());
    rpm_tool("rpm", &[&database, "--initdb"]);
    let mut reader = PackageReader::new(dir.path(), Exec::new(dir.path()));
    assert_eq!(reader.read("rhel").await.unwrap().list.count(), 0);

    let spec = dir.path().join("fake.spec");
    fs::write(
        &spec,
        "Name: fake\nEpoch: 2\nVersion: 1.0~rc1\nRelease: 3\nSummary: x\nLicense: x\nBuildArch: noarch\n\
         %description\nx\n%files\n",
    )
    .unwrap();
    let top = format!("_topdir {}", dir.path().join("top").display());
    rpm_tool(
        "rpmbuild",
        &["--quiet", "--define", &top, "-bb", spec.to_str().unwrap()],
    );
    let built = dir.path().join("top/RPMS/noarch/fake-1.0~rc1-3.noarch.rpm");
    let built = built.to_str().unwrap();
    rpm_tool(
        "rpm",
        &[&database, "--install", "--justdb", "--nodeps", built],
    );
    let list = reader.read("rhel").await.unwrap();
    assert_eq!(
        list.list.as_text(),
        "pkg:rpm/rhel/fake@1.0~rc1-3?arch=noarch&epoch=2\n"
    );
    let again = reader.read("rhel").await.unwrap();
    assert!(
        Arc::ptr_eq(&list, &again),
        "reading it made it look changed"
    );
}

/// Whatever this host has must be told whole: a package that is refused would hide all others.
#[tokio::test]
async fn the_packages_of_this_host_can_be_told() {
    if Stamp::of_all(Path::new("/")).is_empty() {
        eprintln!("skipped: this host has no package database");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut reader = PackageReader::new("/", Exec::new(scratch.path()));
    let packages = reader.read("debian").await.unwrap();
    assert!(packages.list.count() > 10, "{packages:?}");
    let text = packages.list.as_text();
    assert_eq!(PackageList::parse(text).unwrap(), packages.list);
}
