//! The agent as a process: started by the watcher, known by the lock of the state directory and by the watcher's child.
//!
//! Invariant: only processes of this state directory's agent are ever signalled: the watcher's own child, the one that holds
//! the agent's lock, and those that a launcher noted before it became them, known by number and begin.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::time::Duration;

use comber_runtime::clock::Clock;
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};

use super::{Look, PAUSE, Service, ServiceError, await_release, run};
use crate::lock::{AGENT_LOCK, Lock};
use crate::update::UpdateFiles;
use crate::update::files::Child;

/// How long it may take to end in order. An agent that drains takes 20 s at most; one that waits for the watcher, none.
const ORDERLY: Duration = Duration::from_secs(25);
/// After a signal that nothing resists.
const FORCED: Duration = Duration::from_secs(5);

/// One agent, or none; while it changes over there may be more processes than one.
#[derive(Debug)]
pub(in crate::update) struct Process {
    command: Command,
    lock: PathBuf,
    files: UpdateFiles,
    clock: Clock,
    own: Option<process::Child>,
    /// Those that a launcher made agents of, whoever started it; the watcher's own among them.
    launched: BTreeSet<Child>,
    ended: u32,
    last: String,
}

impl Process {
    pub(super) fn new(command: Command, files: UpdateFiles, clock: Clock) -> Self {
        Self {
            command,
            lock: files.state_dir().join(AGENT_LOCK),
            files,
            clock,
            own: None,
            launched: BTreeSet::new(),
            ended: 0,
            last: String::new(),
        }
    }

    fn signal(&self, signal: Signal) {
        let own = self.own.as_ref().map(process::Child::id);
        let own = own.and_then(|id| i32::try_from(id).ok());
        let launched = self.launched.iter().map(|child| child.pid);
        let holder = Lock::holder(&self.lock);
        let numbers: BTreeSet<i32> = own.into_iter().chain(launched).chain(holder).collect();
        for pid in numbers.into_iter().filter_map(Pid::from_raw) {
            // Each fails only where the process is gone. A group that another process leads is not the agent's.
            let _ = match getpgid(Some(pid)) {
                Ok(group) if group == pid => kill_process_group(pid, signal),
                Ok(_) | Err(_) => kill_process(pid, signal),
            };
        }
    }

    /// True once no process of the agent is left.
    fn is_gone(&mut self, limit: Duration) -> bool {
        let end = self.clock.boot().saturating_add(limit);
        while self.is_any_up() {
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

    /// Looks at every process that is known, and notes those that ended.
    fn is_any_up(&mut self) -> bool {
        let before = self.launched.len();
        self.launched.retain(Child::is_alive);
        let mut gone = before > self.launched.len();
        let mut how = "an unknown status".to_owned();
        if let Some(status) = self.reap() {
            (gone, how) = (true, status);
        }
        self.launched.extend(self.files.launched());
        // Whoever else starts agents here was first, where the lock is held: that was no end of the agent.
        if gone && self.launched.is_empty() && !Lock::is_held(&self.lock) {
            self.ended += 1;
            self.last = how;
        }
        self.own.is_some() || !self.launched.is_empty()
    }

    /// How the watcher's own child ended, once.
    fn reap(&mut self) -> Option<String> {
        let status = match self.own.as_mut()?.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "an unknown status".to_owned(),
            },
            Err(error) => format!("an unknown status ({error})"),
        };
        let own = self.own.take()?.id();
        self.launched
            .retain(|child| u32::try_from(child.pid) != Ok(own));
        Some(status)
    }
}

impl Service for Process {
    fn stop(&mut self) -> Result<(), ServiceError> {
        // Learns who there is.
        self.is_any_up();
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

    fn start(&mut self) -> Result<(), ServiceError> {
        if self.is_any_up() || Lock::is_held(&self.lock) {
            return Ok(());
        }
        let program = self.command.get_program().to_string_lossy().into_owned();
        self.command.process_group(0).stdin(Stdio::null());
        self.own = Some(self.command.spawn().map_err(run(&program))?);
        Ok(())
    }

    fn look(&mut self) -> Result<Look, ServiceError> {
        let is_any_up = self.is_any_up();
        let holds_lock = Lock::is_held(&self.lock);
        Ok(Look {
            is_up: is_any_up || holds_lock,
            holds_lock,
            ended: self.ended,
            last: self.last.clone(),
            host_stops: false,
        })
    }
}

impl Child {
    /// This process, which keeps its number and its begin when it becomes another program.
    pub(in crate::update) fn this() -> Option<Self> {
        let pid = i32::try_from(process::id()).ok()?;
        Some(Self {
            pid,
            began: began(pid)?,
        })
    }

    /// Whether that process is there still, and not another of its number.
    pub(in crate::update) fn is_alive(&self) -> bool {
        began(self.pid) == Some(self.began)
    }
}

/// When a process began, in ticks since boot; `None` where there is none of that number, or it has ended and only was not
/// reaped.
fn began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows it are the state and numbers.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    match fields.first() {
        Some(&("Z" | "X")) | None => None,
        Some(_) => fields.get(19)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(dir: &std::path::Path, script: &str) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let files = UpdateFiles::new(dir);
        fs::create_dir_all(files.dir()).unwrap();
        Process::new(command, files, Clock::system())
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
        let mut process = process(dir.path(), "trap '' TERM; sleep 600 & sleep 600");
        process.start().unwrap();
        // The shell must have begun before it is told to end.
        std::thread::sleep(Duration::from_millis(200));
        process.signal(Signal::TERM);
        std::thread::sleep(Duration::from_millis(100));
        assert!(process.look().unwrap().is_up, "it resists");
        process.signal(Signal::KILL);
        assert!(process.is_gone(FORCED));
        process.stop().unwrap();
    }

    #[test]
    fn an_agent_of_another_starter_is_known_and_a_number_used_again_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut starter = process(dir.path(), "sleep 600");
        starter.start().unwrap();
        let pid = i32::try_from(starter.own.as_ref().unwrap().id()).unwrap();
        let child = Child {
            pid,
            began: began(pid).unwrap(),
        };
        let mut watcher = process(dir.path(), "exit 1");
        let began = child.began + 1;
        watcher.files.note_launched(Child { pid, began }).unwrap();
        assert!(!watcher.look().unwrap().is_up);
        watcher.files.note_launched(child).unwrap();
        assert!(watcher.look().unwrap().is_up);
        watcher.start().unwrap();
        assert!(watcher.own.is_none(), "there is one already");
        watcher.signal(Signal::KILL);
        starter.own.as_mut().unwrap().wait().unwrap();
        let look = watcher.look().unwrap();
        assert_eq!((look.is_up, look.ended), (false, 1));
    }
}
