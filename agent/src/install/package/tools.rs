//! How the package installer asks the host's tools, and how it has them change the host.
//!
//! A change runs in a unit of its own where systemd is the host's first process: an end of the agent, of whatever kind,
//! then cuts nothing off, and its own upgrade restarts only itself. There is one name for that unit on a host, so systemd
//! itself refuses a second run beside the first. Elsewhere a change is a child in its own process group. Invariant: when
//! [`Tools::change`] is dropped or fails, the run was told to end, and [`Tools::settle`] returns only once none is left.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::error::PackageError;
use crate::exec::{Exec, ExecError, Printed, Run, tool};
use crate::surroundings::Variables;

/// The unit in which a change runs.
const UNIT: &str = "comber-package.service";
/// There where systemd is the host's first process.
const SYSTEMD: &str = "/run/systemd/system";
/// Longest answer of a tool: what a simulation says of some ten thousand packages.
const ANSWER_MAX: u64 = 8 << 20;
/// Longest time for a question. Answers take milliseconds, but for downloads, and a preflight has ten minutes for all.
const ASK_MAX: Duration = Duration::from_mins(8);
/// Between asking the tool to end and killing it: dpkg ends after the package in hand.
const STOP: Duration = Duration::from_secs(30);
/// How much longer than systemd the agent waits for the end of the unit.
const GRACE: Duration = Duration::from_secs(45);
/// Pause between two looks at a unit that still runs.
const LOOK: Duration = Duration::from_millis(250);

/// The host's tools, for one release.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub exec: Exec,
    /// The host's tree: `/` but for tests and images.
    pub root: PathBuf,
    /// Longest time of one change.
    pub timeout: Duration,
}

impl Tools {
    /// Asks a tool; whatever its status.
    pub(super) async fn ask(
        &self,
        what: &'static str,
        words: &[String],
        dir: &Path,
    ) -> Result<Printed, PackageError> {
        let variables = environment();
        let run = Run {
            command: words,
            dir,
            variables: &variables,
            timeout: ASK_MAX,
        };
        let said = self.exec.read(&run, ANSWER_MAX).await;
        said.map_err(|source| PackageError::Ask { what, source })
    }

    /// Asks a tool that must know; its answer.
    pub(super) async fn answer(
        &self,
        what: &'static str,
        words: &[String],
    ) -> Result<String, PackageError> {
        let said = self.ask(what, words, Path::new("/")).await?;
        if said.status.success() {
            return Ok(said.out);
        }
        Err(PackageError::Answer {
            what,
            answer: one_line(&said.err),
        })
    }

    /// Has a tool change the host, to its end.
    pub(super) async fn change(&self, words: &[String]) -> Result<(), PackageError> {
        tracing::info!(command = words.join(" "), "changes the host's packages");
        if self.has_units() {
            return self.in_unit(words).await;
        }
        let variables = environment();
        let run = Run {
            command: words,
            dir: Path::new("/"),
            variables: &variables,
            timeout: self.timeout,
        };
        let output = self.exec.run(&run).await.map_err(PackageError::Run)?;
        tracing::debug!(output, "the package manager ended well");
        Ok(())
    }

    /// Waits until no change of ours runs any more. To be called before anything else: an earlier process of the agent may
    /// have begun one.
    pub(super) async fn settle(&self) -> Result<(), PackageError> {
        if !self.has_units() {
            return Ok(());
        }
        let mut told = false;
        while self.unit_runs().await? {
            if !told {
                tracing::info!(
                    unit = UNIT,
                    "an earlier change still runs, waits for its end"
                );
                told = true;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn has_units(&self) -> bool {
        self.root == Path::new("/") && Path::new(SYSTEMD).is_dir()
    }

    async fn in_unit(&self, words: &[String]) -> Result<(), PackageError> {
        let mut command = unit_command(self.timeout);
        command.extend_from_slice(words);
        let none = Variables::new();
        let run = Run {
            command: &command,
            dir: Path::new("/"),
            variables: &none,
            timeout: self.timeout.saturating_add(STOP).saturating_add(GRACE),
        };
        // Dropped after the run, also where the run is dropped in the middle.
        let mut stop = StopUnit(true);
        let ran = self.exec.run(&run).await;
        stop.0 = matches!(ran, Err(ExecError::TimedOut { .. }));
        drop(stop);
        self.settle().await?;
        let output = ran.map_err(PackageError::Run)?;
        tracing::debug!(output, "the package manager ended well");
        Ok(())
    }

    async fn unit_runs(&self) -> Result<bool, PackageError> {
        let asked = words([
            "systemctl",
            "show",
            "--property=ActiveState",
            "--value",
            UNIT,
        ]);
        let state = self
            .answer("look at the unit of an earlier change", &asked)
            .await?;
        Ok(!matches!(state.trim(), "" | "inactive" | "failed"))
    }
}

/// Told to stop at the end of its life, where it still may run.
struct StopUnit(bool);

impl Drop for StopUnit {
    fn drop(&mut self) {
        if !self.0 {
            return;
        }
        // Only asks, so it takes milliseconds; whoever comes next waits for the end. That it fails means that systemd
        // does not answer, and then nobody can do more: the unit's own timeout ends it.
        let _ = tool("systemctl")
            .args(["stop", "--no-block", UNIT])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// What is put before the words of a change. The tool is asked to end first and only what is left is killed: a package
/// manager that is told to end finishes the package in hand.
fn unit_command(timeout: Duration) -> Vec<String> {
    let mut words: Vec<String> = ["systemd-run", "--wait", "--collect", "--pipe", "--quiet"]
        .map(str::to_owned)
        .to_vec();
    words.push(format!("--unit={UNIT}"));
    words.push("--service-type=oneshot".to_owned());
    words.push("--description=Package change of the Comber agent".to_owned());
    for property in [
        "KillMode=mixed".to_owned(),
        format!("TimeoutStopSec={}", STOP.as_secs()),
        format!("TimeoutStartSec={}", timeout.as_secs().max(1)),
    ] {
        words.push(format!("--property={property}"));
    }
    for (name, value) in environment() {
        words.push(format!("--setenv={name}={value}"));
    }
    words.push("--".to_owned());
    words
}

/// Nothing asks, nothing pages, nothing restarts services behind the release's back; changed configuration stays.
fn environment() -> Variables {
    let pairs = [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBIAN_PRIORITY", "critical"),
        ("APT_LISTCHANGES_FRONTEND", "none"),
        ("NEEDRESTART_MODE", "l"),
        ("UCF_FORCE_CONFFOLD", "1"),
        ("LANG", "C.UTF-8"),
        ("LC_ALL", "C.UTF-8"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    pairs.into_iter().map(owned).collect()
}

/// What a tool said, for an error's message.
pub(super) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line: Vec<&str> = lines.collect();
    let line = line.join("; ");
    match line.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Words of a command.
pub(super) fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}
