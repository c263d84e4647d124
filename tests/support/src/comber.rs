//! The `comber` command, run as a person or a pipeline runs it.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::Network;

/// The command with one operator's configuration.
#[derive(Debug, Clone)]
pub struct Comber {
    /// The binary.
    pub binary: PathBuf,
    /// The operator's configuration directory.
    pub config: PathBuf,
    /// Where it runs.
    pub network: Network,
}

/// What a run of the command left.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Comber {
    /// The command with these arguments, ready to be started in whatever way.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.network.command(&self.binary);
        command
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end, whatever that is.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Ran> {
        let output = self.command(arguments).output();
        Ok(Ran::from(output.with_context(|| {
            format!("cannot run {}", self.binary.display())
        })?))
    }

    /// Runs it and insists that it succeeds; gives its standard output.
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let ran = self.run(arguments)?;
        let words: Vec<_> = arguments
            .iter()
            .map(|a| a.as_ref().to_string_lossy())
            .collect();
        ensure!(
            ran.code == 0,
            "comber {} ended with {}:\n{}{}",
            words.join(" "),
            ran.code,
            ran.stdout,
            ran.stderr
        );
        Ok(ran.stdout)
    }

    /// The same with `--output json`, read.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Value> {
        let mut all: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        all.extend([OsStr::new("--output"), OsStr::new("json")]);
        let text = self.ok(&all)?;
        serde_json::from_str(&text).with_context(|| format!("not one JSON document:\n{text}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
