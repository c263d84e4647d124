//! One host: what a person at its console, its power switch and its cable can do.
//!
//! Everything here goes through `hosts.sh`; what must be quicker is in `inside`. A handle is only a name: it may be
//! cloned and used from any thread, and outlives no host.

use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use comber_test_support::Ran;

use crate::script::{Script, said, succeeded};

/// A host of a fleet.
#[derive(Debug, Clone)]
pub struct Host {
    script: Script,
    name: String,
    pub(crate) cgroup: PathBuf,
}

impl Host {
    pub(crate) fn new(script: &Script, name: &str) -> Result<Self> {
        let cgroup = script.ok(&["cgroup", name])?;
        Ok(Self {
            script: script.clone(),
            name: name.to_owned(),
            cgroup: cgroup.trim().into(),
        })
    }

    /// `h1`, `h2` and so on: its name in the network, and in the controller's fleet.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> Result<String> {
        Ok(self.script.ok(&["addr", &self.name])?.trim().to_owned())
    }

    /// Runs a command on it to its end, whatever that is.
    pub fn run(&self, command: &[&str]) -> Result<Ran> {
        self.script.run(&self.exec_words(command))
    }

    /// Runs a command on it and insists that it succeeds; gives its standard output.
    pub fn exec(&self, command: &[&str]) -> Result<String> {
        let ran = self.run(command)?;
        succeeded(&format!("{}: {}", self.name, said(command)), &ran)?;
        Ok(ran.stdout)
    }

    /// Runs a shell script on it and insists that it succeeds.
    pub fn shell(&self, script: &str) -> Result<String> {
        self.exec(&["sh", "-ec", script])
    }

    /// Copies a file to it, with its mode, and the directories above it.
    pub fn push(&self, file: &Path, path: &str) -> Result<()> {
        self.make_parent(path)?;
        let words: [&Path; 4] = ["push".as_ref(), file, self.name.as_ref(), path.as_ref()];
        self.script.ok(&words).map(drop)
    }

    /// Writes a file on it, and the directories above it.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        self.make_parent(path)?;
        let words = self.exec_words(&["sh", "-c", "cat >\"$1\"", "sh", path]);
        let mut child = self
            .script
            .command(&words)
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run hosts.sh")?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(content)?;
        }
        let status = child.wait()?;
        ensure!(status.success(), "{}: cannot write {path}", self.name);
        Ok(())
    }

    /// What is in a file of it.
    pub fn pull(&self, path: &str) -> Result<Vec<u8>> {
        let output = self.script.command(&["pull", &self.name, path]).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{}: cannot read {path}: {error}",
            self.name
        );
        Ok(output.stdout)
    }

    /// What its journal holds of a unit, over all boots.
    pub fn journal(&self, unit: &str) -> Result<String> {
        self.exec(&[
            "journalctl",
            "--no-pager",
            "-o",
            "short-precise",
            "-u",
            unit,
        ])
    }

    /// Reboots it in good order; returns when it has booted.
    pub fn reboot(&self) -> Result<()> {
        self.order("reboot")
    }

    /// Powers it off in good order.
    pub fn poweroff(&self) -> Result<()> {
        self.order("poweroff")
    }

    /// Cuts its power: what was not fsynced is lost, and its peers are told nothing.
    pub fn powercut(&self) -> Result<()> {
        self.order("powercut")
    }

    /// Boots it where it is off; returns when it has booted.
    pub fn start(&self) -> Result<()> {
        self.order("start")
    }

    /// Returns when it has booted.
    pub fn wait(&self) -> Result<()> {
        self.order("wait")
    }

    /// Pulls its cable: it sees that there is no carrier.
    pub fn cut(&self) -> Result<()> {
        self.order("cut")
    }

    /// Loses every frame behind a carrier that stays.
    pub fn cut_dark(&self) -> Result<()> {
        self.script.ok(&["cut", &self.name, "dark"]).map(drop)
    }

    /// Puts the cable back.
    pub fn heal(&self) -> Result<()> {
        self.order("heal")
    }

    /// Makes its line slow, each way: `delay=MS`, `jitter=MS`, `loss=%`, `dup=%`, `rate=KBIT`, `queue=KB`.
    pub fn slow(&self, how: &[&str]) -> Result<()> {
        let mut words = vec!["slow", &self.name];
        words.extend(how);
        self.script.ok(&words).map(drop)
    }

    /// Ends that.
    pub fn fast(&self) -> Result<()> {
        self.order("fast")
    }

    fn order(&self, what: &str) -> Result<()> {
        self.script.ok(&[what, &self.name]).map(drop)
    }

    fn exec_words<'a>(&'a self, command: &[&'a str]) -> Vec<&'a str> {
        let mut words = vec!["exec", &self.name];
        words.extend(command);
        words
    }

    fn make_parent(&self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => {
                self.exec(&["mkdir", "-p", parent]).map(drop)
            }
            Some(_) | None => Ok(()),
        }
    }
}
