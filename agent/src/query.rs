//! Asks a tool of the host something: short commands whose output is read, within bounds of time and bytes.
//!
//! For tools that only look; what changes the host goes through [`crate::exec`]. Invariant: when [`ask`] returns or is
//! dropped, the tool and its whole process group are gone.

use std::ffi::OsStr;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

/// Where tools are searched: those of the distribution, never what an administrator put before them.
const SEARCH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What a tool said.
#[derive(Debug)]
pub struct Answer {
    /// Its exit status; absent where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub text: String,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    /// It is not there, or did not start.
    #[error("cannot run {program}")]
    Start {
        /// What was to run.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It wrote more than anybody expects.
    #[error("{program} wrote more than {max} bytes")]
    TooMuch {
        /// What ran.
        program: String,
        /// What is allowed.
        max: usize,
    },
    /// It did not end.
    #[error("{program} did not end within {after:?}")]
    TimedOut {
        /// What ran.
        program: String,
        /// How long it had.
        after: Duration,
    },
}

impl QueryError {
    /// True where the host does not have the tool at all.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Bounds of one question.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest time.
    pub time: Duration,
    /// Most bytes of output.
    pub bytes: usize,
}

/// Runs a tool to its end and gives what it wrote; bytes that are no UTF-8 are replaced.
pub async fn ask<S: AsRef<OsStr>>(command: &[S], bounds: Bounds) -> Result<Answer, QueryError> {
    let program = command.first().map_or_else(String::new, |program| {
        program.as_ref().to_string_lossy().into_owned()
    });
    let start = |source| QueryError::Start {
        program: program.clone(),
        source,
    };
    let mut group = Group(start_of(command).map_err(start)?);
    let answered = tokio::time::timeout(bounds.time, group.answer(bounds.bytes)).await;
    match answered {
        Ok(Ok(Some(answer))) => Ok(answer),
        Ok(Ok(None)) => Err(QueryError::TooMuch {
            program,
            max: bounds.bytes,
        }),
        Ok(Err(source)) => Err(start(source)),
        Err(_) => Err(QueryError::TimedOut {
            program,
            after: bounds.time,
        }),
    }
}

fn start_of<S: AsRef<OsStr>>(command: &[S]) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", SEARCH)
        // The words of the tools are parsed.
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// A running tool and what it started.
struct Group(Child);

impl Group {
    /// Nothing where it writes too much.
    async fn answer(&mut self, max: usize) -> io::Result<Option<Answer>> {
        let mut bytes = Vec::new();
        if let Some(output) = self.0.stdout.take() {
            let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
            output.take(limit).read_to_end(&mut bytes).await?;
        }
        if bytes.len() > max {
            return Ok(None);
        }
        let status = self.0.wait().await?;
        Ok(Some(Answer {
            code: status.code(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not reaped yet where it has a number, so that cannot be anybody else's.
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // It fails only where the whole group is gone.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        time: Duration::from_mins(1),
        bytes: 1000,
    };

    #[tokio::test]
    async fn status_and_output_come_back() {
        let answer = ask(&["sh", "-c", "echo $LC_ALL; exit 3"], BOUNDS).await;
        let answer = answer.unwrap();
        assert_eq!((answer.code, answer.text.as_str()), (Some(3), "C.UTF-8\n"));
        let error = ask(&["comber-no-such-tool"], BOUNDS).await.unwrap_err();
        assert!(error.is_missing(), "{error}");
    }

    #[tokio::test]
    async fn a_tool_that_floods_or_hangs_is_ended_with_its_children() {
        let error = ask(&["sh", "-c", "yes"], BOUNDS).await.unwrap_err();
        assert!(matches!(error, QueryError::TooMuch { .. }), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let script = format!("(sleep 1; touch {}) & sleep 1000", mark.display());
        let short = Bounds {
            time: Duration::from_millis(100),
            ..BOUNDS
        };
        let error = ask(&["sh", "-c", &script], short).await.unwrap_err();
        assert!(matches!(error, QueryError::TimedOut { .. }), "{error}");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!mark.exists(), "a child lived on");
    }
}
