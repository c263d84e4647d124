//! Hands and a disk that do what a test wrote down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comber_machine::{Change, Found, Ledger, Moment, Recipe};
use comber_model::{Failure, FailureClass, ReleaseId, ReleaseName, Version};
use comber_runtime::clock::ManualClock;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::effects::{Activated, Effects, Noted, Verdict};
use crate::install::Fit;
use crate::ledger::{LedgerFile, SaveError, Store};

/// How a scripted call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Good,
    Bad,
    /// Never.
    Hang,
    /// Well, once the test says so.
    Wait,
    /// Never; once the test says so it only waits for the end of the agent.
    Leave,
}

/// What the test and the driver share.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) replies: Arc<Mutex<BTreeMap<&'static str, VecDeque<Reply>>>>,
    pub(super) calls: mpsc::UnboundedSender<String>,
    pub(super) go: Arc<tokio::sync::Notify>,
    /// Whether what is in hand only waits for the end of the agent.
    pub(super) is_leaving: Arc<AtomicBool>,
    pub(super) file: LedgerFile,
    /// Saves that fail before one succeeds again.
    pub(super) broken_saves: Arc<AtomicU32>,
    /// How long each save takes.
    pub(super) slow: Arc<Mutex<Duration>>,
    pub(super) hand: ManualClock,
    pub(super) recipe: Arc<Mutex<Recipe>>,
}

/// Says so when a call is dropped before it ended.
struct Dropped<'a> {
    call: &'static str,
    pub(super) calls: &'a mpsc::UnboundedSender<String>,
    ended: bool,
}

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.calls.send(format!("{} dropped", self.call));
        }
    }
}

impl Script {
    /// Tells the test of the call, with the state that the ledger has on disk at this moment.
    async fn call(&self, call: &'static str) -> Result<(), Failure> {
        let loaded = self.file.load(Timestamp::UNIX_EPOCH).unwrap();
        let state = loaded.ledger.state.kind();
        let _ = self.calls.send(format!("{call} in {state}"));
        let mut dropped = Dropped {
            call,
            calls: &self.calls,
            ended: false,
        };
        match self.reply(call) {
            Reply::Good => {}
            Reply::Bad => {
                dropped.ended = true;
                return Err(Failure::new(FailureClass::Install, "as the test wants"));
            }
            Reply::Hang => std::future::pending().await,
            Reply::Wait => self.go.notified().await,
            Reply::Leave => {
                self.go.notified().await;
                self.is_leaving.store(true, Ordering::SeqCst);
                std::future::pending().await
            }
        }
        dropped.ended = true;
        Ok(())
    }

    fn reply(&self, call: &'static str) -> Reply {
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        let script = replies.get_mut(call).and_then(VecDeque::pop_front);
        script.unwrap_or(Reply::Good)
    }
}

impl Effects for Script {
    async fn inspect(&self) -> Result<Found, Failure> {
        Ok(Found::default())
    }

    async fn fetch(&self, _: &Change) -> Result<Recipe, Failure> {
        self.call("fetch").await?;
        Ok(self
            .recipe
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone())
    }

    async fn preflight(&self, _: &Change) -> Result<Fit, Failure> {
        self.call("preflight").await.map(|()| Fit::Fits)
    }

    async fn note(&self, _: &Change, _: &Moment) -> Result<Noted, Failure> {
        match self.reply("note") {
            Reply::Good => Ok(Noted::Ready),
            Reply::Bad | Reply::Hang | Reply::Wait | Reply::Leave => Ok(Noted::Lapsed),
        }
    }

    async fn activate(&self, _: &Change) -> Result<Activated, Failure> {
        self.call("activate").await.map(|()| Activated {
            needs_reboot: false,
        })
    }

    async fn reboot(&self, _: &ReleaseId) -> Result<(), String> {
        self.call("reboot").await.map_err(|failure| failure.detail)
    }

    async fn verify(&self, _: &Change, _: bool) -> Verdict {
        match self.call("verify").await {
            Ok(()) => Verdict::Passed,
            Err(failure) => Verdict::Failed(failure),
        }
    }

    async fn verify_back(&self, _: &Change) -> Result<(), Failure> {
        self.call("verify_back").await
    }

    async fn roll_back(&self, _: &Change) -> Result<(), Failure> {
        self.call("roll_back").await
    }

    async fn cleanup(&self, _: &ReleaseName, keep: &[Version]) {
        let _ = self.calls.send(format!("cleanup but {}", keep.len()));
    }

    fn ends_with_agent(&self) -> bool {
        self.is_leaving.load(Ordering::SeqCst)
    }
}

impl Store for Script {
    fn save(&self, ledger: &Ledger) -> Result<(), SaveError> {
        let slow = *self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        self.hand.advance(slow);
        let less = |left: u32| left.checked_sub(1);
        if self
            .broken_saves
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_ok()
        {
            return Err(SaveError::Keep {
                path: "/full".into(),
                source: std::io::ErrorKind::StorageFull.into(),
            });
        }
        self.file.save(ledger)
    }
}
