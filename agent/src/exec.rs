//! Runs the commands of releases: each in a process group of its own, for no longer than it may.
//!
//! Starts processes and writes one scratch file for each. The output goes to a file and not to a pipe, because a
//! command that leaves a daemon behind leaves it the pipe's end too, and whoever waits for the end of a pipe then waits
//! for the daemon. Invariant: when [`Exec::run`] returns an error or is dropped, the command's whole group is killed.

mod call;
mod pen;
mod pump;
mod read;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::process::{Child, Command};

pub use call::{Call, Cut, Said};
pub use read::Printed;

use crate::surroundings::{ExpandError, Variables, expand};

/// How much of a command's output is kept: its end, where the reason for a failure stands.
pub const OUTPUT_MAX: usize = 4 << 10;
/// How much of that goes into an error's message, which must fit a report with room for the rest.
const OUTPUT_TOLD: usize = 280;
/// Where programs without a slash are searched. The agent's own environment is not passed on: what a release does must
/// not depend on how the agent was started, and the agent's sockets are no business of a release.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Of root, as which the agent runs.
const HOME: &str = "/root";
/// A file that was just written may still be open for writing in a process that another thread is starting.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Runs commands. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Exec {
    scratch: PathBuf,
    /// Of calls, between TERM and KILL.
    grace: Duration,
}

/// One command to run.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Program and arguments; `${NAME}` is replaced. A program without a slash is searched, a relative one is in `dir`.
    pub command: &'a [String],
    /// Where it runs.
    pub dir: &'a Path,
    /// Its environment, beside `PATH`, `HOME`, `LANG` and `PWD`.
    pub variables: &'a Variables,
    /// Longest time that it may take.
    pub timeout: Duration,
}

/// Why a command did not succeed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum ExecError {
    /// There is no program in it.
    #[error("the command is empty")]
    Empty,
    /// A variable is missing.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// No place for its output.
    #[error("cannot write the command's output to {}", path.display())]
    Scratch {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It did not start.
    #[error("cannot run {program} in {}", dir.display())]
    Start {
        program: String,
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It ended badly.
    #[error("{program} ended with {status}{}", told(output))]
    Failed {
        program: String,
        status: ExitStatus,
        /// The end of what it wrote, at most [`OUTPUT_MAX`] bytes.
        output: String,
    },
    /// It was asked something and did not stop talking.
    #[error("{program} wrote more than {most} bytes")]
    TooMuch { program: String, most: u64 },
    /// It took too long and was killed, with every process of its group.
    #[error(
        "{program} did not end within {after:?} and was killed{}",
        told(output)
    )]
    TimedOut {
        program: String,
        after: Duration,
        /// The end of what it wrote, at most [`OUTPUT_MAX`] bytes.
        output: String,
    },
}

impl ExecError {
    /// True where the host does not have the program at all.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Exec {
    /// Keeps output in `scratch`, an existing directory on a disk.
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        Self {
            scratch: scratch.into(),
            grace: Self::default_grace(),
        }
    }

    /// Runs the command to its end and returns the end of its output; exit status 0 is success.
    ///
    /// A daemon that the command leaves behind lives on; only the command itself is waited for.
    pub async fn run(&self, run: &Run<'_>) -> Result<String, ExecError> {
        let words: Vec<String> = run
            .command
            .iter()
            .map(|word| expand(word, run.variables))
            .collect::<Result<_, _>>()?;
        let program = words.first().ok_or(ExecError::Empty)?.clone();
        let output = self.output_file()?;
        let mut group = Group {
            child: start(&words, run, || {
                let out = Stdio::from(output.try_clone()?);
                Ok((out, Stdio::from(output.try_clone()?)))
            })
            .await?,
            ended: false,
        };
        let waited = tokio::time::timeout(run.timeout, group.child.wait()).await;
        let Ok(status) = waited else {
            group.kill().await;
            return Err(ExecError::TimedOut {
                program,
                after: run.timeout,
                output: tail(&output),
            });
        };
        let status = status.map_err(|source| ExecError::Start {
            program: program.clone(),
            dir: run.dir.to_owned(),
            source,
        })?;
        group.ended = true;
        let output = tail(&output);
        if status.success() {
            return Ok(output);
        }
        Err(ExecError::Failed {
            program,
            status,
            output,
        })
    }

    /// A file that has no name any more: whatever happens, nothing has to be cleaned up.
    fn output_file(&self) -> Result<File, ExecError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = self
            .scratch
            .join(format!(".output-{}-{number}", process::id()));
        let open = || {
            // A file of that name can only be left over from a killed process of the same number.
            let mut options = OpenOptions::new();
            let file = options.read(true).append(true).create(true).open(&path)?;
            file.set_len(0)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        };
        open().map_err(|source| ExecError::Scratch {
            path: path.clone(),
            source,
        })
    }
}

/// Starts the command; `outputs` makes its standard output and standard error.
async fn start(
    words: &[String],
    run: &Run<'_>,
    outputs: impl FnOnce() -> io::Result<(Stdio, Stdio)>,
) -> Result<Child, ExecError> {
    let failed = |source| ExecError::Start {
        program: words[0].clone(),
        dir: run.dir.to_owned(),
        source,
    };
    let (out, err) = outputs().map_err(failed)?;
    let mut command = Command::new(place(&words[0], run.dir));
    command
        .args(&words[1..])
        .current_dir(run.dir)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .kill_on_drop(true);
    environment(&mut command, run.dir, run.variables);
    spawn(&mut command).await.map_err(failed)
}

/// Where the host's own tools are searched: what the distribution brought, never what an administrator put before that.
const TOOLS: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What a tool of the host runs in whose words are parsed.
pub fn of_tools() -> Variables {
    let pairs = [("PATH", TOOLS), ("LC_ALL", "C.UTF-8")];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    pairs.map(owned).into_iter().collect()
}

/// A tool of the host, for code that cannot wait for an answer of [`Exec::read`]. It gets nothing of the agent's own
/// environment either: the sockets of its service manager least of all.
pub fn tool(program: &str) -> process::Command {
    let mut command = process::Command::new(program);
    command
        .env_clear()
        .env("HOME", HOME)
        .envs(of_tools())
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

/// Nothing of the agent's own environment is passed on.
fn environment(command: &mut Command, dir: &Path, variables: &Variables) {
    command
        .env_clear()
        .env("PATH", SEARCH)
        .env("HOME", HOME)
        .env("LANG", "C.UTF-8")
        // A shell then names the directory as the release knows it, `current`, and not what the link leads to today.
        .env("PWD", dir)
        .envs(variables);
}

async fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..BUSY_TRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            started => return started,
        }
    }
    command.spawn()
}

/// A relative program is one of the release, wherever the agent itself stands.
fn place(program: &str, dir: &Path) -> PathBuf {
    if program.contains('/') {
        dir.join(program)
    } else {
        PathBuf::from(program)
    }
}

/// A running command and the processes that it started.
struct Group {
    child: Child,
    ended: bool,
}

impl Group {
    async fn kill(&mut self) {
        self.signal(Signal::KILL);
        // Reaped, so that its number is free only now. It cannot resist, and an error means that it is gone.
        let _ = self.child.wait().await;
        self.ended = true;
    }

    /// The leader is not reaped yet, so the number cannot belong to anybody else.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // It fails only where the whole group is gone.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// The leader's number; none once it is reaped.
    fn pid(&self) -> Option<Pid> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        pid.and_then(Pid::from_raw)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::KILL);
        }
    }
}

/// The end of the output. Read from the file itself, whose position the daemon may share.
fn tail(output: &File) -> String {
    let length = output.metadata().map_or(0, |metadata| metadata.len());
    let start = length.saturating_sub(OUTPUT_MAX as u64);
    let mut bytes = vec![0; OUTPUT_MAX];
    let count = output.read_at(&mut bytes, start).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..count]).trim().to_owned()
}

/// The end of the output as part of a message: one line, without control characters.
fn told(output: &str) -> String {
    if output.is_empty() {
        return " and no output".to_owned();
    }
    let line: String = output
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut start = line.len().saturating_sub(OUTPUT_TOLD);
    while !line.is_char_boundary(start) {
        start += 1;
    }
    let cut = if start > 0 { "…" } else { "" };
    format!("; its output ends: {cut}{}", &line[start..])
}

#[cfg(test)]
mod tests;
