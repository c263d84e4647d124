//! What the agent asks of systemd: whether it is there, whether the host is up, which units failed, and D-Bus calls.
//!
//! Runs `systemctl` and `busctl`, systemd's own clients, and changes nothing by itself. There is no D-Bus library in the
//! agent. Bias: an answer that is not understood whole is an error, which whoever asks takes for a guard that blocks.
//! Invariant: "nothing failed" is only said after systemd answered so.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::exec::{Exec, ExecError, Printed, Run};
use crate::surroundings::Variables;

/// There while systemd is the host's init, as `sd_booted(3)` says.
const BOOTED: &str = "/run/systemd/system";
/// Lists what failed, in a form that every systemd since 2013 prints: one line for each unit, its name first.
pub const FAILED_UNITS: [&str; 7] = [
    "systemctl",
    "list-units",
    "--state=failed",
    "--plain",
    "--no-legend",
    "--full",
    "--no-pager",
];
/// Both clients give up by themselves after 25 s of silence on the bus.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer: some thousand failed units, inhibitors or sessions. More is not an answer but a fault.
const ANSWER_MAX: u64 = 256 << 10;
/// systemd's own limit for the name of a unit.
const UNIT_MAX: usize = 255;
/// systemd does not answer for a moment while it executes itself anew after an upgrade.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Whether systemd is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Where it is the host's init.
    #[default]
    Auto,
    /// Always: a host on which it does not answer fails its checks.
    Yes,
    /// Never.
    No,
}

/// The host's service manager. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Systemd {
    exec: Exec,
    variables: Variables,
    wanted: Use,
}

/// How far the host has come up, as `systemctl is-system-running` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemState {
    /// Everything started.
    Running,
    /// Everything was tried and something failed.
    Degraded,
    /// Not there yet: `initializing` or `starting`.
    Starting(String),
    /// Something that no waiting turns into `running`, such as `maintenance` or `stopping`.
    Other(String),
}

/// systemd did not say what was asked.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum SystemdError {
    /// Its client did not run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Its client was refused.
    #[error("{asked} failed with {status}: {}", said(err))]
    Refused {
        asked: &'static str,
        status: std::process::ExitStatus,
        err: String,
    },
    /// The answer is none.
    #[error("{asked} answered what is not understood: {problem}")]
    Answer {
        asked: &'static str,
        problem: String,
    },
}

impl Systemd {
    /// Runs its clients with `exec`; `variables` are their environment, of which `PATH` says where they are.
    pub fn new(exec: Exec, variables: Variables, wanted: Use) -> Self {
        Self {
            exec,
            variables,
            wanted,
        }
    }

    /// Whether systemd is this host's init, or is to be taken for it.
    pub fn is_there(&self) -> bool {
        match self.wanted {
            Use::Auto => Path::new(BOOTED).is_dir(),
            Use::Yes => true,
            Use::No => false,
        }
    }

    /// The environment of its clients.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// The units that are failed now.
    pub async fn failed_units(&self) -> Result<BTreeSet<String>, SystemdError> {
        let mut tries = 1;
        loop {
            match self.failed_units_once().await {
                Err(_) if tries < TRIES => tries += 1,
                answered => return answered,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn failed_units_once(&self) -> Result<BTreeSet<String>, SystemdError> {
        let asked = "systemctl list-units";
        let printed = self.ask(&FAILED_UNITS).await?;
        if !printed.status.success() {
            return Err(refused(asked, &printed));
        }
        failed_units(&printed.out).map_err(|problem| SystemdError::Answer { asked, problem })
    }

    /// How far the host has come up.
    pub async fn state(&self) -> Result<SystemState, SystemdError> {
        let asked = "systemctl is-system-running";
        // Its status says no more than its word; both `degraded` and a bus that is away end with 1.
        let printed = self.ask(&["systemctl", "is-system-running"]).await?;
        match printed.out.trim() {
            "running" => Ok(SystemState::Running),
            "degraded" => Ok(SystemState::Degraded),
            word @ ("initializing" | "starting") => Ok(SystemState::Starting(word.to_owned())),
            word @ ("maintenance" | "stopping") => Ok(SystemState::Other(word.to_owned())),
            // `offline` and `unknown` are said where systemd could not be asked.
            _ => Err(refused(asked, &printed)),
        }
    }

    /// Calls a method of a service on the system bus and returns the values that it answers with.
    pub async fn call(
        &self,
        asked: &'static str,
        arguments: &[&str],
    ) -> Result<Vec<Value>, SystemdError> {
        let answer = self.busctl(asked, "call", arguments).await?;
        let [answer] = answer.as_slice() else {
            let problem = format!("{} lines instead of one", answer.len());
            return Err(SystemdError::Answer { asked, problem });
        };
        match answer {
            Value::Array(values) => Ok(values.clone()),
            other => Err(SystemdError::Answer {
                asked,
                problem: format!("data is {other} and no list"),
            }),
        }
    }

    /// Calls a method whose answer carries nothing.
    pub async fn call_for_nothing(
        &self,
        asked: &'static str,
        arguments: &[&str],
    ) -> Result<(), SystemdError> {
        self.bus(asked, "call", arguments).await.map(drop)
    }

    /// Reads properties of an object on the system bus, in the order in which they are asked for.
    pub async fn properties(
        &self,
        asked: &'static str,
        arguments: &[&str],
    ) -> Result<Vec<Value>, SystemdError> {
        self.busctl(asked, "get-property", arguments).await
    }

    /// The `data` of each line that busctl prints.
    async fn busctl(
        &self,
        asked: &'static str,
        verb: &str,
        arguments: &[&str],
    ) -> Result<Vec<Value>, SystemdError> {
        let printed = self.bus(asked, verb, arguments).await?;
        data_of(&printed).map_err(|problem| SystemdError::Answer { asked, problem })
    }

    async fn bus(
        &self,
        asked: &'static str,
        verb: &str,
        arguments: &[&str],
    ) -> Result<String, SystemdError> {
        let mut words = vec!["busctl", "--system", "--json=short", verb];
        words.extend(arguments);
        let printed = self.ask(&words).await?;
        if !printed.status.success() {
            return Err(refused(asked, &printed));
        }
        Ok(printed.out)
    }

    async fn ask(&self, words: &[&str]) -> Result<Printed, ExecError> {
        let command: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let run = Run {
            command: &command,
            dir: Path::new("/"),
            variables: &self.variables,
            timeout: TIMEOUT,
        };
        self.exec.read(&run, ANSWER_MAX).await
    }
}

/// One line of `busctl --json=short`.
#[derive(Deserialize)]
struct Line {
    data: Value,
}

fn data_of(text: &str) -> Result<Vec<Value>, String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str::<Line>(line).map(|line| line.data))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

/// Reads what [`FAILED_UNITS`] prints.
pub fn failed_units(text: &str) -> Result<BTreeSet<String>, String> {
    let mut units = BTreeSet::new();
    for line in text.lines() {
        // Some versions mark a failed unit also where a plain list is asked for.
        let line = line.trim_start_matches(['●', '*', ' ']);
        let Some(name) = line.split_whitespace().next() else {
            continue;
        };
        if !is_unit(name) {
            return Err(format!("{name:?} is not the name of a unit"));
        }
        units.insert(name.to_owned());
    }
    Ok(units)
}

/// As systemd names units: a known set of characters, and a type behind the last dot.
pub fn is_unit(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let typed = name.rsplit_once('.').is_some_and(|(stem, kind)| {
        !stem.is_empty() && !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase())
    });
    typed && name.len() <= UNIT_MAX && name.bytes().all(plain)
}

fn refused(asked: &'static str, printed: &Printed) -> SystemdError {
    let mut err = printed.err.clone();
    if err.is_empty() {
        err.clone_from(&printed.out);
    }
    SystemdError::Refused {
        asked,
        status: printed.status,
        err,
    }
}

/// The first line, short and without control characters: it goes into reports.
fn said(err: &str) -> String {
    let line = err.trim().lines().next().unwrap_or("it said nothing");
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests;
