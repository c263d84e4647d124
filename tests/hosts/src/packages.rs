//! A product of Debian packages: two that must have the same version, one with scripts and configuration, made here by
//! `dpkg-deb`.
//!
//! Invariant: what is installed is asked of dpkg and of the files, never of the agent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};

use crate::vendor::{Made, Vendor, Wish};
use crate::{Host, HostLab};

/// Slow enough to be cut off in the middle, as real packages' scripts are.
const POSTINST: &str = "#!/bin/sh\nset -e\nif [ \"$1\" = configure ]; then sleep 0.2; mkdir -p /var/lib/app; cp /usr/share/app/version /var/lib/app/configured; fi\n";

/// What no script should do.
const HANGS: &str = "#!/bin/sh\nsleep infinity\n";

/// Makes releases of it.
#[derive(Debug, Default)]
pub struct Packages {
    number: AtomicU32,
}

/// What a release is beside its wish.
#[derive(Debug, Clone, Copy)]
struct Kind<'a> {
    postinst: &'a str,
    /// Longest time of a run of the manager.
    activate: &'a str,
    /// What the packages say that they take.
    kilobytes: usize,
}

impl Default for Kind<'_> {
    fn default() -> Self {
        Self {
            postinst: POSTINST,
            activate: "1m",
            kilobytes: 300,
        }
    }
}

impl Packages {
    /// A release with a script that never ends, which may take two seconds.
    pub fn make_hanging(&self, lab: &HostLab) -> Result<Made> {
        let kind = Kind {
            postinst: HANGS,
            activate: "2s",
            ..Kind::default()
        };
        self.publish(lab, &Wish::GOOD, &kind)
    }

    /// A release with a script that says that it runs, in `/run/held`, and waits until a file is gone.
    pub fn make_held(&self, lab: &HostLab, until_gone: &str) -> Result<Made> {
        let held = format!("touch /run/held; while [ -e {until_gone} ]; do sleep 0.05; done");
        let kind = Kind {
            postinst: &POSTINST.replace("sleep 0.2", &held),
            ..Kind::default()
        };
        self.publish(lab, &Wish::GOOD, &kind)
    }

    /// A release of which each package says that it takes so much.
    pub fn make_large(&self, lab: &HostLab, kilobytes: usize) -> Result<Made> {
        let kind = Kind {
            kilobytes,
            ..Kind::default()
        };
        self.publish(lab, &Wish::GOOD, &kind)
    }

    fn publish(&self, lab: &HostLab, wish: &Wish, kind: &Kind<'_>) -> Result<Made> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let version = format!("1.{number}");
        let directory = lab.lab().directory().join("packages").join(&version);
        let files = directory.join("files");
        fs::create_dir_all(&files)?;
        let size = format!("Installed-Size: {}\n", kind.kilobytes);
        app(&files, &version, kind.postinst, &size)?;
        data(&files, &version, &wish.bytes(), &size)?;
        let check = if wish.good {
            "true"
        } else {
            "echo the page is missing; exit 1"
        };
        let verify = if wish.good { "20s" } else { "2s" };
        let text = format!(
            "name = \"app\"\nversion = \"{version}\"\n{head}[installer]\ntype = \"package\"\n\
             [timeouts]\nactivate = \"{activate}\"\nreboot = \"60s\"\nverify = \"{verify}\"\n\
             [[check]]\nname = \"page\"\ninterval = \"100ms\"\n\
             exec = {{ command = [\"/bin/sh\", \"-c\", \"[ $(cat /var/lib/app/configured) = {version} ] && {check}\"] }}\n",
            head = wish.head(),
            activate = kind.activate,
        );
        fs::write(directory.join("release.toml"), text)?;
        lab.lab().publish_directory(&directory)?;
        Ok(Made {
            release: format!("app@{version}"),
            version,
        })
    }
}

impl Vendor for Packages {
    fn prepare(&self, host: &Host) -> Result<()> {
        // Something of the administrator's own, which every version must leave alone.
        host.shell("mkdir -p /etc/app; echo mine >/etc/app/local; sync")
            .map(drop)
    }

    fn make(&self, lab: &HostLab, wish: &Wish) -> Result<Made> {
        self.publish(lab, wish, &Kind::default())
    }

    fn installed(&self, host: &Host) -> Result<Option<String>> {
        Ok(versions(host)
            .into_iter()
            .next()
            .map(|(_, version)| version))
    }

    fn prove_whole(&self, host: &Host) -> Result<()> {
        let versions = versions(host);
        let Some((_, version)) = versions.first() else {
            return Ok(());
        };
        let expected: Vec<_> = ["app", "app-data"]
            .map(|name| (format!("ii {name}"), version.clone()))
            .to_vec();
        ensure!(
            versions == expected,
            "{}: {versions:?} are installed",
            host.name()
        );
        let changed = host.exec(&["dpkg", "--verify", "app", "app-data"])?;
        ensure!(
            changed.is_empty(),
            "{}: files of the packages are not theirs: {changed}",
            host.name()
        );
        for path in ["/usr/share/app/version", "/var/lib/app/configured"] {
            let says = String::from_utf8(host.read(path).with_context(|| format!("no {path}"))?)?;
            ensure!(
                says.trim() == version,
                "{}: {path} is of {says}",
                host.name()
            );
        }
        let local = host.read("/etc/app/local").context("no /etc/app/local")?;
        ensure!(
            local == b"mine\n",
            "the administrator's own file was changed"
        );
        Wish::prove(&host.read("/usr/share/app/data").context("no data")?)
    }
}

/// Both packages as dpkg tells them, without those that are gone.
fn versions(host: &Host) -> Vec<(String, String)> {
    // It fails where it knows of none.
    let said = host.exec(&["dpkg", "-l", "app*"]).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (status, name, version) = (words.next()?, words.next()?, words.next()?);
        let known = matches!(name, "app" | "app-data") && status != "un";
        known.then(|| (format!("{status} {name}"), version.to_owned()))
    };
    said.lines().filter_map(line).collect()
}

fn app(files: &Path, version: &str, postinst: &str, size: &str) -> Result<PathBuf> {
    let more = format!("{size}Depends: app-data (= {version})\n");
    build(files, "app", version, &more, |tree| {
        write(tree, "etc/app/app.conf", b"port = 80\n", 0o644)?;
        write(
            tree,
            "usr/share/app/version",
            format!("{version}\n").as_bytes(),
            0o644,
        )?;
        write(tree, "DEBIAN/conffiles", b"/etc/app/app.conf\n", 0o644)?;
        write(tree, "DEBIAN/postinst", postinst.as_bytes(), 0o755)
    })
}

fn data(files: &Path, version: &str, bytes: &[u8], size: &str) -> Result<PathBuf> {
    let more = format!("{size}Breaks: app (<< {version}), app (>> {version})\n");
    build(files, "app-data", version, &more, |tree| {
        write(tree, "usr/share/app/data", bytes, 0o644)
    })
}

/// Builds one package into that directory.
fn build(
    files: &Path,
    name: &str,
    version: &str,
    more: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let tree = files.with_file_name(format!("{name}.tree"));
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\n\
         Maintainer: A <a@example.org>\nDescription: made by a test\n{more}"
    );
    write(&tree, "DEBIAN/control", control.as_bytes(), 0o644)?;
    fill(&tree)?;
    let package = files.join(format!("{name}.deb"));
    let output = Command::new("dpkg-deb")
        .args(["-Zgzip", "--root-owner-group", "--build"])
        .args([&tree, &package])
        .output()
        .context("cannot run dpkg-deb")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "dpkg-deb: {error}");
    fs::remove_dir_all(&tree)?;
    Ok(package)
}

fn write(tree: &Path, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let path = tree.join(path);
    let parent = path.parent().context("a path below the tree")?;
    fs::create_dir_all(parent)?;
    fs::write(&path, bytes)?;
    Ok(fs::set_permissions(
        &path,
        fs::Permissions::from_mode(mode),
    )?)
}
