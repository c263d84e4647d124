//! The core task: the loop that edits, plans, commits, publishes and answers.
//!
//! Input: a bounded queue of edits and detachments, and the time of the next planned change. Output: durable records,
//! desired states for the hosts' streams, answers. It holds no state of its own beside when to plan next.

use std::sync::Arc;
use std::time::Duration;

use comber_model::HostId;
use comber_runtime::clock::{Clock, later};
use comber_runtime::shutdown::{Cause, Shutdown};
use jiff::Timestamp;
use tokio::sync::{RwLock, mpsc, watch};

use super::agents::{self, AttachmentId, Ending};
use super::changes::{Changes, delete, put};
use super::edit::Edit;
use super::planning::{self, Planned};
use super::{CoreError, Observer, World, records};
use crate::store::{Outcome, Revision, Store, Txn};

/// Edits taken in one batch: bounds how long readers wait.
const BATCH: usize = 1000;
/// A plan is made at least so often, in case something was missed.
const TICK: Duration = Duration::from_secs(30);
/// After a plan, at least so many times its own length passes before the next: at most a third of the time is spent
/// planning, however large the fleet.
const PAUSE_FACTOR: u32 = 2;

/// An edit with its answer: runs on the world, and gives what to call once it is durable, or has failed.
pub(crate) type Job = Box<dyn FnOnce(&mut Edit<'_>) -> Answer + Send>;
/// Answers the caller; the argument is set where the commit failed.
pub(crate) type Answer = Box<dyn FnOnce(Option<CoreError>) + Send>;

/// What reaches the core task.
pub(crate) enum Input {
    /// An edit.
    Job(Job),
    /// A stream ended.
    Detach {
        /// Whose.
        host: HostId,
        /// Which.
        id: AttachmentId,
    },
}

/// The task's parts.
pub(crate) struct Task {
    pub(crate) queue: mpsc::Receiver<Input>,
    /// Keys of records to remove at the start.
    pub(crate) strays: Vec<String>,
    pub(crate) world: Arc<RwLock<World>>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) count: watch::Sender<u64>,
    /// Grows when somebody is let in no more.
    pub(crate) bars: watch::Sender<u64>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) shutdown: Shutdown,
}

/// When to plan.
struct Schedule {
    /// Something changed since the last plan.
    dirty: bool,
    /// Not before, though something changed.
    earliest: Timestamp,
    /// At the latest, though nothing changed.
    latest: Timestamp,
    /// The counters' record as it was last written; the compare of the next batch.
    fence: Option<Revision>,
}

impl Schedule {
    fn due(&self) -> Timestamp {
        if self.dirty {
            self.earliest.min(self.latest)
        } else {
            self.latest
        }
    }
}

impl Task {
    /// Runs until the process stops.
    pub(crate) async fn run(mut self) {
        let now = self.clock.steady();
        let fence = self.store.get(records::META.as_bytes()).ok().flatten();
        let fence = fence.map(|record| record.mod_rev);
        let mut schedule = Schedule {
            dirty: true,
            earliest: now,
            latest: now,
            fence,
        };
        if let Err(error) = self.sweep(&mut schedule).await {
            tracing::error!(%error, "records of an unfinished selection cannot be removed");
            self.shutdown.trigger(Cause::Requested(error.to_string()));
        }
        while let Some(batch) = self.next(schedule.due()).await {
            if let Err(error) = self.turn(batch, &mut schedule).await {
                tracing::error!(%error, "the store failed, the controller stops");
                self.shutdown.trigger(Cause::Requested(error.to_string()));
                break;
            }
        }
        let mut world = self.world.write().await;
        for (_, attached) in std::mem::take(&mut world.attached) {
            attached.end(Ending::Stopping);
        }
    }

    /// Removes what a crash left of a plan that never was.
    async fn sweep(&mut self, schedule: &mut Schedule) -> Result<(), CoreError> {
        let mut changes = Changes::default();
        for key in std::mem::take(&mut self.strays) {
            changes.group(vec![delete(key)]);
        }
        self.commit(changes, None, schedule).await
    }

    /// The inputs that wait, none when only the time has come; nothing when the process stops.
    async fn next(&mut self, due: Timestamp) -> Option<Vec<Input>> {
        let pause = due
            .duration_since(self.clock.steady())
            .try_into()
            .unwrap_or(Duration::ZERO);
        let mut batch = Vec::new();
        // Each arm may be dropped: receiving takes nothing before it resolves, the others hold nothing.
        tokio::select! {
            biased;
            _ = self.shutdown.wait() => return None,
            received = self.queue.recv_many(&mut batch, BATCH) => {
                if received == 0 { return None; }
            }
            () = tokio::time::sleep(pause) => {}
        }
        Some(batch)
    }

    /// One turn: edits, plan, commit, publish, answers.
    async fn turn(&self, batch: Vec<Input>, schedule: &mut Schedule) -> Result<(), CoreError> {
        let mut guard = self.world.write().await;
        let mut changes = Changes::default();
        let before = guard.meta.clone();
        let mut edit = Edit {
            world: &mut guard,
            changes: &mut changes,
            now: self.clock.steady(),
            wall: self.clock.wall(),
            plan: false,
            barred: false,
        };
        let touched = !batch.is_empty();
        let answers = apply(&mut edit, batch);
        let barred = edit.barred;
        schedule.dirty |= edit.plan;
        let planned = self.plan(&mut edit, schedule);
        edit.trim_events();
        let meta = (guard.meta != before).then(|| guard.meta.clone());
        let visible = touched || !changes.is_empty();
        let committed = self.commit(changes, meta.as_ref(), schedule).await;
        let failed = committed.as_ref().err().cloned();
        if failed.is_none() {
            publish(&guard, &planned.publish);
        }
        drop(guard);
        if barred {
            self.bars.send_modify(|count| *count += 1);
        }
        if visible {
            self.count.send_modify(|count| *count += 1);
        }
        for answer in answers {
            answer(failed.clone());
        }
        committed
    }

    fn plan(&self, edit: &mut Edit<'_>, schedule: &mut Schedule) -> Planned {
        if edit.now < schedule.due() {
            return Planned::default();
        }
        let begun = self.clock.boot();
        let planned = planning::plan(edit);
        let took = self.clock.boot().saturating_sub(begun);
        self.observer.planned(took.as_secs_f64());
        let tick = later(edit.now, TICK);
        schedule.dirty = false;
        schedule.earliest = later(edit.now, took.saturating_mul(PAUSE_FACTOR + 1));
        // A plan that asks to be made again at once still leaves room for edits.
        let soonest = later(edit.now, Duration::from_millis(5));
        schedule.latest = planned
            .next_wake
            .map_or(tick, |wake| wake.min(tick))
            .max(soonest);
        planned
    }

    /// Writes a batch. The counters go first, compared with what this process last wrote; what follows is fenced by
    /// them, so a second controller that should not be there can never interleave.
    async fn commit(
        &self,
        changes: Changes,
        meta: Option<&super::meta::Meta>,
        schedule: &mut Schedule,
    ) -> Result<(), CoreError> {
        let mut txns = changes.into_txns();
        if let Some(meta) = meta {
            if txns.is_empty() {
                txns.push(Txn::new());
            }
            let mut first = txns.remove(0);
            first.ops.push(put(records::META.to_owned(), meta));
            first = match schedule.fence {
                Some(revision) => first.mod_rev(records::META, revision),
                None => first.absent(records::META),
            };
            schedule.fence = Some(committed(self.store.submit(first).await)?);
        }
        let rest = txns.into_iter().map(|txn| match schedule.fence {
            Some(revision) => self.store.submit(txn.mod_rev(records::META, revision)),
            None => self.store.submit(txn),
        });
        for pending in rest.collect::<Vec<_>>() {
            committed(pending.await)?;
        }
        Ok(())
    }
}

fn committed(outcome: Result<Outcome, crate::store::CommitError>) -> Result<Revision, CoreError> {
    match outcome {
        Ok(Outcome::Committed(revision)) => Ok(revision),
        Ok(Outcome::Conflict) => Err(CoreError::Stopped(
            "another controller writes to the same store".to_owned(),
        )),
        Err(error) => Err(CoreError::Stopped(error.to_string())),
    }
}

fn apply(edit: &mut Edit<'_>, batch: Vec<Input>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(batch.len());
    for input in batch {
        match input {
            Input::Job(job) => answers.push(job(edit)),
            Input::Detach { host, id } => agents::detach(edit, &host, id),
        }
    }
    answers
}

fn publish(world: &World, hosts: &[HostId]) {
    for host in hosts {
        if let (Some(attached), Some(view)) =
            (world.attached.get(host), world.input.hosts.get(host))
        {
            attached.publish(&view.desired);
        }
    }
}
