//! A child process whose end is ours: it is ended when its handle goes, and its output is in a file.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// How long an orderly stop may take before the process is ended the hard way.
const STOP: Duration = Duration::from_secs(20);

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Option<Child>,
    log: PathBuf,
}

impl Process {
    /// Starts a command in a process group of its own; its output is appended to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self {
            child: Some(child),
            log: log.to_owned(),
        })
    }

    /// The process number, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// True until it has ended.
    pub fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// Ends it at once (SIGKILL), as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; both calls are then harmless.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Asks it to stop (SIGTERM) and waits; ended the hard way where that takes too long.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("it does not run")?;
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // An error means that it has ended already.
            let _ended = kill_process(pid, Signal::TERM);
        }
        let stopped = wait::until(STOP, || child.try_wait().ok().flatten());
        if stopped.is_none() {
            let _ended = child.kill();
        }
        child.wait().context("cannot wait for it")
    }

    /// Leaves it running after this handle is gone.
    pub fn release(mut self) {
        self.child = None;
    }

    /// Where its output is.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
