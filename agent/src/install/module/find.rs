//! Which executable is a module, and whether it may be run.
//!
//! Looks at names, owners and modes. Invariant: a module is run as root, so nobody but root (and the agent's own user)
//! can have written it, or have put another in its place.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::ModuleError;
use super::payload::is_executable;
use super::tree::io_at;

/// The host's module of that name: that of the first directory which has one.
pub(super) fn on_host(module: &str, dirs: &[PathBuf]) -> Result<PathBuf, ModuleError> {
    for dir in dirs {
        let path = dir.join(module);
        if fs::symlink_metadata(&path).is_ok() {
            check(&path)?;
            return Ok(path);
        }
    }
    Err(ModuleError::NoModule {
        module: module.to_owned(),
        dirs: dirs.to_vec(),
    })
}

/// The release's own module, which its digest vouches for.
pub(super) fn carried(place: &Path, carried: &str) -> Result<PathBuf, ModuleError> {
    let path = place.join(carried);
    if is_executable(&path) {
        return Ok(path);
    }
    Err(ModuleError::Untrusted {
        path,
        problem: "the release has no executable file there",
    })
}

/// Whether only root could have put it there, by every directory on the way to the name and to what it leads to.
pub(super) fn check(path: &Path) -> Result<(), ModuleError> {
    let refuse = |problem| {
        let path = path.to_owned();
        Err(ModuleError::Untrusted { path, problem })
    };
    let real = fs::canonicalize(path).map_err(io_at("find", path))?;
    let dir = path.parent().unwrap_or(path);
    let dir = fs::canonicalize(dir).map_err(io_at("find", dir))?;
    for place in real.ancestors().chain(dir.ancestors()) {
        let metadata = fs::metadata(place).map_err(io_at("look at", place))?;
        if let Some(problem) = problem(&metadata) {
            return refuse(problem);
        }
    }
    let metadata = fs::metadata(&real).map_err(io_at("look at", &real))?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return refuse("it is not an executable file");
    }
    Ok(())
}

fn problem(metadata: &Metadata) -> Option<&'static str> {
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != own {
        return Some("it or a directory above it does not belong to root");
    }
    let mode = metadata.permissions().mode();
    // In a sticky directory such as /tmp others can add names, and what they add is theirs.
    let is_sticky = metadata.is_dir() && mode & 0o1000 != 0;
    (mode & 0o022 != 0 && !is_sticky)
        .then_some("others than root can write to it or to a directory above it")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn module(dir: &Path, mode: u32) -> PathBuf {
        fs::create_dir_all(dir).unwrap();
        let path = dir.join("m");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_first_directory_that_has_the_module_counts() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = ["none", "first", "second"].map(|name| dir.path().join(name));
        let second = module(&dirs[2], 0o755);
        assert_eq!(on_host("m", &dirs).unwrap(), second);
        let first = module(&dirs[1], 0o755);
        assert_eq!(on_host("m", &dirs).unwrap(), first);
        let error = on_host("other", &dirs).unwrap_err().to_string();
        assert!(error.starts_with("no module other is in "), "{error}");
    }

    #[test]
    fn what_others_could_have_written_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o775, 0o757] {
            let path = module(&dir.path().join("a"), mode);
            assert!(check(&path).is_err(), "{mode:o}");
        }
        assert!(check(&module(&dir.path().join("a"), 0o644)).is_err());
        let good = module(&dir.path().join("a"), 0o755);
        check(&good).unwrap();
        // A good file behind a link in a directory that others can write to.
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        let link = open.join("m");
        symlink(&good, &link).unwrap();
        assert!(check(&link).is_err());
        // And the other way round.
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        symlink(module(&open.join("deep"), 0o755), closed.join("m")).unwrap();
        assert!(check(&closed.join("m")).is_err());
    }
}
