//! The agent as a unit of systemd, which starts it again where it fails and counts that.
//!
//! Invariant: a unit that systemd has given up is forgotten as failed before it is started, so that a bad agent never
//! uses up the starts of the good one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use comber_runtime::clock::Clock;

use super::{Look, Service, ServiceError, await_release, run};
use crate::exec::tool;
use crate::lock::Lock;

/// systemd kills what does not end by itself; the lock then goes with the process.
const RELEASE: Duration = Duration::from_secs(10);

/// How often and how quickly it is looked again for how a unit ended that is started again already.
const CATCH_TRIES: u32 = 10;
const CATCH_PAUSE: Duration = Duration::from_millis(50);

/// One unit.
#[derive(Debug)]
pub(in crate::update) struct Systemd {
    unit: String,
    lock: PathBuf,
    clock: Clock,
    /// systemd's own count when it was last read.
    restarts: Option<u32>,
    ended: u32,
    last: String,
    /// Since the last start by the watcher it was not seen down.
    was_up: bool,
}

impl Systemd {
    pub(super) fn new(unit: String, lock: PathBuf, clock: Clock) -> Self {
        Self {
            unit,
            lock,
            clock,
            restarts: None,
            ended: 0,
            last: String::new(),
            was_up: false,
        }
    }

    fn show(&self) -> Result<BTreeMap<String, String>, ServiceError> {
        let names = "ActiveState,NRestarts,Result,ExecMainStatus,ExecMainCode";
        let told = capture(&["show", "--property", names, &self.unit])?;
        let pairs = told.lines().filter_map(|line| line.split_once('='));
        Ok(pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }

    /// Counts what ended since the last look; true where the unit is up.
    fn take_in(&mut self, shown: &BTreeMap<String, String>) -> bool {
        let text = |name: &str| shown.get(name).map_or("", String::as_str);
        self.count(text("NRestarts").parse().unwrap_or_default());
        let is_up = !matches!(text("ActiveState"), "inactive" | "failed");
        if self.was_up && !is_up {
            self.was_up = false;
            self.ended += 1;
        }
        is_up
    }

    /// Notes how it ended, where that shows. While nothing ended since the last look, what shows is the end of whoever ran
    /// before, unless systemd says that it was a bad one.
    fn catch(&mut self, shown: &BTreeMap<String, String>, before: u32) -> bool {
        let text = |name: &str| shown.get(name).map_or("", String::as_str);
        let result = text("Result");
        if self.ended == before && matches!(result, "" | "success") {
            return false;
        }
        let ended = ending(result, text("ExecMainCode"), text("ExecMainStatus"));
        let is_told = ended.is_some();
        if let Some(ended) = ended {
            self.last = ended;
        }
        is_told
    }

    /// Takes over what systemd has counted since the last look.
    fn count(&mut self, restarts: u32) {
        let before = self.restarts.replace(restarts);
        if let Some(before) = before {
            self.ended += restarts.saturating_sub(before);
        }
    }
}

impl Service for Systemd {
    fn stop(&mut self) -> Result<(), ServiceError> {
        // A stop would also take back the start that a boot has queued, which comes after the watcher anyway.
        let state = self.show()?.remove("ActiveState").unwrap_or_default();
        if !matches!(state.as_str(), "inactive" | "failed") {
            systemctl("stop", &self.unit)?;
        }
        if await_release(&self.lock, &self.clock, RELEASE) {
            return Ok(());
        }
        Err(ServiceError::Holds {
            pid: Lock::holder(&self.lock).unwrap_or_default(),
            path: self.lock.clone(),
        })
    }

    fn start(&mut self) -> Result<(), ServiceError> {
        // Fails where the unit never failed.
        let _ = systemctl("reset-failed", &self.unit);
        systemctl("start", &self.unit)?;
        self.restarts = None;
        self.was_up = true;
        Ok(())
    }

    fn look(&mut self) -> Result<Look, ServiceError> {
        let before = self.ended;
        let mut shown = self.show()?;
        let mut is_up = self.take_in(&shown);
        let mut tries = 0;
        // A unit that is started again at once shows how it ended for a moment only.
        while !self.catch(&shown, before) && self.ended != before && tries < CATCH_TRIES {
            std::thread::sleep(CATCH_PAUSE);
            shown = self.show()?;
            is_up = self.take_in(&shown);
            tries += 1;
        }
        Ok(Look {
            is_up,
            holds_lock: Lock::is_held(&self.lock),
            ended: self.ended,
            last: self.last.clone(),
            host_stops: capture(&["is-system-running"])?.trim() == "stopping",
        })
    }
}

/// How the unit's process ended, in words; `None` while nothing ended badly.
fn ending(result: &str, code: &str, status: &str) -> Option<String> {
    match result {
        "timeout" => Some("it was never ready and was killed".to_owned()),
        "watchdog" => Some("it hung, gave no sign of life and was killed".to_owned()),
        "signal" | "core-dump" => Some(format!("signal {status}")),
        "exit-code" => Some(format!("exit status {status}")),
        // systemd forgets the result when it starts again, not how the process before ended.
        _ if matches!(code, "1") => Some(format!("exit status {status}")),
        _ if matches!(code, "2" | "3") => Some(format!("signal {status}")),
        _ => None,
    }
}

/// Asks for a change. Waits for a stop, and not for a start, which may stand behind the watcher itself.
pub(super) fn systemctl(action: &str, unit: &str) -> Result<String, ServiceError> {
    let more: &[&str] = match action {
        "start" => &["--no-block"],
        _ => &[],
    };
    let arguments = [&[action], more, &[unit]].concat();
    let output = command(&arguments).output().map_err(run("systemctl"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(ServiceError::Systemctl {
        action: action.to_owned(),
        unit: unit.to_owned(),
        status: output.status,
        told: told.trim().chars().take(200).collect(),
    })
}

/// What it prints, whatever its status: some questions answer by it.
pub(super) fn capture(arguments: &[&str]) -> Result<String, ServiceError> {
    let output = command(arguments).output().map_err(run("systemctl"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command(arguments: &[&str]) -> Command {
    let mut command = tool("systemctl");
    command.arg("--no-ask-password").args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(
            ending("exit-code", "1", "3").as_deref(),
            Some("exit status 3")
        );
        assert_eq!(ending("signal", "2", "9").as_deref(), Some("signal 9"));
        assert_eq!(
            ending("success", "1", "0").as_deref(),
            Some("exit status 0")
        );
        assert!(ending("watchdog", "2", "6").unwrap().contains("hung"));
        assert_eq!(ending("success", "0", "0"), None);
    }
}
