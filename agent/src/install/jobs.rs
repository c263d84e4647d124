//! Blocking work on the disk: one job at a time, and none that goes on for long after its caller went away.
//!
//! A thread cannot be cancelled. So a job looks at a flag between two pieces of its work, and the next job waits until
//! the last one has ended. Invariant: no two jobs of one [`Jobs`] touch the disk at the same time.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::InstallError;

/// Clones are one and the same.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    turn: Arc<Mutex<()>>,
}

/// Set once nobody waits for the job any more.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Jobs {
    /// Runs the job on a blocking thread once it is its turn. Dropping the future sets the job's [`Stop`].
    pub async fn run<F>(&self, job: F) -> Result<(), InstallError>
    where
        F: FnOnce(&Stop) -> Result<(), InstallError> + Send + 'static,
    {
        let guard = StopOnDrop(Stop::default());
        let stop = guard.0.clone();
        let turn = Arc::clone(&self.turn);
        let ran = tokio::task::spawn_blocking(move || {
            // A job that panicked has left what a crash leaves, which the next one deals with.
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            if stop.is_set() {
                return Err(InstallError::Interrupted);
            }
            job(&stop)
        });
        ran.await.unwrap_or(Err(InstallError::Interrupted))
    }
}

impl Stop {
    /// Whether the job should end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Reads that fail once the job should end.
    pub fn over<R: Read>(&self, inner: R) -> impl Read {
        Stoppable {
            inner,
            stop: self.clone(),
        }
    }
}

struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

struct Stoppable<R> {
    inner: R,
    stop: Stop,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_set() {
            return Err(io::Error::other("the work was cancelled"));
        }
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_dropped_job_is_told_and_the_next_one_waits_for_it() {
        let jobs = Jobs::default();
        let (started, has_started) = mpsc::channel();
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = Arc::clone(&order);
        let running = jobs.run(move |stop| {
            started.send(()).unwrap();
            let mut source = stop.over(io::repeat(0));
            while source.read(&mut [0; 16]).is_ok() {}
            first.lock().unwrap().push("first");
            Ok(())
        });
        {
            let mut running = Box::pin(running);
            // Polled once, so that it is running when it is dropped.
            tokio::select! {
                biased;
                ended = &mut running => panic!("{ended:?}"),
                () = std::future::ready(()) => {}
            }
            tokio::task::spawn_blocking(move || has_started.recv())
                .await
                .unwrap()
                .unwrap();
        }
        let second = Arc::clone(&order);
        jobs.run(move |_| {
            second.lock().unwrap().push("second");
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(*order.lock().unwrap(), ["first", "second"]);
    }
}
