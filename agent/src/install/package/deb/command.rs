//! The beginnings of commands of apt and dpkg.
//!
//! Pure. Invariant: none of them asks anything, and each keeps configuration that was changed on the host.

use std::path::Path;

use comber_model::release::Dependencies;

use super::super::tools::words;

/// `apt-get` that never asks; with `Carried` it knows of nothing but what is installed and what it is given.
pub(super) fn apt_get(root: &Path, sources: Dependencies) -> Vec<String> {
    let mut command = words(["apt-get", "--quiet", "--yes"]);
    command.extend(places(root));
    let mut set = |option: &str| command.extend(words(["-o", option]));
    for option in [
        "APT::Install-Recommends=false",
        "APT::Get::AutomaticRemove=false",
        "APT::Sandbox::User=root",
        "DPkg::Use-Pty=false",
        "DPkg::Lock::Timeout=60",
        "DPkg::Options::=--force-confdef",
        "DPkg::Options::=--force-confold",
    ] {
        set(option);
    }
    if sources == Dependencies::Carried {
        for option in [
            "Dir::Etc::SourceList=/dev/null",
            "Dir::Etc::SourceParts=/dev/null",
            "Dir::Etc::Preferences=/dev/null",
            "Dir::Etc::PreferencesParts=/dev/null",
            "Dir::Cache::pkgcache=",
            "Dir::Cache::srcpkgcache=",
        ] {
            set(option);
        }
    }
    command
}

/// Where apt finds a tree that is not its own.
pub(super) fn places(root: &Path) -> Vec<String> {
    if root == Path::new("/") {
        return Vec::new();
    }
    let root = root.display();
    let mut options = Vec::new();
    for option in [
        format!("Dir={root}"),
        format!("Dir::State::status={root}/var/lib/dpkg/status"),
        format!("DPkg::Options::=--root={root}"),
    ] {
        options.extend(["-o".to_owned(), option]);
    }
    options
}

pub(super) fn dpkg(root: &Path, options: &[&str]) -> Vec<String> {
    let mut command = vec!["dpkg".to_owned()];
    if root != Path::new("/") {
        command.push(format!("--root={}", root.display()));
    }
    command.extend(words(options.iter().copied()));
    command
}

pub(super) fn dpkg_change(root: &Path, options: &[&str]) -> Vec<String> {
    let mut command = dpkg(root, &["--force-confdef", "--force-confold"]);
    command.extend(words(options.iter().copied()));
    command
}
