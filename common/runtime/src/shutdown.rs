//! How a process learns that it must end: one token, set once, that every task can wait for.
//!
//! SIGTERM, SIGINT, a panicking task or the program itself set it. The first cause stays, because it decides the
//! exit code; setting it again changes nothing. A second signal means that draining hangs: the process exits at once.

use std::{fmt, io, process, sync::Arc};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Exit code of a process that was told twice to stop, as a shell reports death by SIGINT.
pub const EXIT_IMPATIENT: i32 = 130;

/// Why the process ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The service manager or the terminal asked; an orderly end.
    Signal,
    /// The program itself is done or gives up; the text says why.
    Requested(String),
    /// A task named so has panicked: the state in memory cannot be trusted, the process must restart.
    Panicked(String),
}

/// A token shared by all tasks of a process; clones are one and the same.
#[derive(Clone, Debug)]
pub struct Shutdown {
    cause: Arc<watch::Sender<Option<Cause>>>,
}

impl Shutdown {
    /// A token that is not set yet. Nothing listens for signals until [`Shutdown::on_signals`].
    pub fn new() -> Self {
        Self {
            cause: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Sets the token, unless another cause came first.
    pub fn trigger(&self, cause: Cause) {
        self.cause.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert(cause);
            first
        });
    }

    /// Whether the process is already ending; for loops that look between two pieces of work.
    pub fn is_set(&self) -> bool {
        self.cause.borrow().is_some()
    }

    /// The first cause, for choosing the exit code.
    pub fn cause(&self) -> Option<Cause> {
        self.cause.borrow().clone()
    }

    /// Waits until the token is set and returns the first cause. Cancel-safe, and immediate when already set.
    pub async fn wait(&self) -> Cause {
        let mut cause = self.cause.subscribe();
        // Cloned at once: the guard of a watch channel must not be held across an await.
        let seen = cause
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|cause| cause.clone());
        match seen {
            Some(cause) => cause,
            // The sender lives in `self`, so the channel cannot be closed while we wait.
            None => std::future::pending().await,
        }
    }

    /// Sets the token on SIGTERM or SIGINT; a second of them exits with [`EXIT_IMPATIENT`].
    ///
    /// Fails only when the handlers cannot be installed; the process must then not start.
    pub fn on_signals(&self) -> io::Result<()> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        crate::task::spawn("signals", self, async move {
            watch_signals(terminate, interrupt, shutdown).await;
        });
        Ok(())
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("a signal"),
            Self::Requested(why) => f.write_str(why),
            Self::Panicked(task) => write!(f, "task {task} panicked"),
        }
    }
}

async fn watch_signals(mut terminate: Signal, mut interrupt: Signal, shutdown: Shutdown) {
    loop {
        // Both arms are cancel-safe: a signal that is not taken stays marked in its stream.
        tokio::select! {
            Some(()) = terminate.recv() => {}
            Some(()) = interrupt.recv() => {}
            else => return,
        }
        if shutdown.is_set() {
            tracing::warn!("told to stop a second time, exiting without draining");
            process::exit(EXIT_IMPATIENT);
        }
        tracing::info!("stopping");
        shutdown.trigger(Cause::Signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_cause_stays() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_set());
        shutdown.trigger(Cause::Requested("done".into()));
        shutdown.trigger(Cause::Signal);
        assert_eq!(shutdown.wait().await, Cause::Requested("done".into()));
        assert_eq!(shutdown.cause(), Some(Cause::Requested("done".into())));
    }

    #[tokio::test]
    async fn every_clone_is_woken() {
        let shutdown = Shutdown::new();
        let (one, two) = (shutdown.clone(), shutdown.clone());
        let both = async { tokio::join!(one.wait(), two.wait()) };
        let trigger = async { shutdown.trigger(Cause::Signal) };
        let (woken, ()) = tokio::join!(both, trigger);
        assert_eq!(woken, (Cause::Signal, Cause::Signal));
    }

    #[tokio::test]
    async fn a_signal_to_this_process_sets_the_token() {
        let shutdown = Shutdown::new();
        shutdown.on_signals().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
            .unwrap();
        assert_eq!(shutdown.wait().await, Cause::Signal);
    }
}
