//! Comber's own packages, made by the one command that makes them.
//!
//! Quick builds: the programs are those that every other test runs. Invariant: what is given was made in this process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use comber_test_support::target_directory;

/// Packages of the three programs, for Debian.
#[derive(Debug, Clone)]
pub struct Debs {
    directory: PathBuf,
}

impl Debs {
    /// Makes them. The first time the tools for it are built, which takes minutes.
    pub fn make() -> Result<Self> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["packages", "--quick"])
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

    /// The package of a program; there is exactly one.
    pub fn of(&self, program: &str) -> Result<PathBuf> {
        let begin = format!("{program}_");
        let is_it = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let is_deb = path.extension().is_some_and(|extension| extension == "deb");
            is_deb && name.is_some_and(|name| name.starts_with(&begin))
        };
        let mut found = Vec::new();
        for entry in self.directory.read_dir()? {
            found.extend(Some(entry?.path()).filter(|path| is_it(path)));
        }
        ensure!(found.len() == 1, "{program}: {found:?}");
        found.pop().context("no package")
    }
}
