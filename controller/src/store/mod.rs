//! The store: every record of the controller, durable before it is acknowledged.
//!
//! ```text
//!            submit                     one thread                         another thread
//! callers ----------> queue -> compares -> journal + fdatasync -> tables    checkpoints, backups,
//!    ^                                      |                      |        the next segment
//!    +---- Committed(revision) <------------+---- watchers <-------+
//! ```
//!
//! sled alone does not survive a power cut, so a journal of our own is the truth and sled holds tables that can be
//! rebuilt. Beside them are checkpoints (the whole database in one proven file; a backup is the same), a manifest
//! kept twice that says what must be there, and a mark of the highest acknowledged revision. See
//! `docs/decisions/0001-store-journal-before-sled.md`.
//!
//! # The invariant
//!
//! An acknowledged commit is never lost in silence: the store opens with all of them, or it refuses and names the
//! file and the remedy.
//!
//! # What is noticed, and what is done about it
//!
//! | damage | what opening does |
//! |---|---|
//! | power cut or kill at any instant | nothing is lost; a torn, never acknowledged write is left out |
//! | one bit, block or copy of a frame or header in the journal | repaired from the second copy |
//! | any damage to the tables, or no tables | rebuilt from a checkpoint and the journal |
//! | any damage to a checkpoint, manifest copy or mark | repaired from the others |
//! | journal segment cut or missing, tables intact after an orderly close | tables win; new checkpoint |
//! | journal segment cut or missing in the middle, tables or a newer checkpoint intact | new checkpoint |
//! | the last segment cut or missing after a crash | refused, as commits may have stood there |
//! | both manifest copies, or several of the above together | repaired if what is left proves the end, else refused |
//!
//! A cut is seen because segments have their full length before they are used; a missing file because the manifest
//! names it; a torn write is told from damage because each frame lies there twice, on blocks of its own.
//!
//! # What cannot be noticed
//!
//! - Both copies of the *last* frames wiped, in a file of full length, after a power cut: it looks like a torn
//!   write. After a crash of the process or 50 ms of quiet the mark knows better, and opening is refused.
//! - All files together put back to an older state (a snapshot of the disk, a copy of the directory): every file
//!   is true. Agents notice by generations; a *restored backup* is noticed by its new epoch.
//! - A disk that says "durable" and lies, beyond what the above happens to show.

mod codec;
mod contract;
mod create;
mod disk;
mod error;
mod export;
mod group;
mod journal;
mod lease;
mod load;
mod maintenance;
mod manifest;
mod open;
mod pending;
mod record;
mod segment;
mod shared;
mod tables;
mod timeline;
mod watch;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use contract::{
    Compare, Event, Item, Key, LeaseId, LimitError, MAX_KEY_BYTES, MAX_OPS, MAX_PAGE,
    MAX_TXN_BYTES, MAX_VALUE_BYTES, Op, Outcome, Page, Revision, Txn, Value, Versioned,
};
pub use error::{BackupError, CommitError, Damage, DiskError, Fatal, OpenError, ReadError};
pub use manifest::{Epoch, Origin};
pub use pending::{Pending, PendingBackup};
pub use watch::{Change, Compacted, Watch};

use lease::Leases;
use maintenance::{Job, Maintenance};
use shared::{Failure, Shared};
use watch::Hub;
use writer::{Request, Writer};

/// Bytes of a transaction that count as one more in the queue, so that large ones cannot fill the memory.
const WEIGHT_BYTES: usize = 4096;

/// Bounds and sizes; the defaults suit a million records of 200 bytes.
#[derive(Clone)]
pub struct Options {
    /// Whether an empty or missing directory becomes a new database.
    pub create: bool,
    /// Length of a journal segment. A larger one rotates less often and takes longer to make.
    pub segment_bytes: u64,
    /// Journal bytes after which a checkpoint is made: what a rebuild may have to replay.
    pub checkpoint_bytes: u64,
    /// Memory for the tables' page cache.
    pub cache_bytes: u64,
    /// Commits a watch may begin in the past.
    pub history: usize,
    /// Changes a watcher may be behind before it is told [`Compacted`].
    pub watch_queue: usize,
    /// Commits that may wait before [`CommitError::Overloaded`]; a large one counts for each 4 KB.
    pub queue: usize,
    /// Told of every group and checkpoint, on the store's threads; it must not block.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create: true,
            segment_bytes: 16 * 1024 * 1024,
            checkpoint_bytes: 128 * 1024 * 1024,
            cache_bytes: 128 * 1024 * 1024,
            history: 16_384,
            watch_queue: 1_024,
            queue: 100_000,
            observer: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("create", &self.create)
            .finish_non_exhaustive()
    }
}

/// A group of transactions that one sync made durable.
#[derive(Clone, Copy, Debug)]
pub struct GroupCommitted {
    /// How many transactions were answered.
    pub transactions: usize,
    /// Bytes the journal grew by.
    pub journal_bytes: u64,
    /// From the submission of the oldest to the answer.
    pub seconds: f64,
}

/// Where the store's measurements go.
pub trait Observer: Send + Sync {
    /// A group was made durable.
    fn committed(&self, group: &GroupCommitted);

    /// A checkpoint stands for this revision now.
    fn checkpointed(&self, revision: Revision);
}

/// A handle on an open store; clones share it. The last one dropped closes it, and waits for that.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.inner.shared.ledger.dir)
            .finish_non_exhaustive()
    }
}

struct Inner {
    shared: Arc<Shared>,
    queue: Sender<Request>,
    jobs: Sender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
    epoch: Epoch,
    origin: Option<Origin>,
    repairs: Vec<String>,
}

impl Store {
    /// Opens the database in a directory, or makes one; takes up to seconds for a million records.
    ///
    /// What was repaired is logged, and told by [`Store::repairs`]. Records that lived by a lease are removed: the
    /// process that held the lease is gone, or this one would not have the lock.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let opened = open::open(dir, &options)?;
        let hub = Hub::new(opened.state.revision, options.history, options.watch_queue);
        let (epoch, origin, unchecked) = {
            let manifest = opened.ledger.manifest.lock();
            (manifest.epoch, manifest.origin, manifest.unchecked())
        };
        let shared = Arc::new(Shared {
            ledger: opened.ledger,
            tables: opened.tables,
            hub: Mutex::new(hub),
            failure: Failure::new(),
            waiting: AtomicUsize::new(0),
            options,
            _lock: opened.lock,
        });
        let (maintenance, jobs) =
            Maintenance::start(Arc::clone(&shared)).map_err(OpenError::Thread)?;
        let mut leases = Leases::default();
        let orphans = LeaseId(u64::MAX);
        leases.adopt(orphans, opened.leased);
        let writer = Writer {
            shared: Arc::clone(&shared),
            journal: opened.journal,
            mark: opened.mark,
            state: opened.state,
            leases,
            maintenance,
            unchecked,
        };
        let (queue, requests) = channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&requests))
            .map_err(OpenError::Thread)?;
        let store = Self {
            inner: Arc::new(Inner {
                shared,
                queue,
                jobs,
                writer: Mutex::new(Some(thread)),
                epoch,
                origin,
                repairs: opened.warnings,
            }),
        };
        match store.lease_revoke(orphans).wait() {
            Err(CommitError::Failed(cause)) => Err(OpenError::Stopped(cause)),
            Ok(()) | Err(_) => Ok(store),
        }
    }

    /// One record. Reads memory or disk; in async code prefer [`Store::read`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Versioned>, ReadError> {
        self.inner
            .shared
            .tables
            .get(key)
            .map_err(|fatal| self.read_failed(fatal))
    }

    /// Records under `prefix` whose key is greater than `after`, up to `limit` and at most [`MAX_PAGE`], as they
    /// stand together at one revision. Reads memory or disk; in async code prefer [`Store::read`].
    pub fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let limit = limit.min(MAX_PAGE);
        let page = self.inner.shared.tables.range(prefix, after, limit);
        page.map_err(|fatal| self.read_failed(fatal))
    }

    /// Runs reads on a thread that may wait for the disk.
    pub async fn read<T: Send + 'static>(
        &self,
        reads: impl FnOnce(&Self) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let store = self.clone();
        let result = tokio::task::spawn_blocking(move || reads(&store)).await;
        result.unwrap_or(Err(ReadError::Unfinished))
    }

    /// Submits a transaction. Transactions are decided in the order of submission; the answer comes once it is
    /// durable. Never blocks; dropping the answer does not undo the transaction.
    pub fn submit(&self, txn: Txn) -> Pending<Outcome> {
        if let Err(error) = txn.check() {
            return self.refused(error.into());
        }
        let weight = 1 + txn.bytes() / WEIGHT_BYTES;
        let waiting = self
            .inner
            .shared
            .waiting
            .fetch_add(weight, Ordering::AcqRel);
        if waiting >= self.inner.shared.options.queue {
            self.inner.shared.answered(weight);
            return self.refused(CommitError::Overloaded { waiting });
        }
        let since = now();
        self.request(|answer| Request::Commit {
            txn,
            weight,
            since,
            answer,
        })
    }

    /// Submits a transaction and waits for its end; not for async code.
    pub fn commit(&self, txn: Txn) -> Result<Outcome, CommitError> {
        self.submit(txn).wait()
    }

    /// Every change of a key under `prefix` from the revision `from` on.
    pub fn watch(&self, prefix: impl Into<Key>, from: Revision) -> Result<Watch, Compacted> {
        self.inner.shared.hub.lock().watch(prefix.into(), from)
    }

    /// Grants a lease that ends `ttl` after `now`, a time since any fixed instant that never goes back.
    pub fn lease_grant(&self, ttl: Duration, now: Duration) -> Pending<LeaseId> {
        match getrandom::u64() {
            // Zero and the name used for orphans at opening are never granted.
            Ok(random) => {
                let id = LeaseId(random.clamp(1, u64::MAX - 1));
                self.request(|answer| Request::Grant {
                    id,
                    ttl,
                    now,
                    answer,
                })
            }
            Err(_) => self.refused(CommitError::Random),
        }
    }

    /// Lets a lease live for its whole `ttl` from `now` on.
    pub fn lease_keepalive(&self, id: LeaseId, now: Duration) -> Pending<()> {
        self.request(|answer| Request::KeepAlive { id, now, answer })
    }

    /// Ends a lease and removes its records, durably.
    pub fn lease_revoke(&self, id: LeaseId) -> Pending<()> {
        self.request(|answer| Request::Revoke { id, answer })
    }

    /// Ends all leases whose time is over at `now`; gives how many. The store has no clock: without this call no
    /// lease ends.
    pub fn lease_expire(&self, now: Duration) -> Pending<usize> {
        self.request(|answer| Request::Expire { now, answer })
    }

    /// The name of this database life; it changes when a backup is restored.
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// The backup this database came from, if it did.
    pub fn origin(&self) -> Option<Origin> {
        self.inner.origin
    }

    /// What was found wrong and repaired when the store was opened; each is logged as a warning, too.
    pub fn repairs(&self) -> &[String] {
        &self.inner.repairs
    }

    /// The revision of the last commit that can be read.
    pub fn revision(&self) -> Revision {
        self.inner.shared.tables.state().revision
    }

    /// Makes a checkpoint now; gives the revision it stands for.
    pub fn checkpoint(&self) -> PendingBackup {
        self.job(|done| Job::Checkpoint(Some(done)))
    }

    /// Writes the whole database to one file, proven by reading it back, while commits go on; gives the revision
    /// it stands for. An existing file of that name is replaced once the new one is whole.
    pub fn backup(&self, path: &Path) -> PendingBackup {
        self.job(|done| Job::Backup(path.to_path_buf(), done))
    }

    /// Makes a database with a new epoch out of a backup; refuses a damaged backup and a directory that is not
    /// empty. Gives the revision it begins at.
    pub fn restore(backup: &Path, dir: &Path, options: &Options) -> Result<Revision, BackupError> {
        create::restore(backup, dir, options)
    }

    /// Waits until the store stops for good; then the process has to end. Never resolves while all is well.
    pub async fn failed(&self) -> Arc<Fatal> {
        self.inner.shared.failure.wait().await
    }

    /// Answers what was submitted before, and leaves a clean end on disk. Blocks meanwhile. The directory
    /// is free for another process once every handle and unanswered [`Pending`] is dropped.
    pub fn close(&self) -> Result<(), Arc<Fatal>> {
        self.inner.close();
        self.inner
            .shared
            .failure
            .get()
            .map_or(Ok(()), |cause| Err(Arc::clone(cause)))
    }

    fn request<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, CommitError>>) -> Request,
    ) -> Pending<T> {
        let (answer, pending) = oneshot::channel();
        // When the writer is gone the answer's sender is dropped here, and that is what the caller will see.
        drop(self.inner.queue.send(request(answer)));
        Pending::waiting(pending, Arc::clone(&self.inner.shared))
    }

    fn refused<T>(&self, error: CommitError) -> Pending<T> {
        Pending::refused(error, Arc::clone(&self.inner.shared))
    }

    fn job(&self, job: impl FnOnce(maintenance::Done) -> Job) -> PendingBackup {
        let (done, pending) = oneshot::channel();
        drop(self.inner.jobs.send(job(done)));
        PendingBackup::new(pending, Arc::clone(&self.inner.shared))
    }

    fn read_failed(&self, fatal: Fatal) -> ReadError {
        ReadError::Failed(self.inner.shared.failure.set(fatal))
    }
}

impl Inner {
    fn close(&self) {
        let mut writer = self.writer.lock();
        if let Some(thread) = writer.take() {
            drop(self.queue.send(Request::Close));
            // A panic of the writer is a failure already, by the guard it holds.
            drop(thread.join());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a duration for the observer, which decides nothing; tests do not look at it"
)]
fn now() -> Instant {
    Instant::now()
}
