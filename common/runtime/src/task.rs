//! The only place that spawns tasks: each has a name, and a panic in any of them stops the process.
//!
//! A process that lost a task but goes on is worse than one that restarts: it looks alive and does half its work.
//! Invariant: when a spawned future panics, its name is logged and the [`Shutdown`] token is set.

use std::future::Future;

use hyper::rt::Executor;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::shutdown::{Cause, Shutdown};

/// Starts `future` on the current runtime; `name` is in its log lines and in the cause of a shutdown by panic.
///
/// Dropping the handle detaches the task; `abort` on the handle is not a panic and stops nothing else.
pub fn spawn<F>(name: &'static str, shutdown: &Shutdown, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let span = tracing::debug_span!("task", name);
    let watched = stop_on_panic(name, shutdown.clone(), future);
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that names and watches tasks"
    )]
    tokio::spawn(watched.instrument(span))
}

/// Lets hyper spawn its connection tasks through [`spawn`].
#[derive(Clone, Debug)]
pub struct TaskExecutor {
    name: &'static str,
    shutdown: Shutdown,
}

impl TaskExecutor {
    /// All tasks it starts carry the one `name`.
    pub fn new(name: &'static str, shutdown: &Shutdown) -> Self {
        Self {
            name,
            shutdown: shutdown.clone(),
        }
    }
}

impl<F> Executor<F> for TaskExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        spawn(self.name, &self.shutdown, future);
    }
}

/// Sets the token if it is dropped while armed, which only unwinding out of a poll can do.
struct PanicGuard<'a> {
    name: &'static str,
    shutdown: &'a Shutdown,
    armed: bool,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if self.armed {
            tracing::error!(task = self.name, "a task panicked, the process stops");
            self.shutdown.trigger(Cause::Panicked(self.name.to_owned()));
        }
    }
}

fn stop_on_panic<F: Future>(
    name: &'static str,
    shutdown: Shutdown,
    future: F,
) -> impl Future<Output = F::Output> {
    // Boxed, since an async function would keep the future's room twice: as its argument, and where it is pinned.
    let mut future = Box::pin(future);
    std::future::poll_fn(move |context| {
        // Armed only around the poll: a task dropped by `abort` or by the end of the runtime has not panicked.
        let mut guard = PanicGuard {
            name,
            shutdown: &shutdown,
            armed: true,
        };
        let polled = future.as_mut().poll(context);
        guard.armed = false;
        polled
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_stops_the_process_and_names_the_task() {
        let shutdown = Shutdown::new();
        let task = spawn("doomed", &shutdown, async {
            std::hint::black_box(None::<u8>).expect("a test panics here")
        });
        assert_eq!(shutdown.wait().await, Cause::Panicked("doomed".into()));
        assert!(task.await.unwrap_err().is_panic());
    }

    #[tokio::test]
    async fn an_ended_or_aborted_task_stops_nothing() {
        let shutdown = Shutdown::new();
        assert_eq!(spawn("quick", &shutdown, async { 7 }).await.unwrap(), 7);
        let task = spawn("endless", &shutdown, std::future::pending::<()>());
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(!shutdown.is_set());
    }
}
