//! What the handle, the writer and the maintenance thread have in common.
//!
//! Memory only. The invariant: the first failure is the one everybody hears of, and it never goes away.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::error::Fatal;
use super::journal::Ledger;
use super::tables::Tables;
use super::watch::Hub;
use super::{Observer, Options};

pub(super) struct Shared {
    pub(super) ledger: Arc<Ledger>,
    pub(super) tables: Tables,
    pub(super) hub: Mutex<Hub>,
    pub(super) failure: Failure,
    /// Weight of the transactions submitted and not yet answered.
    pub(super) waiting: AtomicUsize,
    pub(super) options: Options,
    /// Declared last, so dropped last: the directory is free for another only once the tables are.
    pub(super) _lock: File,
}

impl Shared {
    pub(super) fn observer(&self) -> Option<&dyn Observer> {
        self.options.observer.as_deref()
    }

    pub(super) fn answered(&self, weight: usize) {
        self.waiting.fetch_sub(weight, Ordering::AcqRel);
    }
}

/// The failure that stopped the store, once there is one.
pub(super) struct Failure {
    cause: OnceLock<Arc<Fatal>>,
    signal: watch::Sender<bool>,
}

impl Failure {
    pub(super) fn new() -> Self {
        Self {
            cause: OnceLock::new(),
            signal: watch::Sender::new(false),
        }
    }

    pub(super) fn get(&self) -> Option<&Arc<Fatal>> {
        self.cause.get()
    }

    /// Notes a failure and gives the first one there was.
    pub(super) fn set(&self, cause: Fatal) -> Arc<Fatal> {
        let first = Arc::clone(self.cause.get_or_init(|| {
            tracing::error!(error = %chain(&cause), "the store stopped");
            Arc::new(cause)
        }));
        self.signal.send_replace(true);
        first
    }

    /// Waits for a failure; for ever while there is none.
    pub(super) async fn wait(&self) -> Arc<Fatal> {
        let mut signal = self.signal.subscribe();
        loop {
            if let Some(cause) = self.get() {
                return Arc::clone(cause);
            }
            // The sender lives as long as `self`, so this only ends when the signal was given.
            if signal.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
