//! Comber's own packages, for Debian and for RPM hosts, made by the one command that makes them.
//!
//! Quick builds: the programs are those that every other test runs. Invariant: what is given was made in this process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use comber_test_support::target_directory;

/// Packages of the three programs.
#[derive(Debug, Clone)]
pub struct Debs {
    directory: PathBuf,
}

impl Debs {
    /// Makes them. The first time the tools for it are built, which takes minutes.
    pub fn make() -> Result<Self> {
        Self::make_revision(1)
    }

    /// The same in another revision of the same version, in place of those that were made before.
    pub fn make_revision(revision: u32) -> Result<Self> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["packages", "--quick", "--revision"])
            .arg(revision.to_string())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null());
        let status = cargo.status().context("cannot run cargo")?;
        ensure!(status.success(), "cargo packages ended with {status}");
        let profile = target_directory()?;
        let target = profile.parent().unwrap_or(&profile);
        Ok(Self {
            directory: target.join("packages"),
        })
    }

    /// The package of a program for Debian; there is exactly one.
    pub fn of(&self, program: &str) -> Result<PathBuf> {
        self.only(&format!("{program}_"), "deb")
    }

    /// The package of a program for hosts of rpm; there is exactly one.
    pub fn rpm_of(&self, program: &str) -> Result<PathBuf> {
        self.only(&format!("{program}-{}", env!("CARGO_PKG_VERSION")), "rpm")
    }

    fn only(&self, begin: &str, ending: &str) -> Result<PathBuf> {
        let is_it = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let ends = path
                .extension()
                .is_some_and(|extension| extension == ending);
            ends && name.is_some_and(|name| name.starts_with(begin))
        };
        let mut found = Vec::new();
        for entry in self.directory.read_dir()? {
            found.extend(Some(entry?.path()).filter(|path| is_it(path)));
        }
        ensure!(found.len() == 1, "{begin}*.{ending}: {found:?}");
        found.pop().context("no package")
    }
}
