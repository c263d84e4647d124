//! Each package holds the tree of `packaging/`, its program, and what is made for it, as .deb and as .rpm.
//!
//! It needs the tools that `cargo packages` installs; where that never ran, it says so and looks at nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use comber_e2e::tools::{packaging, succeeded, tool};
use comber_test_support::Binaries;

/// A package with what it holds beside its program, its completions and its manual pages.
struct Package {
    name: &'static str,
    own: &'static [&'static str],
    section: u8,
}

const PACKAGES: [Package; 3] = [
    Package {
        name: "comber-controller",
        own: &[
            "etc/comber/controller.toml",
            "usr/lib/systemd/system/comber-controller.service",
            "usr/lib/sysusers.d/comber-controller.conf",
            "usr/lib/tmpfiles.d/comber-controller.conf",
        ],
        section: 8,
    },
    Package {
        name: "comber-agent",
        own: &[
            "etc/comber/agent.toml",
            "usr/lib/systemd/system/comber-agent-watch.service",
            "usr/lib/systemd/system/comber-agent.service",
            "usr/lib/tmpfiles.d/comber-agent.conf",
        ],
        section: 8,
    },
    Package {
        name: "comber",
        own: &[
            "usr/lib/systemd/system/comber-refresh.service",
            "usr/lib/systemd/system/comber-refresh.timer",
        ],
        section: 1,
    },
];

impl Package {
    /// Whatever the format, only the place of completions for zsh differs between distributions.
    #[track_caller]
    fn is_whole(&self, held: &BTreeSet<String>, zsh: &str) {
        let (name, section) = (self.name, self.section);
        let made = [
            format!("usr/bin/{name}"),
            format!("usr/share/man/man{section}/{name}.{section}.gz"),
            format!("usr/share/bash-completion/completions/{name}"),
            format!("usr/share/zsh/{zsh}/_{name}"),
            format!("usr/share/fish/vendor_completions.d/{name}.fish"),
            format!("usr/share/doc/{name}/sbom.cdx.json"),
        ];
        let made = made.iter().map(String::as_str);
        for file in made.chain(self.own.iter().copied()) {
            assert!(held.contains(file), "{name} lacks {file}: {held:?}");
        }
    }

    /// Looks into the .deb, unpacked at `root`.
    #[expect(clippy::unwrap_used, reason = "a test that cannot read has failed")]
    fn is_a_sound_deb(&self, root: &Path) {
        self.is_whole(&files(root), "vendor-completions");
        for file in self.own {
            let (there, here) = (root.join(file), packaging().join(file));
            let same = fs::read(there).unwrap() == fs::read(here).unwrap();
            assert!(same, "{file} is another one than in the tree");
        }
        let conffiles = fs::read_to_string(root.join("DEBIAN/conffiles")).unwrap_or_default();
        let configuration = self.own.iter().filter(|file| file.starts_with("etc/"));
        let expected: Vec<_> = configuration.map(|file| format!("/{file}")).collect();
        assert_eq!(conffiles.lines().collect::<Vec<_>>(), expected);
        for script in ["postinst", "prerm", "postrm"] {
            let script = root.join("DEBIAN").join(script);
            assert_eq!(
                script.exists(),
                packaging().join("debian").join(self.name).is_dir(),
                "{}",
                script.display()
            );
            if script.exists() {
                succeeded(&Command::new("sh").arg("-n").arg(script).output().unwrap());
            }
        }
    }
}

/// Builds the packages where the tools for it are; none where they are not.
#[expect(clippy::unwrap_used, reason = "a test that cannot build has failed")]
fn packages() -> Option<PathBuf> {
    let agent = Binaries::get().unwrap().agent;
    let target = agent.ancestors().nth(2).unwrap();
    if !target.join("tools/bin/cargo-deb").exists() {
        println!("skipped: cargo packages was not run here, so its tools are not there");
        return None;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--package", "comber-packages", "--"]);
    cargo.args(["--quick", "--no-install"]);
    succeeded(&cargo.output().unwrap());
    Some(target.join("packages"))
}

/// The one file of a package, by what its name begins and ends with.
#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot list has failed")]
fn package(packages: &Path, begins: &str, ends: &str) -> PathBuf {
    let entries = fs::read_dir(packages).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begins) && name.ends_with(ends)
    };
    let found = paths.find(fits);
    found.unwrap_or_else(|| panic!("there is no {begins}*{ends}"))
}

/// Every file below a directory, relative to it.
#[expect(clippy::unwrap_used, reason = "a test that cannot list has failed")]
fn files(root: &Path) -> BTreeSet<String> {
    let (mut found, mut left) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap();
                found.insert(name.display().to_string());
            }
        }
    }
    found
}

#[test]
fn every_file_of_the_tree_is_in_one_package() {
    let mut tree = files(&packaging());
    tree.retain(|file| file.starts_with("etc/") || file.starts_with("usr/"));
    let mut installed = Vec::new();
    for package in &PACKAGES {
        installed.extend(package.own.iter().map(|file| (*file).to_owned()));
    }
    installed.sort();
    assert_eq!(tree.into_iter().collect::<Vec<_>>(), installed);
}

#[test]
fn the_packages_hold_the_tree_and_what_is_made_for_it() {
    let Some(packages) = packages() else { return };
    let dir = tempfile::tempdir().unwrap();
    for made in &PACKAGES {
        let deb = package(&packages, &format!("{}_", made.name), ".deb");
        let root = dir.path().join(made.name);
        let mut extract = Command::new("dpkg-deb");
        extract.arg("--raw-extract").args([&deb, &root]);
        if let Some(extracted) = tool(&mut extract) {
            succeeded(&extracted);
            made.is_a_sound_deb(&root);
        }
        let rpm = package(&packages, &format!("{}-0", made.name), ".rpm");
        let mut query = Command::new("rpm");
        query.args(["--query", "--package", "--list"]).arg(&rpm);
        if let Some(listed) = tool(&mut query) {
            let listed = succeeded(&listed);
            let held = listed.lines().map(|line| line.trim_start_matches('/'));
            made.is_whole(&held.map(str::to_owned).collect(), "site-functions");
        }
    }
}
