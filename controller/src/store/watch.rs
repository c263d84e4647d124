//! Watching: every commit to every watcher that asked for its prefix, without ever waiting for one.
//!
//! Memory only: a bounded history of past commits and a bounded queue for each watcher. The invariant: a watcher
//! sees every matching commit from its revision on, in order, or is told [`Compacted`]; never a gap in silence.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::contract::{Event, Key, Revision};

/// Bytes of keys and values the history keeps, whatever its number of commits.
const HISTORY_BYTES: usize = 32 * 1024 * 1024;

/// What one commit changed under a watched prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The commit.
    pub revision: Revision,
    /// Its changes, in the order of its operations; never empty.
    pub events: Vec<Event>,
}

/// The watched revisions are not kept any more, or the watcher fell behind: read the prefix again, then watch
/// from the next revision.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "changes since revision {from} are not kept any more: read again and watch from the next revision"
)]
pub struct Compacted {
    /// The first revision the watcher has not seen.
    pub from: Revision,
}

/// The receiving end of a watch.
#[derive(Debug)]
pub struct Watch {
    backlog: VecDeque<Change>,
    queue: mpsc::Receiver<Change>,
    lagged: Arc<AtomicBool>,
    next: Revision,
}

impl Watch {
    /// The next change; `None` once the store is closed. Cancel-safe: a change is taken only when it is returned.
    pub async fn next(&mut self) -> Option<Result<Change, Compacted>> {
        if let Some(change) = self.backlog.pop_front() {
            self.next = change.revision.next();
            return Some(Ok(change));
        }
        match self.queue.recv().await {
            Some(change) => {
                self.next = change.revision.next();
                Some(Ok(change))
            }
            // The flag is taken down with the answer, so the stream ends after it.
            None if self.lagged.swap(false, Ordering::AcqRel) => {
                Some(Err(Compacted { from: self.next }))
            }
            None => None,
        }
    }
}

struct Watcher {
    prefix: Key,
    queue: mpsc::Sender<Change>,
    lagged: Arc<AtomicBool>,
}

/// All watchers and the history they may begin in.
pub(super) struct Hub {
    watchers: Vec<Watcher>,
    history: VecDeque<Arc<Change>>,
    history_bytes: usize,
    /// Highest revision whose changes are not in the history.
    floor: Revision,
    limit: usize,
    queue: usize,
}

impl Hub {
    pub(super) fn new(floor: Revision, limit: usize, queue: usize) -> Self {
        let (watchers, history) = (Vec::new(), VecDeque::new());
        Self {
            watchers,
            history,
            history_bytes: 0,
            floor,
            limit,
            queue: queue.max(1),
        }
    }

    /// Begins a watch; the caller holds the lock that `publish` needs, so nothing falls between.
    pub(super) fn watch(&mut self, prefix: Key, from: Revision) -> Result<Watch, Compacted> {
        if from <= self.floor {
            return Err(Compacted { from });
        }
        let past = self.history.iter().filter(|change| change.revision >= from);
        let backlog = past
            .filter_map(|change| matching(change, &prefix))
            .collect();
        let (sender, queue) = mpsc::channel(self.queue);
        let lagged = Arc::new(AtomicBool::new(false));
        self.watchers.push(Watcher {
            prefix,
            queue: sender,
            lagged: Arc::clone(&lagged),
        });
        Ok(Watch {
            backlog,
            queue,
            lagged,
            next: from,
        })
    }

    /// Hands a durable commit to all who watch it, and drops those who do not keep up.
    pub(super) fn publish(&mut self, change: Change) {
        self.watchers.retain(|watcher| {
            let Some(seen) = matching(&change, &watcher.prefix) else {
                return !watcher.queue.is_closed();
            };
            match watcher.queue.try_send(seen) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => {
                    watcher.lagged.store(true, Ordering::Release);
                    false
                }
            }
        });
        self.history_bytes += size(&change);
        self.history.push_back(Arc::new(change));
        while self.history.len() > self.limit || self.history_bytes > HISTORY_BYTES {
            let Some(old) = self.history.pop_front() else {
                break;
            };
            self.history_bytes -= size(&old);
            self.floor = old.revision;
        }
    }

    /// Ends all watches, as the store closes or stops.
    pub(super) fn close(&mut self) {
        self.watchers.clear();
    }
}

fn matching(change: &Change, prefix: &Key) -> Option<Change> {
    let seen = change
        .events
        .iter()
        .filter(|event| event.key().starts_with(prefix));
    let events: Vec<Event> = seen.cloned().collect();
    (!events.is_empty()).then_some(Change {
        revision: change.revision,
        events,
    })
}

fn size(change: &Change) -> usize {
    let event = |event: &Event| match event {
        Event::Put(item) => item.key.len() + item.record.value.len(),
        Event::Delete { key, .. } => key.len(),
    };
    change.events.iter().map(event).sum()
}
