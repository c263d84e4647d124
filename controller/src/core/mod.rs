//! The core: the one place where the controller's state changes.
//!
//! ```text
//! api ──edit──▶ ┌─────────── the core task ───────────┐
//!               │ edits ─▶ plan ─▶ check ─▶ commit     │──▶ store (durable)
//! agents ◀──────│          publish ◀── then answer     │
//!               └───────────────────────────────────────┘
//! ```
//!
//! One task owns the [`World`]. It takes the edits that wait, applies them, plans, checks the plan, writes everything
//! that changed to the store, and only then answers the callers and publishes desired states to the hosts' streams. It
//! holds the world's lock meanwhile, so nobody reads what is not durable. A plan that fails its check is not carried
//! out; its rollout halts. When the store fails, the process stops: nothing is retried on a disk that lied.

mod agents;
mod budgets;
mod changes;
mod clones;
mod edit;
mod error;
mod freezes;
mod hosts;
mod load;
mod meta;
mod packages;
mod planning;
mod records;
mod releases;
mod revocations;
mod rollouts;
mod task;
mod tokens;
mod trust;
mod world;

use std::sync::Arc;

use comber_model::event::Event;
use comber_runtime::clock::Clock;
use comber_runtime::shutdown::Shutdown;
use jiff::Timestamp;
use tokio::sync::{RwLock, RwLockReadGuard, mpsc, oneshot, watch};

pub use agents::{Attachment, AttachmentId, Ending};
pub use budgets::LockAnswer;
pub use clones::Presence;
pub use error::{CoreError, LoadError};
pub use packages::PackageReport;
pub use revocations::{KEPT as REVOCATION_KEPT, Revocation};
pub use tokens::{Certificate, Token};
pub use trust::{Kept, Listed, Trusted};
pub use world::World;

use crate::store::Store;
use edit::Edit;
use task::{Input, Job};

/// Edits that may wait for the core task; more callers wait in turn.
const QUEUE: usize = 4096;
/// Events of one page from the store.
const EVENTS_PAGE: usize = 1000;

/// What is measured of the core, told on its own task: must not block.
pub trait Observer: Send + Sync {
    /// One planning step took so long, in seconds.
    fn planned(&self, seconds: f64);
}

/// A handle to the core; clones share it.
#[derive(Clone)]
pub struct Core {
    inputs: mpsc::Sender<Input>,
    world: Arc<RwLock<World>>,
    changed: watch::Receiver<u64>,
    barred: watch::Receiver<u64>,
    store: Store,
    clock: Clock,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

/// The world as it stands, all of it durable. The core waits while it is held: read, and let go.
#[derive(Debug)]
pub struct ReadGuard<'a> {
    world: RwLockReadGuard<'a, World>,
    now: Timestamp,
}

impl ReadGuard<'_> {
    /// The time by the core's steady clock when the guard was taken.
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

impl std::ops::Deref for ReadGuard<'_> {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Core {
    /// Reads the whole state from the store and starts the core task.
    pub fn start(
        store: Store,
        clock: Clock,
        shutdown: &Shutdown,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, LoadError> {
        let (world, strays) = load::load(&store, clock.steady())?;
        let world = Arc::new(RwLock::new(world));
        let (inputs, queue) = mpsc::channel(QUEUE);
        let (count, changed) = watch::channel(0);
        let (bars, barred) = watch::channel(0);
        let task = task::Task {
            queue,
            strays,
            world: Arc::clone(&world),
            store: store.clone(),
            clock: clock.clone(),
            count,
            bars,
            observer,
            shutdown: shutdown.clone(),
        };
        comber_runtime::task::spawn("core", shutdown, task.run());
        Ok(Self {
            inputs,
            world,
            changed,
            barred,
            store,
            clock,
        })
    }

    /// The state now. Nothing that is not durable is ever seen.
    pub async fn read(&self) -> ReadGuard<'_> {
        let world = self.world.read().await;
        ReadGuard {
            world,
            now: self.clock.steady(),
        }
    }

    /// The state, where nothing changes it at this very moment; for scrapes, which cannot wait.
    pub fn glance(&self) -> Option<ReadGuard<'_>> {
        let world = self.world.try_read().ok()?;
        Some(ReadGuard {
            world,
            now: self.clock.steady(),
        })
    }

    /// A number that grows with every visible change: await it, then read again.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// A number that grows whenever somebody may be let in no more who was before: await it, then ask of every open
    /// connection again.
    pub fn barred(&self) -> watch::Receiver<u64> {
        self.barred.clone()
    }

    /// Names this life of the database; agents remember it.
    pub fn epoch(&self) -> [u8; 16] {
        self.store.epoch().0
    }

    /// Stored events after a number, in order, at most `limit` and at most a page.
    pub async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, Event)>, CoreError> {
        let (oldest, next) = {
            let world = self.read().await;
            (world.meta.oldest_event, world.meta.next_event)
        };
        if after != 0 && after + 1 < oldest {
            return Err(CoreError::OutOfRange { oldest });
        }
        let after = after.max(oldest.saturating_sub(1));
        if after + 1 >= next {
            return Ok(Vec::new());
        }
        let limit = limit.min(EVENTS_PAGE);
        self.store
            .read(move |store| records::events(store, after, limit))
            .await
            .map_err(|error| CoreError::Stopped(error.to_string()))?
    }

    /// Runs an edit on the core task; its answer comes when what it changed is durable.
    async fn edit<T: Send + 'static>(
        &self,
        edit: impl FnOnce(&mut Edit<'_>) -> Result<T, CoreError> + Send + 'static,
    ) -> Result<T, CoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |context| {
            let result = edit(context);
            Box::new(move |failed| {
                let result = failed.map_or(result, Err);
                // A caller that went away needs no answer; the change stays.
                let _gone = answer.send(result);
            })
        });
        let stopped = || CoreError::Stopped("the controller is stopping".to_owned());
        self.inputs
            .send(Input::Job(job))
            .await
            .map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
