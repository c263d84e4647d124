//! The three programs: how each is built, where it lies, and its command line.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use clap::CommandFactory as _;

use crate::succeed;

/// One program, which is one package.
#[derive(Debug)]
pub(crate) struct Program {
    /// Of the binary and of the package.
    pub(crate) name: &'static str,
    /// Of its crate.
    pub(crate) krate: &'static str,
    /// Where its `Cargo.toml` is, in the workspace.
    pub(crate) dir: &'static str,
    /// The profile of what is shipped.
    profile: &'static str,
    /// Section of its manual pages: 1 is for users, 8 for administrators.
    pub(crate) section: &'static str,
    /// Its command line.
    pub(crate) command: fn() -> clap::Command,
}

/// All of them.
pub(crate) const PROGRAMS: [Program; 3] = [
    Program {
        name: "comber-controller",
        krate: "comber-controller",
        dir: "controller",
        profile: "dist",
        section: "8",
        command: comber_controller::cli::Cli::command,
    },
    Program {
        name: "comber-agent",
        krate: "comber-agent",
        dir: "agent",
        profile: "dist-agent",
        section: "8",
        command: comber_agent::cli::Cli::command,
    },
    Program {
        name: "comber",
        krate: "comber-ctl",
        dir: "controller/ctl",
        profile: "dist",
        section: "1",
        command: comber_ctl::command,
    },
];

/// Builds all of them, those of one profile together: quick builds are then the ones that the tests use.
pub(crate) fn build(quick: bool) -> Result<()> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for program in &PROGRAMS {
        let profile = if quick { "dev" } else { program.profile };
        groups.entry(profile).or_default().push(program.krate);
    }
    for (profile, crates) in groups {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--bins", "--profile", profile]);
        for krate in crates {
            cargo.args(["--package", krate]);
        }
        succeed(&mut cargo)?;
    }
    Ok(())
}

impl Program {
    /// Where cargo put it.
    pub(crate) fn built(&self, target: &Path, quick: bool) -> PathBuf {
        let dir = if quick { "debug" } else { self.profile };
        target.join(dir).join(self.name)
    }
}
