//! Answers that are not there yet: futures that a thread without a runtime can wait for, too.
//!
//! Memory only. The invariant: it resolves exactly once, and never to a success that the writer did not give.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::sync::oneshot;

use super::contract::Revision;
use super::error::{BackupError, CommitError};
use super::shared::Shared;

/// The answer to a submitted request. It resolves once the request is durable; dropping it changes nothing.
#[must_use = "a transaction is not durable before this resolves"]
pub struct Pending<T> {
    state: State<T>,
    shared: Arc<Shared>,
}

enum State<T> {
    Waiting(oneshot::Receiver<Result<T, CommitError>>),
    Refused(Option<CommitError>),
}

impl<T> Pending<T> {
    pub(super) const fn waiting(
        receiver: oneshot::Receiver<Result<T, CommitError>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            state: State::Waiting(receiver),
            shared,
        }
    }

    pub(super) const fn refused(error: CommitError, shared: Arc<Shared>) -> Self {
        Self {
            state: State::Refused(Some(error)),
            shared,
        }
    }

    /// Blocks this thread until the answer is there; not for async code.
    pub fn wait(self) -> Result<T, CommitError> {
        block_on(self)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.state {
            State::Waiting(receiver) => std::task::ready!(Pin::new(receiver).poll(context)).ok(),
            State::Refused(error) => error.take().map(Err),
        };
        // Without an answer the writer has ended before it came to this request.
        Poll::Ready(answer.unwrap_or_else(|| {
            Err(match self.shared.failure.get() {
                Some(cause) => CommitError::Failed(Arc::clone(cause)),
                None => CommitError::Closed,
            })
        }))
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

/// The end of a checkpoint or backup: the revision it stands for.
#[must_use = "nothing is known of the file before this resolves"]
pub struct PendingBackup {
    receiver: oneshot::Receiver<Result<Revision, BackupError>>,
    shared: Arc<Shared>,
}

impl PendingBackup {
    pub(super) const fn new(
        receiver: oneshot::Receiver<Result<Revision, BackupError>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { receiver, shared }
    }

    /// Blocks this thread until it is made; not for async code.
    pub fn wait(self) -> Result<Revision, BackupError> {
        block_on(self)
    }
}

impl Future for PendingBackup {
    type Output = Result<Revision, BackupError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = std::task::ready!(Pin::new(&mut self.receiver).poll(context));
        Poll::Ready(answer.unwrap_or_else(|_| {
            Err(match self.shared.failure.get() {
                Some(cause) => BackupError::Failed(Arc::clone(cause)),
                None => BackupError::Closed,
            })
        }))
    }
}

impl fmt::Debug for PendingBackup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingBackup").finish_non_exhaustive()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits without a runtime; tokio's own way to do so panics inside of one.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
