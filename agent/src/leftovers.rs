//! Ends what a killed agent left running, before anything else is begun.
//!
//! The unit kills only the agent itself, so that services that a release started live on (`KillMode=process`). An agent that
//! is told to end takes its commands along; one that is killed cannot, and its successor would work beside them. Such a
//! command is told from a service by its process group: the leader still lives, in the session of an agent that is gone.
//! A service has a session of its own, or its group's leader has ended.
//!
//! Reads `/proc` and sends SIGKILL. Invariant: only processes of the agent's own unit are ever signalled.

use std::{fs, thread, time::Duration};

use rustix::process::{Pid, Signal, getpid, getsid, kill_process_group};

use crate::service::UNIT;

/// A killed process is gone within milliseconds, unless it waits for a disk.
const GONE_TRIES: u32 = 50;
const GONE_PAUSE: Duration = Duration::from_millis(100);

/// What `/proc` says of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Process {
    pid: i32,
    group: i32,
    session: i32,
}

/// Kills the commands of agents before this one, where this is the unit's agent. Blocking; for the start, under the lock.
pub fn end() {
    let Some(own) = cgroup("self").filter(|own| is_unit(own)) else {
        return;
    };
    let agent = getpid().as_raw_nonzero().get();
    let leads_session = getsid(None).is_ok_and(|session| session == getpid());
    if !leads_session {
        return;
    }
    let cut_off = cut_off(&processes(&own), agent);
    for group in &cut_off {
        tracing::warn!(
            group,
            "a command of an agent that was killed still runs, it is ended"
        );
        if let Some(pid) = Pid::from_raw(*group) {
            // It fails only where the group is gone.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
    for group in cut_off {
        wait_for_end(group);
    }
}

/// The groups of commands that no agent waits for any more.
fn cut_off(processes: &[Process], agent: i32) -> Vec<i32> {
    let is_cut_off = |process: &&Process| {
        process.pid == process.group
            && process.session != process.pid
            && process.session != agent
            && process.pid != agent
    };
    processes
        .iter()
        .filter(is_cut_off)
        .map(|process| process.group)
        .collect()
}

/// Those of the control group.
fn processes(cgroup_of: &str) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        .filter(|name| cgroup(name).as_deref() == Some(cgroup_of))
        .filter_map(|name| parse(&fs::read_to_string(format!("/proc/{name}/stat")).ok()?))
        .collect()
}

/// The control groups of a process, all of them; equal texts mean the same ones.
fn cgroup(process: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{process}/cgroup")).ok()
}

fn is_unit(cgroup: &str) -> bool {
    let ending = format!("/{UNIT}");
    cgroup.lines().any(|line| line.ends_with(&ending))
}

/// `pid (name) state parent group session …`; the name may hold anything, so what follows its last bracket counts.
fn parse(stat: &str) -> Option<Process> {
    let pid = stat.split_once(' ')?.0.parse().ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(2);
    Some(Process {
        pid,
        group: fields.next()?.parse().ok()?,
        session: fields.next()?.parse().ok()?,
    })
}

/// A package manager that is being killed holds its lock until it is gone.
fn wait_for_end(pid: i32) {
    for _ in 0..GONE_TRIES {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let lives = parse(&stat).is_some_and(|process| process.group == pid);
        if !lives {
            return;
        }
        thread::sleep(GONE_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, group: i32, session: i32) -> Process {
        Process {
            pid,
            group,
            session,
        }
    }

    #[test]
    fn a_command_is_told_from_a_service_and_from_the_agent() {
        let (agent, before) = (900, 100);
        let all = [
            process(agent, agent, agent),
            // What this agent just started.
            process(901, 901, agent),
            // A command of the agent before, and what it started.
            process(200, 200, before),
            process(201, 200, before),
            // A service that made itself a session, and one that was put into the background by a shell that is gone.
            process(300, 300, 300),
            process(400, 399, before),
        ];
        assert_eq!(cut_off(&all, agent), [200]);
    }

    #[test]
    fn a_name_with_brackets_and_spaces_is_read() {
        let read = parse("7 (a) 1 (b) S 1 5 3 0 -1").unwrap();
        assert_eq!(read, process(7, 5, 3));
        assert_eq!(parse(""), None);
        assert_eq!(parse("7 (a"), None);
        let own = parse(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert_eq!(own.pid, getpid().as_raw_nonzero().get());
    }

    #[test]
    fn only_the_unit_is_looked_into() {
        assert!(is_unit("0::/system.slice/comber-agent.service\n"));
        assert!(is_unit(
            "1:name=systemd:/system.slice/comber-agent.service\n0::/x\n"
        ));
        assert!(!is_unit("0::/system.slice/comber-agent.service.d\n"));
        assert!(!is_unit("0::/user.slice/session-1.scope\n"));
    }

    #[test]
    fn an_agent_that_is_no_unit_ends_nothing() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        end();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
