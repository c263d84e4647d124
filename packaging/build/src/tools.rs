//! cargo-deb and cargo-generate-rpm: found or installed in the target directory, always the same versions.
//!
//! They are programs of their own and no dependencies, so that nothing of them reaches what is shipped.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{programs::Program, stage::STAGE, succeed};

/// Names and versions. With another one the packages may look different, so a change is looked at.
const PINNED: [(&str, &str); 2] = [("cargo-deb", "3.8.0"), ("cargo-generate-rpm", "0.21.1")];

/// Both tools, in place.
#[derive(Debug)]
pub(crate) struct Tools {
    target: PathBuf,
}

impl Tools {
    /// Finds them, or installs what is missing.
    pub(crate) fn get(target: &Path, install: bool) -> Result<Self> {
        let tools = Self {
            target: target.to_owned(),
        };
        for (name, version) in PINNED {
            if tools.version(name).as_deref() == Some(version) {
                continue;
            }
            let wanted = format!("{name}@{version}");
            let root = tools.root();
            let how = format!(
                "where there is no network, put the program of {name} {version} into {}",
                root.join("bin").display()
            );
            if !install {
                bail!("{name} {version} is not there; cargo packages installs it; {how}");
            }
            println!("installing {wanted} into {}", root.display());
            tools
                .install(&wanted)
                .with_context(|| format!("cannot install {wanted}; {how}"))?;
        }
        Ok(tools)
    }

    fn root(&self) -> PathBuf {
        self.target.join("tools")
    }

    fn program(&self, name: &str) -> PathBuf {
        self.root().join("bin").join(name)
    }

    /// The version that is there, if any.
    fn version(&self, name: &str) -> Option<String> {
        let asked = Command::new(self.program(name)).arg("--version").output();
        let told = String::from_utf8(asked.ok()?.stdout).ok()?;
        // One says `3.8.0`, the other `cargo-generate-rpm 0.21.1`.
        told.split_whitespace().last().map(str::to_owned)
    }

    /// Built with little effort: they run for a second.
    fn install(&self, wanted: &str) -> Result<()> {
        let root = self.root();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "install", "--quiet", "--locked", "--force", wanted, "--root",
        ]);
        cargo.arg(&root);
        cargo.arg("--target-dir").arg(root.join("build"));
        cargo.envs([
            ("CARGO_PROFILE_RELEASE_LTO", "off"),
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        ]);
        succeed(&mut cargo)
    }

    /// Makes a program's .deb.
    pub(crate) fn deb(
        &self,
        program: &Program,
        revision: u32,
        quick: bool,
        packages: &Path,
    ) -> Result<()> {
        let mut deb = Command::new(self.program("cargo-deb"));
        deb.args(["deb", "--quiet", "--locked", "--no-build", "--no-strip"]);
        deb.args(["--package", program.krate, "--profile", STAGE]);
        deb.args(["--deb-revision", &revision.to_string(), "--output"]);
        deb.arg(packages);
        if quick {
            deb.arg("--fast");
        }
        self.run(deb)
    }

    /// Makes a program's .rpm.
    pub(crate) fn rpm(
        &self,
        program: &Program,
        revision: u32,
        quick: bool,
        packages: &Path,
    ) -> Result<()> {
        let mut rpm = Command::new(self.program("cargo-generate-rpm"));
        rpm.args(["generate-rpm", "--package", program.dir, "--profile", STAGE]);
        rpm.args(["--auto-req", "builtin", "--set-metadata"]);
        rpm.arg(format!("release = \"{revision}\""));
        rpm.arg("--target-dir").arg(&self.target);
        rpm.arg("--output").arg(packages);
        if quick {
            rpm.args(["--payload-compress", "gzip"]);
        }
        self.run(rpm)
    }

    fn run(&self, mut tool: Command) -> Result<()> {
        tool.env("CARGO_TARGET_DIR", &self.target);
        tool.env("CARGO", env!("CARGO"));
        // It says what it made; so does the end of the whole run.
        tool.stdout(Stdio::null());
        succeed(&mut tool)
    }
}
