//! The one thread that commits: drain what waits, decide it, make it durable, apply it, tell the watchers, answer.
//!
//! ```text
//! queue -> Group (compares, overlay, leases) -> journal + fdatasync -> tables -> watchers -> answers
//! ```
//!
//! Writes the journal and the mark of what was acknowledged. The invariant: an answer `Committed` leaves this file
//! only after the journal is durable; after any failure no answer but that failure leaves it, and nothing is
//! written again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::GroupCommitted;
use super::contract::{LeaseId, Op, Outcome, Txn};
use super::error::{CommitError, Fatal};
use super::group::Group;
use super::journal::Journal;
use super::lease::Leases;
use super::maintenance::Maintenance;
use super::manifest::Mark;
use super::record::State;
use super::shared::Shared;

/// Transactions one sync may carry: enough that more would not raise the rate, few enough to stay in a frame.
const MAX_GROUP: usize = 1_000;

/// Bytes one sync may carry before the rest waits for the next one.
const MAX_GROUP_BYTES: usize = 2 * 1024 * 1024;

/// Idle time after which the mark of what was acknowledged is made durable, too.
const IDLE: Duration = Duration::from_millis(50);

/// Keys of an ended lease that go in one commit.
const LEASE_KEYS: usize = 1_000;

pub(super) type Answer<T> = oneshot::Sender<Result<T, CommitError>>;

/// What the writer is asked for; all of it in the order of submission.
pub(super) enum Request {
    Commit {
        txn: Txn,
        weight: usize,
        since: Instant,
        answer: Answer<Outcome>,
    },
    Grant {
        id: LeaseId,
        ttl: Duration,
        now: Duration,
        answer: Answer<LeaseId>,
    },
    KeepAlive {
        id: LeaseId,
        now: Duration,
        answer: Answer<()>,
    },
    Revoke {
        id: LeaseId,
        answer: Answer<()>,
    },
    Expire {
        now: Duration,
        answer: Answer<usize>,
    },
    Close,
}

/// An answer that waits for the group to be durable.
enum Waiting {
    Commit(Answer<Outcome>, Result<Outcome, CommitError>),
    Lease(Answer<LeaseId>, LeaseId),
    Done(Answer<()>, Result<(), CommitError>),
    Count(Answer<usize>, usize),
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Journal,
    pub(super) mark: Mark,
    pub(super) state: State,
    pub(super) leases: Leases,
    pub(super) maintenance: Maintenance,
    /// Bytes of journal since a checkpoint was asked for.
    pub(super) unchecked: u64,
}

impl Writer {
    /// Serves until it is told to close or every handle is gone; then leaves a clean end.
    pub(super) fn run(mut self, queue: &Receiver<Request>) {
        let mut guard = StopGuard {
            shared: Arc::clone(&self.shared),
            armed: true,
        };
        loop {
            let first = match queue.recv_timeout(IDLE) {
                Ok(Request::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.rest();
                    continue;
                }
            };
            if !self.serve(first, queue) {
                break;
            }
        }
        self.close();
        guard.armed = false;
    }

    /// Serves one group; false when the store is to close.
    fn serve(&mut self, first: Request, queue: &Receiver<Request>) -> bool {
        let mut waiting = Vec::new();
        let mut oldest = None;
        let (mut commits, mut weights) = (0, 0);
        let mut open = true;
        let shared = Arc::clone(&self.shared);
        let mut group = Group::new(&shared.tables, self.state);
        let mut next = Some(first);
        let mut failed = shared.failure.get().cloned();
        while let Some(request) = next.take() {
            match request {
                Request::Close => {
                    open = false;
                    break;
                }
                Request::Commit {
                    txn,
                    weight,
                    since,
                    answer,
                } => {
                    commits += 1;
                    weights += weight;
                    oldest.get_or_insert(since);
                    let result = match &failed {
                        Some(cause) => Err(CommitError::Failed(Arc::clone(cause))),
                        None => group.decide(txn, &mut self.leases).unwrap_or_else(|fatal| {
                            let cause = failed.insert(shared.failure.set(fatal));
                            Err(CommitError::Failed(Arc::clone(cause)))
                        }),
                    };
                    waiting.push(Waiting::Commit(answer, result));
                }
                other => match self.lease_request(other, &mut group) {
                    Ok(answer) => waiting.extend(answer),
                    Err(fatal) => failed = Some(shared.failure.set(fatal)),
                },
            }
            if waiting.len() < MAX_GROUP && group.bytes < MAX_GROUP_BYTES {
                next = queue.try_recv().ok();
            }
        }
        let result = match failed {
            Some(cause) => {
                shared.hub.lock().close();
                Err(cause)
            }
            None => self
                .commit(group)
                .map_err(|fatal| shared.failure.set(fatal)),
        };
        shared.answered(weights);
        let latency = oldest.map_or(Duration::ZERO, |since| since.elapsed());
        if let (Ok(journal_bytes), Some(observer)) = (&result, shared.observer()) {
            observer.committed(&GroupCommitted {
                transactions: commits,
                journal_bytes: *journal_bytes,
                seconds: latency.as_secs_f64(),
            });
        }
        answer_all(waiting, result.err().as_ref());
        open
    }

    /// Makes a decided group durable and visible; returns the bytes the journal grew by.
    fn commit(&mut self, mut group: Group<'_>) -> Result<u64, Fatal> {
        if group.is_empty() {
            return Ok(0);
        }
        let frame = group.take_frame();
        let bytes = self.journal.append(&frame).map_err(Fatal::Disk)?;
        self.shared
            .tables
            .apply(group.take_overlay(), group.state)?;
        self.state = group.state;
        self.mark.note(self.state.revision).map_err(Fatal::Disk)?;
        let mut hub = self.shared.hub.lock();
        for change in group.changes {
            hub.publish(change);
        }
        drop(hub);
        self.unchecked += bytes;
        if self.unchecked > self.shared.options.checkpoint_bytes {
            self.unchecked = 0;
            self.maintenance.checkpoint();
        }
        self.maintenance.spare(self.journal.is_half_full());
        Ok(bytes)
    }

    fn lease_request(
        &mut self,
        request: Request,
        group: &mut Group<'_>,
    ) -> Result<Option<Waiting>, Fatal> {
        Ok(match request {
            Request::Grant {
                id,
                ttl,
                now,
                answer,
            } => {
                self.leases.grant(id, ttl, now);
                Some(Waiting::Lease(answer, id))
            }
            Request::KeepAlive { id, now, answer } => {
                let held = self.leases.keep_alive(id, now);
                Some(Waiting::Done(answer, known(id, held)))
            }
            Request::Revoke { id, answer } => {
                let held = self.end_lease(id, group)?;
                Some(Waiting::Done(answer, known(id, held)))
            }
            Request::Expire { now, answer } => {
                let expired = self.leases.expired(now);
                for id in &expired {
                    self.end_lease(*id, group)?;
                }
                Some(Waiting::Count(answer, expired.len()))
            }
            Request::Commit { .. } | Request::Close => None,
        })
    }

    fn end_lease(&mut self, id: LeaseId, group: &mut Group<'_>) -> Result<bool, Fatal> {
        let Some(keys) = self.leases.end(id) else {
            return Ok(false);
        };
        for keys in keys.chunks(LEASE_KEYS) {
            let ops = keys
                .iter()
                .map(|key| Op::Delete { key: key.clone() })
                .collect();
            group.apply(ops, &mut self.leases)?;
        }
        Ok(true)
    }

    /// Uses a quiet moment to make the mark durable.
    fn rest(&mut self) {
        if self.shared.failure.get().is_none()
            && let Err(error) = self.mark.sync()
        {
            self.shared.failure.set(Fatal::Disk(error));
        }
    }

    /// Leaves files that open without replay and whose every damage is noticed.
    fn close(&mut self) {
        self.maintenance.stop();
        if self.shared.failure.get().is_some() {
            return;
        }
        if let Err(fatal) = self.try_close() {
            self.shared.failure.set(fatal);
        }
    }

    fn try_close(&mut self) -> Result<(), Fatal> {
        self.shared.tables.sync()?;
        self.mark.sync().map_err(Fatal::Disk)?;
        let revision = self.state.revision;
        let update = self
            .shared
            .ledger
            .update(|manifest| manifest.clean = Some(revision));
        update.map_err(Fatal::Disk)
    }
}

/// Turns a writer that ends by a panic into a failure everybody hears of.
struct StopGuard {
    shared: Arc<Shared>,
    armed: bool,
}

impl Drop for StopGuard {
    fn drop(&mut self) {
        if self.armed {
            self.shared.failure.set(Fatal::Writer);
        }
        self.shared.hub.lock().close();
    }
}

const fn known(id: LeaseId, held: bool) -> Result<(), CommitError> {
    if held {
        Ok(())
    } else {
        Err(CommitError::LeaseUnknown { id })
    }
}

fn answer_all(waiting: Vec<Waiting>, failed: Option<&Arc<Fatal>>) {
    // A submitter that went away does not want its answer; that is not an error.
    for answer in waiting {
        match answer {
            Waiting::Commit(to, result) => drop(to.send(or_failed(result, failed))),
            Waiting::Lease(to, id) => drop(to.send(or_failed(Ok(id), failed))),
            Waiting::Done(to, result) => drop(to.send(or_failed(result, failed))),
            Waiting::Count(to, count) => drop(to.send(or_failed(Ok(count), failed))),
        }
    }
}

/// A conflict or a lease that is not held may rest on commits of the same group, so it fails with the group.
fn or_failed<T>(
    result: Result<T, CommitError>,
    failed: Option<&Arc<Fatal>>,
) -> Result<T, CommitError> {
    match failed {
        Some(cause) => Err(CommitError::Failed(Arc::clone(cause))),
        None => result,
    }
}
