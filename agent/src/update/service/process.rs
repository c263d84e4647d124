//! The agent as a process: started by the watcher, known by the lock of the state directory and by the watcher's child.
//!
//! Invariant: only two processes are ever signalled: the one that holds the agent's lock of this state directory, and the
//! one that the watcher started itself, known by its number and by when it began.

use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::time::Duration;

use comber_runtime::clock::Clock;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{Look, PAUSE, Service, ServiceError, await_release, run};
use crate::exit::Exit;
use crate::lock::Lock;
use crate::update::files::Child;

/// How long it may take to end in order. An agent that drains takes 20 s at most; one that waits for the watcher, none.
const ORDERLY: Duration = Duration::from_secs(25);
/// After a signal that nothing resists.
const FORCED: Duration = Duration::from_secs(5);

/// One process, or none.
#[derive(Debug)]
pub(in crate::update) struct Process {
    command: Command,
    lock: PathBuf,
    clock: Clock,
    own: Option<process::Child>,
    child: Option<Child>,
    /// Somebody else's agent that was seen to hold the lock while there was no child.
    other: Option<i32>,
    ended: u32,
    last: String,
}

impl Process {
    /// `child` is one that an earlier watcher started.
    pub(super) fn new(command: Command, lock: PathBuf, child: Option<Child>, clock: Clock) -> Self {
        Self {
            command,
            lock,
            clock,
            own: None,
            child: child.filter(|child| began(child.pid) == Some(child.began)),
            other: None,
            ended: 0,
            last: String::new(),
        }
    }

    fn signal(&self, signal: Signal) {
        // Each fails only where the process is gone.
        if let Some(pid) = self.child.and_then(|child| Pid::from_raw(child.pid)) {
            let _ = kill_process_group(pid, signal);
        }
        if let Some(pid) = Lock::holder(&self.lock).and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// True once neither child nor holder is left.
    fn is_gone(&mut self, limit: Duration) -> bool {
        let end = self.clock.boot().saturating_add(limit);
        while self.is_child_up() {
            if self.clock.boot() >= end {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        await_release(
            &self.lock,
            &self.clock,
            end.saturating_sub(self.clock.boot()),
        )
    }

    /// Reaps it where it ended, and notes how.
    fn is_child_up(&mut self) -> bool {
        let Some(child) = self.child else {
            return false;
        };
        let ended = match &mut self.own {
            Some(own) => match own.try_wait() {
                Ok(None) => return true,
                Ok(Some(status)) => match (status.code(), status.signal()) {
                    (Some(code), _) => format!("exit status {code}"),
                    (None, Some(signal)) => format!("signal {signal}"),
                    (None, None) => "an unknown status".to_owned(),
                },
                Err(error) => format!("an unknown status ({error})"),
            },
            None if began(child.pid) == Some(child.began) => return true,
            None => "an unknown status".to_owned(),
        };
        (self.own, self.child) = (None, None);
        // Whoever else starts agents here was first: that is no end of the agent.
        let was_second = ended == format!("exit status {}", Exit::Running as u8);
        if !(was_second && Lock::is_held(&self.lock)) {
            self.ended += 1;
            self.last = ended;
        }
        false
    }
}

impl Service for Process {
    fn stop(&mut self) -> Result<(), ServiceError> {
        let before = self.ended;
        self.signal(Signal::TERM);
        let mut gone = self.is_gone(ORDERLY);
        if !gone {
            self.signal(Signal::KILL);
            gone = self.is_gone(FORCED);
        }
        self.ended = before;
        if gone {
            return Ok(());
        }
        Err(ServiceError::Holds {
            pid: Lock::holder(&self.lock).unwrap_or_default(),
            path: self.lock.clone(),
        })
    }

    fn start(&mut self) -> Result<Option<Child>, ServiceError> {
        if self.is_child_up() || Lock::is_held(&self.lock) {
            return Ok(self.child);
        }
        let program = self.command.get_program().to_string_lossy().into_owned();
        self.command.process_group(0).stdin(Stdio::null());
        let own = self.command.spawn().map_err(run(&program))?;
        let pid = i32::try_from(own.id()).unwrap_or_default();
        // One that ended meanwhile is not reaped yet, so it can still be asked.
        self.child = began(pid).map(|began| Child { pid, began });
        self.own = Some(own);
        Ok(self.child)
    }

    fn look(&mut self) -> Result<Look, ServiceError> {
        let (ended, child) = (self.ended, self.child);
        let child_is_up = self.is_child_up();
        let holder = Lock::holder(&self.lock);
        let other = holder.filter(|_| child.is_none());
        if self.other.is_some() && self.other != other && self.ended == ended {
            self.ended += 1;
            "an unknown status".clone_into(&mut self.last);
        }
        self.other = other;
        Ok(Look {
            is_up: child_is_up || holder.is_some(),
            holds_lock: holder.is_some(),
            ended: self.ended,
            last: self.last.clone(),
            host_stops: false,
        })
    }
}

/// When a process began, in ticks since boot; `None` where there is none of that number.
fn began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows it are numbers.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(dir: &std::path::Path, script: &str) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Process::new(command, dir.join("agent.lock"), None, Clock::system())
    }

    fn until(process: &mut Process, condition: impl Fn(&Look) -> bool) -> Look {
        loop {
            let look = process.look().unwrap();
            if condition(&look) {
                return look;
            }
            std::thread::sleep(PAUSE);
        }
    }

    #[test]
    fn each_end_is_counted_once_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = process(dir.path(), "exit 3");
        for count in 1..=3 {
            process.start().unwrap();
            let look = until(&mut process, |look| !look.is_up);
            assert_eq!((look.ended, look.last.as_str()), (count, "exit status 3"));
            assert_eq!(process.look().unwrap().ended, count);
        }
    }

    #[test]
    fn what_resists_is_killed_with_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = process(dir.path(), "trap '' TERM; sleep 600 & wait; sleep 600");
        process.start().unwrap();
        let pid = process.child.unwrap();
        // The shell must have begun before it is told to end.
        std::thread::sleep(Duration::from_millis(200));
        process.signal(Signal::KILL);
        assert!(process.is_gone(FORCED));
        assert_ne!(began(pid.pid), Some(pid.began));
        process.stop().unwrap();
    }

    #[test]
    fn a_child_of_an_earlier_watcher_is_known_and_a_number_used_again_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = process(dir.path(), "sleep 600");
        let child = first.start().unwrap().unwrap();
        let lock = dir.path().join("agent.lock");
        let adopt = |began| {
            let child = Child { began, ..child };
            let command = Command::new("/bin/false");
            Process::new(command, lock.clone(), Some(child), Clock::system())
        };
        assert!(adopt(child.began).look().unwrap().is_up);
        assert!(!adopt(child.began + 1).look().unwrap().is_up);
        first.stop().unwrap();
    }
}
