//! The three binaries, built once per process with the profile that the caller was built with.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};

const PACKAGES: [&str; 3] = ["comber-controller", "comber-agent", "comber-ctl"];

/// Where the binaries are.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `comber-controller`.
    pub controller: PathBuf,
    /// `comber-agent`.
    pub agent: PathBuf,
    /// `comber`.
    pub comber: PathBuf,
}

impl Binaries {
    /// Builds what is not built yet; quick where everything is. The same binaries for every caller in this process.
    pub fn get() -> Result<Self> {
        static BUILT: OnceLock<Result<Binaries, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| Self::build(&[]).map_err(|error| format!("{error:#}")));
        built.clone().map_err(anyhow::Error::msg)
    }

    /// Builds them together with further packages.
    pub fn build(further: &[&str]) -> Result<Self> {
        let directory = target_directory()?;
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(workspace())
            .args(["build", "--quiet", "--bins"]);
        for package in PACKAGES.iter().chain(further) {
            cargo.args(["--package", package]);
        }
        match directory.file_name().and_then(|name| name.to_str()) {
            Some("debug") => {}
            Some(profile) => {
                cargo.args(["--profile", profile]);
            }
            None => bail!("{} is not a build directory", directory.display()),
        }
        let status = cargo
            .stdin(Stdio::null())
            .status()
            .context("cannot run cargo")?;
        ensure!(status.success(), "cargo build failed: {status}");
        Ok(Self {
            controller: directory.join("comber-controller"),
            agent: directory.join("comber-agent"),
            comber: directory.join("comber"),
        })
    }
}

/// The root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The directory of the running profile's binaries: that of this program, above `deps` for a test.
pub fn target_directory() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let directory = program.parent().context("this program has no directory")?;
    match directory.file_name() {
        Some(name) if name == "deps" => Ok(directory.parent().unwrap_or(directory).to_owned()),
        _ => Ok(directory.to_owned()),
    }
}
