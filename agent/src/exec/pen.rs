//! What belongs to a call, also where it left the call's process group.
//!
//! A process that makes itself a session of its own is out of reach of a signal to the group. Two nets hold it: a control
//! group made for the call, where the agent may make one (it may as a service of systemd), and a mark in the
//! environment that every child inherits. A process that clears its environment escapes the second, never the first.
//! Invariant: nothing is killed that does not carry the mark or stand in the call's control group, and never the agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

/// The variable that marks what belongs to a call.
const MARK: &str = "COMBER_CALL";
/// Where control groups of the second kind are; older ones cannot be killed at once and are left alone.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Beginning of the names of the groups made here.
const GROUP: &str = "comber-call-";
/// A look at all processes that finds nothing ends it; a process that forks without end is caught by its control group
/// or not at all.
const ROUNDS: u32 = 50;

/// The nets around one call. Dropped while armed, it kills: the call was cancelled.
#[derive(Debug)]
pub(super) struct Pen {
    mark: String,
    group: Option<PathBuf>,
    leader: Option<Pid>,
    armed: bool,
}

impl Pen {
    pub(super) fn new(mark: &str) -> Self {
        Self {
            mark: mark.to_owned(),
            group: None,
            leader: None,
            armed: false,
        }
    }

    /// From here on a drop kills.
    pub(super) fn arm(&mut self, leader: Option<Pid>) {
        self.leader = leader;
        self.armed = true;
    }

    /// The call ended well: a daemon that it left lives on, as under any other client of the protocol.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }

    /// Begins the command: within a control group of its own where that can be had.
    pub(super) fn command(&mut self, program: &Path) -> process::Command {
        self.group = make_group();
        let Some(group) = &self.group else {
            return process::Command::new(program);
        };
        // The shell enters the group and then becomes the program; where it may not enter, the mark has to do.
        let mut command = process::Command::new("/bin/sh");
        command
            .args(["-c", "echo 0 >\"$0\"; exec \"$@\""])
            .arg(group.join("cgroup.procs"))
            .arg(program);
        command
    }

    pub(super) fn mark(&self, command: &mut Command) {
        command.env(MARK, &self.mark);
    }

    /// Kills everything that belongs to the call.
    pub(super) fn kill(&mut self) {
        self.armed = false;
        if let Some(group) = &self.group {
            // One write ends all of them at once, those they start meanwhile included.
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
        for _ in 0..ROUNDS {
            let marked = self.marked();
            if marked.is_empty() {
                return;
            }
            for pid in marked {
                // Gone meanwhile is as good.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// The live processes that carry the mark.
    fn marked(&self) -> Vec<Pid> {
        let wanted = format!("{MARK}={}", self.mark).into_bytes();
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let carries = |pid: &i32| {
            // Empty for a process that is dead already, and not to be read where it is another user's.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|&byte| byte == 0)
                .any(|one| one == wanted)
        };
        // The number of a process group is not given anew while somebody is in it, so with its leader gone it is still
        // the call's.
        let orphaned = self
            .leader
            .map(Pid::as_raw_pid)
            .filter(|leader| !exists(*leader));
        let is_orphan = |pid: &i32| orphaned.is_some() && group_of(*pid) == orphaned;
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|&pid: &i32| pid.unsigned_abs() != process::id())
            .filter(|pid| carries(pid) || is_orphan(pid))
            .filter_map(Pid::from_raw)
            .collect()
    }
}

fn exists(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The process group of a live process. The name before it may hold anything, parentheses too.
fn group_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    match fields.next() {
        // Dead ones only wait for their parent.
        Some("Z" | "X") | None => None,
        Some(_) => fields.nth(1)?.parse().ok(),
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        if self.armed {
            self.kill();
        }
        if let Some(group) = &self.group {
            // Refused while somebody is in it; then the next call's look removes it.
            let _ = fs::remove_dir(group);
        }
    }
}

/// A new control group below the agent's own. None where the kernel, the container or the unit does not allow it.
fn make_group() -> Option<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let own = own_group()?;
    for empty in made_in(&own) {
        // Only groups that nobody is in can be removed.
        let _ = fs::remove_dir(empty);
    }
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let group = own.join(format!("{GROUP}{}-{number}", process::id()));
    fs::create_dir(&group).ok()?;
    if group.join("cgroup.kill").exists() {
        return Some(group);
    }
    let _ = fs::remove_dir(&group);
    None
}

/// The agent's own group in the one hierarchy of the second kind.
fn own_group() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = Path::new(CGROUPS).join(path);
    own.join("cgroup.procs").exists().then_some(own)
}

fn made_in(own: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(own) else {
        return Vec::new();
    };
    let is_ours = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(GROUP.as_bytes());
    entries
        .flatten()
        .filter(|entry| is_ours(&entry.file_name()))
        .map(|entry| entry.path())
        .collect()
}
