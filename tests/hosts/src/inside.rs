//! What is seen and done inside a host within microseconds: its files, its ledger, standing still, the death of its agent.
//!
//! Reads through `/proc` and writes to the host's cgroup, and enters nothing: no process of ours is ever in the host,
//! so none holds up its shutdown. Invariant: what is read while the host is frozen is what a cut would find, but for
//! what was not synced.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use comber_machine::Ledger;
use comber_test_support::wait;
use rustix::process::{Pid, Signal, kill_process};

use crate::{AGENT_UNIT, Host, STATE_DIR};

/// How long the kernel may take to freeze a host on a busy machine.
const FREEZE: Duration = Duration::from_secs(10);
/// The kernel's names of processes have at most 15 characters; this one is whole.
const AGENT: &str = "comber-agent";

impl Host {
    /// The process that is its PID 1, as this machine numbers it; none while it is off.
    pub fn leader(&self) -> Option<u32> {
        let processes = self.cgroup.join("payload/init.scope/cgroup.procs");
        let text = fs::read_to_string(processes).ok()?;
        text.lines().next()?.parse().ok()
    }

    /// A path of the host as this machine sees it, while the host runs. Absolute links on the way lead astray.
    pub fn inside(&self, path: &str) -> Option<PathBuf> {
        let leader = self.leader()?;
        Some(format!("/proc/{leader}/root{path}").into())
    }

    /// What is in a file of it, at once; none where it is off or has no such file.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.inside(path)?).ok()
    }

    /// The boot that it runs in.
    pub fn boot_id(&self) -> Result<String> {
        let bytes = self.read("/proc/sys/kernel/random/boot_id");
        let bytes = bytes.with_context(|| format!("{} is off", self.name()))?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Its agent's ledger as it is on the disk now; none where there is none.
    pub fn ledger(&self) -> Option<Ledger> {
        let bytes = self.read(&format!("{STATE_DIR}/ledger.json"))?;
        let line = bytes.split(|byte| *byte == b'\n').next()?;
        Ledger::from_json(line).ok()
    }

    /// Stops every process of it where it stands; returns when all do.
    pub fn freeze(&self) -> Result<()> {
        fs::write(self.cgroup.join("payload/cgroup.freeze"), "1")?;
        let events = self.cgroup.join("payload/cgroup.events");
        let frozen = wait::until(FREEZE, || {
            let text = fs::read_to_string(&events).ok()?;
            text.contains("frozen 1").then_some(())
        });
        frozen.with_context(|| format!("{} cannot be frozen", self.name()))
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<()> {
        fs::write(self.cgroup.join("payload/cgroup.freeze"), "0").context("cannot thaw")
    }

    /// Ends its agent as a crash does (SIGKILL), also while the host is frozen; its service manager starts it again.
    pub fn kill_agent(&self) -> Result<()> {
        let agent = self.agent();
        let agent = agent.with_context(|| format!("no agent runs on {}", self.name()))?;
        let pid = i32::try_from(agent).ok().and_then(Pid::from_raw);
        ensure!(
            kill_process(pid.context("no process number")?, Signal::KILL).is_ok(),
            "the agent of {} had ended",
            self.name()
        );
        Ok(())
    }

    /// The agent's main process, as this machine numbers it.
    pub fn agent(&self) -> Option<u32> {
        let leader = self.leader()?;
        let unit = format!("payload/system.slice/{AGENT_UNIT}/cgroup.procs");
        let text = fs::read_to_string(self.cgroup.join(unit)).ok()?;
        let mut processes = text.lines().filter_map(|line| line.parse().ok());
        // A command that the agent is about to run has its name for a moment, and another parent.
        processes.find(|process| parent(*process) == Some((AGENT.to_owned(), leader)))
    }
}

/// Name and parent of a process.
fn parent(process: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().to_owned())
    };
    Some((field("Name:")?, field("PPid:")?.parse().ok()?))
}
