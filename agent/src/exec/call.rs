//! One bounded call of a foreign executable: its answer is kept, its noise is cut, and nothing of it survives a failure.
//!
//! Unlike a release's commands it is read through pipes, so that a flood costs no disk, and it is asked to end (TERM)
//! before it is made to (KILL). Invariant: when [`Exec::call`] returns an error or is dropped, the call's process group
//! and whatever [`Pen`] finds of it outside of the group is killed.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
use tokio::io::AsyncRead;
use tokio::process::{Child, Command};

use super::pen::Pen;
use super::pump::Pump;
use super::{Exec, ExecError, Group, environment, spawn};
use crate::surroundings::Variables;

/// Between TERM and KILL: time to remove a lock or a half-written file, not to finish.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether a call that was asked to end has done so.
const LOOK: Duration = Duration::from_millis(20);
/// What a call had written when it ended is in the pipe already; what comes later is of a process that it left behind.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The executable, by its absolute path.
    pub program: &'a Path,
    /// What it is told, as it is: nothing is replaced.
    pub arguments: &'a [&'a OsStr],
    /// Where it runs.
    pub dir: &'a Path,
    /// Its environment, beside `PATH`, `HOME`, `LANG` and `PWD`.
    pub variables: &'a Variables,
    /// Longest time that it may take.
    pub timeout: Duration,
    /// What the log calls it.
    pub name: &'a str,
    /// Whatever carries it in its environment belongs to the call, and ends with its failure.
    pub mark: &'a str,
}

/// What a call that ended well wrote to its standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its beginning, at most [`OUTPUT_MAX`](super::OUTPUT_MAX) bytes.
    pub bytes: Vec<u8>,
    /// How many bytes there were in all.
    pub total: u64,
}

/// Why a call did not end well.
#[derive(Debug)]
pub enum Cut<E> {
    /// By itself, or by its timeout.
    Exec(ExecError),
    /// By what went on beside it.
    Beside(E),
}

impl Exec {
    /// Calls the executable and waits for its end; exit status 0 is success.
    pub async fn call(&self, call: &Call<'_>) -> Result<Said, ExecError> {
        let nothing = std::future::pending::<Infallible>();
        match self.call_beside(call, nothing).await {
            Ok(said) => Ok(said),
            Err(Cut::Exec(error)) => Err(error),
            Err(Cut::Beside(never)) => match never {},
        }
    }

    /// The same, while something else goes on that ends by itself only to end the call.
    pub async fn call_beside<E>(
        &self,
        call: &Call<'_>,
        beside: impl Future<Output = E>,
    ) -> Result<Said, Cut<E>> {
        let mut pen = Pen::new(call.mark);
        let mut running = start(call, &mut pen).await.map_err(Cut::Exec)?;
        pen.arm(running.group.pid());
        let mut pump = Pump::new(call.name);
        let ended = running.ended(&mut pump, call.timeout, beside).await;
        let program = || call.program.display().to_string();
        let failed = match ended {
            Ended::Status(Ok(status)) if status.success() => {
                pen.disarm();
                return Ok(pump.said());
            }
            Ended::Status(Ok(status)) => Cut::Exec(ExecError::Failed {
                program: program(),
                status,
                output: pump.tail(),
            }),
            Ended::Status(Err(source)) => Cut::Exec(ExecError::Start {
                program: program(),
                dir: call.dir.to_owned(),
                source,
            }),
            Ended::TimedOut => {
                running.end(self.grace).await;
                Cut::Exec(ExecError::TimedOut {
                    program: program(),
                    after: call.timeout,
                    output: pump.tail(),
                })
            }
            Ended::Beside(error) => {
                running.end(self.grace).await;
                Cut::Beside(error)
            }
        };
        pen.kill();
        Err(failed)
    }

    /// Kills what is left of calls with that mark, also of those that an earlier process of the agent made. For the start of
    /// a way back: nothing of what is undone may still go on.
    pub fn kill_left_behind(mark: &str) {
        Pen::new(mark).kill();
    }

    /// With another time between TERM and KILL.
    #[cfg(test)]
    pub(crate) fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    pub(super) fn default_grace() -> Duration {
        GRACE
    }
}

enum Ended<E> {
    Status(io::Result<ExitStatus>),
    TimedOut,
    Beside(E),
}

/// The process and the ends of its pipes.
struct Running {
    group: Group,
}

impl Running {
    async fn ended<E>(
        &mut self,
        pump: &mut Pump,
        timeout: Duration,
        beside: impl Future<Output = E>,
    ) -> Ended<E> {
        let (out, err) = pipes(&mut self.group.child);
        let mut reading = pin!(pump.read(out, err));
        let mut beside = pin!(beside);
        let mut late = pin!(tokio::time::sleep(timeout));
        let mut all_read = false;
        let status = loop {
            tokio::select! {
                // Every arm may be polled again: the wait, the pipes and what is beside keep their places.
                status = self.group.child.wait() => break status,
                () = &mut reading, if !all_read => all_read = true,
                error = &mut beside => return Ended::Beside(error),
                () = &mut late => return Ended::TimedOut,
            }
        };
        if status.is_ok() {
            self.group.ended = true;
        }
        if !all_read {
            // It ends at the time, too: whoever was left behind may keep the pipes open for ever.
            let _ = tokio::time::timeout(LAST_WORDS, reading).await;
        }
        Ended::Status(status)
    }

    /// Asks the whole group to end, waits for the leader, and kills what is left.
    async fn end(&mut self, grace: Duration) {
        self.group.signal(Signal::TERM);
        // Not reaped, only looked at: while the leader's number is taken the group's cannot be another one's.
        let mut waited = Duration::ZERO;
        while waited < grace && !self.is_dead() {
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
        self.group.kill().await;
    }

    fn is_dead(&self) -> bool {
        let Some(pid) = self.group.pid() else {
            return true;
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error means that nobody of that number is ours any more.
        waitid(WaitId::Pid(pid), options).map_or(true, |status| status.is_some())
    }
}

async fn start(call: &Call<'_>, pen: &mut Pen) -> Result<Running, ExecError> {
    let mut command = Command::from(pen.command(call.program));
    command
        .args(call.arguments)
        .current_dir(call.dir)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    environment(&mut command, call.dir, call.variables);
    pen.mark(&mut command);
    let child = spawn(&mut command)
        .await
        .map_err(|source| ExecError::Start {
            program: call.program.display().to_string(),
            dir: call.dir.to_owned(),
            source,
        })?;
    Ok(Running {
        group: Group {
            child,
            ended: false,
        },
    })
}

/// Both are there, as they were asked for.
fn pipes(child: &mut Child) -> (impl AsyncRead + use<>, impl AsyncRead + use<>) {
    (Maybe(child.stdout.take()), Maybe(child.stderr.take()))
}

/// An end of a pipe; none is at its end.
struct Maybe<R>(Option<R>);

impl<R: AsyncRead + Unpin> AsyncRead for Maybe<R> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        match &mut self.0 {
            Some(inner) => std::pin::Pin::new(inner).poll_read(context, buffer),
            None => std::task::Poll::Ready(Ok(())),
        }
    }
}
