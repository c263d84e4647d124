//! The second thread: checkpoints, backups and the next segment's file, so that commits never wait for them.
//!
//! Reads the tables and the journal while the writer goes on; writes checkpoints, backups, the spare segment and
//! the manifest. The invariant: a checkpoint is named in the manifest only after it was read back and proven, and
//! nothing that an older one needs is removed before two newer proofs exist: there are always two ways back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::contract::Revision;
use super::error::{BackupError, Damage, DiskError, Fatal, OpenError};
use super::export::{Export, ReadError, checkpoint_path};
use super::journal::{Ledger, make_spare};
use super::load::LoadError;
use super::manifest::{CheckpointEntry, Manifest};
use super::segment::{self, ScanError};
use super::shared::{Shared, chain};
use super::tables::Tables;

/// Checkpoints that are kept; the journal reaches back to the oldest of them.
const KEPT: usize = 2;

pub(super) type Done = oneshot::Sender<Result<Revision, BackupError>>;

pub(super) enum Job {
    Checkpoint(Option<Done>),
    Backup(PathBuf, Done),
    Spare,
    Stop,
}

/// The writer's hold on the thread.
pub(super) struct Maintenance {
    jobs: Sender<Job>,
    stop: Arc<AtomicBool>,
    spare_asked: bool,
    thread: Option<JoinHandle<()>>,
}

impl Maintenance {
    pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<(Self, Sender<Job>)> {
        let (jobs, queue) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            shared,
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new()
            .name("store-maintain".to_owned())
            .spawn(move || worker.run(&queue))?;
        let handle = jobs.clone();
        Ok((
            Self {
                jobs,
                stop,
                spare_asked: false,
                thread: Some(thread),
            },
            handle,
        ))
    }

    /// Asks for a checkpoint and does not wait for it.
    pub(super) fn checkpoint(&self) {
        self.send(Job::Checkpoint(None));
    }

    /// Asks for a spare segment, once for each segment.
    pub(super) fn spare(&mut self, half_full: bool) {
        if half_full && !self.spare_asked {
            self.send(Job::Spare);
        }
        self.spare_asked = half_full;
    }

    /// Interrupts what runs and waits for the thread to end.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has cost a checkpoint and nothing else; it has been printed.
            drop(thread.join());
        }
    }

    fn send(&self, job: Job) {
        // Without its thread there are no checkpoints; commits stay durable, the journal grows.
        if self.jobs.send(job).is_err() {
            tracing::error!("the store's maintenance thread is gone: no more checkpoints");
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn run(&self, queue: &Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            match job {
                Job::Stop => break,
                Job::Spare => self.spare(),
                Job::Checkpoint(done) => self.answer(done, "checkpoint", self.checkpoint()),
                Job::Backup(path, done) => {
                    self.answer(Some(done), "backup", self.export_to(&path));
                }
            }
        }
    }

    fn answer(
        &self,
        done: Option<Done>,
        what: &'static str,
        result: Result<Revision, BackupError>,
    ) {
        match (&result, self.shared.observer()) {
            (Ok(revision), Some(observer)) if what == "checkpoint" => {
                observer.checkpointed(*revision);
            }
            (Err(BackupError::Closed) | Ok(_), _) => {}
            (Err(error), _) => tracing::error!(error = %chain(error), what, "not made"),
        }
        if let Some(done) = done {
            drop(done.send(result));
        }
    }

    /// Not having a spare costs time at the next rotation; a full disk is found there too.
    fn spare(&self) {
        let made = make_spare(&self.shared.ledger.dir, self.shared.options.segment_bytes);
        if let Err(error) = made {
            tracing::warn!(error = %chain(&error), "no spare journal segment");
        }
    }

    fn checkpoint(&self) -> Result<Revision, BackupError> {
        if let Some(cause) = self.shared.failure.get() {
            return Err(BackupError::Failed(Arc::clone(cause)));
        }
        // What was applied before the checkpoint needs no replay after it, even without the journal before it.
        self.shared
            .tables
            .sync()
            .map_err(|fatal| self.shared.failure.set(fatal))?;
        checkpoint(&self.shared.ledger, &self.shared.tables, KEPT, &self.stop)
            .map_err(|error| self.fatal(error))
    }

    fn export_to(&self, path: &Path) -> Result<Revision, BackupError> {
        export(&self.shared.ledger, &self.shared.tables, path, &self.stop)
            .map_err(|error| self.fatal(error))
    }

    /// Tables that fail while they are read are as fatal here as anywhere.
    fn fatal(&self, error: ExportError) -> BackupError {
        match error {
            ExportError::Fatal(fatal) => BackupError::Failed(self.shared.failure.set(fatal)),
            ExportError::Disk(error) => BackupError::Disk(error),
            ExportError::Damage(damage) => BackupError::Damaged(damage),
            ExportError::Stopped => BackupError::Closed,
        }
    }
}

/// An export that was not made.
pub(super) enum ExportError {
    Fatal(Fatal),
    Disk(DiskError),
    Damage(Damage),
    Stopped,
}

impl ExportError {
    /// The same at a time when the store is not open yet.
    pub(super) fn into_open(self) -> OpenError {
        match self {
            Self::Fatal(fatal) => LoadError::from(fatal).into_open(),
            Self::Disk(error) => OpenError::Disk(error),
            Self::Damage(damage) => OpenError::Damaged { damage },
            Self::Stopped => LoadError::from(Fatal::Writer).into_open(),
        }
    }
}

impl From<DiskError> for ExportError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Makes a checkpoint part of the database, keeps the newest `kept`, and removes what none of them needs.
pub(super) fn checkpoint(
    ledger: &Ledger,
    tables: &Tables,
    kept: usize,
    stop: &AtomicBool,
) -> Result<Revision, ExportError> {
    let number = ledger.manifest.lock().take_number();
    let revision = export(ledger, tables, &checkpoint_path(&ledger.dir, number), stop)?;
    let removed = ledger.update(|manifest| {
        manifest
            .checkpoints
            .push(CheckpointEntry { number, revision });
        retire(&ledger.dir, manifest, kept)
    });
    let removed = removed.map_err(|error| ExportError::Fatal(Fatal::Disk(error)))?;
    for path in removed {
        // Left behind, it is removed when the store is opened again.
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, file = %path.display(), "cannot remove");
        }
    }
    Ok(revision)
}

/// Takes out of the manifest what the newest `kept` checkpoints do not need; gives the files.
fn retire(dir: &Path, manifest: &mut Manifest, kept: usize) -> Vec<PathBuf> {
    let surplus = manifest.checkpoints.len().saturating_sub(kept);
    let old = manifest.checkpoints.drain(..surplus);
    let mut removed: Vec<PathBuf> = old.map(|old| checkpoint_path(dir, old.number)).collect();
    let Some(oldest) = manifest.checkpoints.first().map(|oldest| oldest.revision) else {
        return removed;
    };
    let needless = manifest
        .segments
        .windows(2)
        .take_while(|pair| pair[1].base <= oldest)
        .count();
    let old = manifest.segments.drain(..needless);
    removed.extend(old.map(|old| segment::path(dir, old.number)));
    removed
}

/// Writes the whole database to a file, proven, without stopping the writer.
fn export(
    ledger: &Ledger,
    tables: &Tables,
    path: &Path,
    stop: &AtomicBool,
) -> Result<Revision, ExportError> {
    let epoch = ledger.manifest.lock().epoch;
    let export = Export::create(path, epoch)?;
    let unfinished = export.unfinished().to_path_buf();
    let result = fill(ledger, tables, export, stop);
    if result.is_err() {
        // The error at hand says more than one about the useless rest would.
        drop(fs::remove_file(unfinished));
    }
    result
}

fn fill(
    ledger: &Ledger,
    tables: &Tables,
    mut export: Export,
    stop: &AtomicBool,
) -> Result<Revision, ExportError> {
    let start = tables.state().revision;
    let mut failed = None;
    let scanned = tables.scan(|item| {
        failed = export.record(&item).err();
        failed.is_none() && !stop.load(Ordering::Acquire)
    });
    scanned.map_err(ExportError::Fatal)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if stop.load(Ordering::Acquire) {
        return Err(ExportError::Stopped);
    }
    let end = tables.state();
    copy_commits(ledger, start, end.revision, &mut export)?;
    export.finish(end).map_err(|error| match error {
        ReadError::Disk(error) => ExportError::Disk(error),
        ReadError::Damage(damage) => ExportError::Damage(damage),
        // The tables gave other records than were committed, so they may not answer anyone any more.
        ReadError::Mismatch(damage) => ExportError::Fatal(tables.failed(&damage.to_string())),
    })?;
    Ok(end.revision)
}

/// Copies the commits after `start` up to `end` from the journal, where all of them are by now.
fn copy_commits(
    ledger: &Ledger,
    start: Revision,
    end: Revision,
    export: &mut Export,
) -> Result<(), ExportError> {
    if start == end {
        return Ok(());
    }
    let (epoch, segments) = {
        let manifest = ledger.manifest.lock();
        (manifest.epoch, manifest.segments.clone())
    };
    let skipped = segments
        .windows(2)
        .take_while(|pair| pair[1].base <= start)
        .count();
    let mut next = start.next();
    for entry in segments.into_iter().skip(skipped) {
        let scan = segment::scan(&ledger.dir, entry, epoch).map_err(|error| match error {
            ScanError::Disk(error) => ExportError::Disk(error),
            ScanError::Damage(damage) => ExportError::Damage(damage),
        })?;
        for found in scan.frames.iter().filter(|found| found.head.last() <= end) {
            let frame = scan.frame(found).map_err(ExportError::Damage)?;
            for (revision, ops) in frame.commits() {
                if revision == next {
                    export.commit(revision, ops)?;
                    next = revision.next();
                }
            }
        }
    }
    if next != end.next() {
        let what = format!("lacks the commits from revision {next} on");
        return Err(ExportError::Damage(Damage::new(&ledger.dir, what)));
    }
    Ok(())
}
