//! Runs `hosts.sh` for one fleet.
//!
//! Invariant: every command carries the fleet's own name and directory, so none can touch another fleet's hosts.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use comber_test_support::Ran;

/// The script beside this crate's manifest.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hosts.sh");

/// The script with the name of one fleet.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    fleet: String,
    directory: PathBuf,
    cache: PathBuf,
    options: FleetOptions,
}

/// What the hosts of a fleet have that others have not.
#[derive(Debug, Clone, Default)]
pub struct FleetOptions {
    /// Packages of Debian beside those of every host.
    pub more: Vec<&'static str>,
    /// The size of each host's disk, as `truncate` takes it; 2 GB where empty.
    pub disk: &'static str,
}

impl Script {
    /// For the fleet of that name, whose directory is `directory`; base trees are in `cache`.
    pub(crate) fn new(fleet: &str, directory: &Path, cache: &Path) -> Self {
        Self {
            fleet: fleet.to_owned(),
            directory: directory.to_owned(),
            cache: cache.to_owned(),
            options: FleetOptions::default(),
        }
    }

    /// The same for hosts with those options.
    pub(crate) fn with(self, options: &FleetOptions) -> Self {
        Self {
            options: options.clone(),
            ..self
        }
    }

    /// The fleet's name.
    pub(crate) fn fleet(&self) -> &str {
        &self.fleet
    }

    /// The script with these arguments, without standard input.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(SCRIPT);
        command
            .args(arguments)
            .env("FLEET", &self.fleet)
            .env("FLEET_DIR", &self.directory)
            .env("FLEET_CACHE", &self.cache)
            .env("FLEET_MORE", self.options.more.join(" "))
            .env("FLEET_DISK", self.options.disk)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end, whatever that is.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Ran> {
        let output = self.command(arguments).output();
        Ok(Ran::from(output.context("cannot run hosts.sh")?))
    }

    /// Runs it and insists that it succeeds; gives its standard output.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let ran = self.run(arguments)?;
        succeeded(&said(arguments), &ran)?;
        Ok(ran.stdout)
    }
}

/// Insists that what was run succeeded.
pub(crate) fn succeeded(what: &str, ran: &Ran) -> Result<()> {
    let Ran {
        code,
        stdout,
        stderr,
    } = ran;
    ensure!(*code == 0, "{what} ended with {code}:\n{stdout}{stderr}");
    Ok(())
}

/// A command line, for errors.
pub(crate) fn said<S: AsRef<OsStr>>(arguments: &[S]) -> String {
    let words = arguments.iter().map(|word| word.as_ref().to_string_lossy());
    words.collect::<Vec<_>>().join(" ")
}
