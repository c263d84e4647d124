//! Opening: deciding from what is on disk where the database stands, and refusing when that cannot be known.
//!
//! ```text
//! lock -> manifest -> journal, mark, checkpoints -> tables -> decide -> mend -> replay or rebuild -> new segment
//! ```
//!
//! Writes nothing but the tables' own files until it has decided. The invariant: the store opens at the highest
//! revision that any file shows to have been acknowledged, or it does not open.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::Options;
use super::contract::{Item, Key, Op, Revision};
use super::create::{create, created};
use super::disk;
use super::error::{Damage, DiskError, Fatal, OpenError};
use super::export;
use super::journal::{Journal, Ledger, spare_path};
use super::load;
use super::maintenance::{ExportError, checkpoint};
use super::manifest::{Manifest, Mark, read_manifest};
use super::record::State;
use super::segment;
use super::shared::chain;
use super::tables::{self, Tables};
use super::timeline::Timeline;

/// All that a running store is made of.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) ledger: Arc<Ledger>,
    pub(super) tables: Tables,
    pub(super) journal: Journal,
    pub(super) mark: Mark,
    pub(super) state: State,
    /// Records that lived by a lease of a process that is gone.
    pub(super) leased: Vec<Key>,
    pub(super) warnings: Vec<String>,
}

/// Present while the tables are opened: if it is found, that took the whole process down, so they are not tried
/// again but rebuilt.
const OPENING: &str = "tables.opening";

pub(super) fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    if !dir.is_dir() && !options.create {
        return Err(OpenError::Missing {
            dir: dir.to_path_buf(),
        });
    }
    disk::create_dir(dir)?;
    let lock = lock(dir)?;
    let mut warnings = Vec::new();
    let manifest = if let Some(manifest) = read_manifest(dir, &mut warnings)? {
        manifest
    } else {
        warnings.clear();
        create(dir, options, None)?
    };
    created(dir)?;
    let evidence = Evidence::gather(dir, manifest, options, warnings)?;
    evidence.decide(lock, options)
}

/// Takes the directory for this process; the kernel gives it back however the process ends.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("LOCK");
    let file = File::create(&path).map_err(DiskError::at("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            dir: dir.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(DiskError::at("lock", &path)(error).into()),
    }
}

/// What each file says, before anything is decided.
struct Evidence {
    dir: PathBuf,
    manifest: Manifest,
    line: Timeline,
    mark: Mark,
    /// Tables that hold exactly what they say.
    tables: Option<(Tables, State)>,
    leased: HashSet<Key>,
    /// Whole checkpoints, newest first.
    checkpoints: Vec<(PathBuf, Revision)>,
    /// Some way back is lost, so new ones are made before anything is served.
    renew: bool,
    acknowledged: Revision,
    warnings: Vec<String>,
}

impl Evidence {
    fn gather(
        dir: &Path,
        manifest: Manifest,
        options: &Options,
        mut warnings: Vec<String>,
    ) -> Result<Self, OpenError> {
        let line = Timeline::read(dir, &manifest, &mut warnings)?;
        let (mark, marked) = Mark::open(dir, manifest.epoch, &mut warnings)?;
        let mut checkpoints = Vec::new();
        for entry in manifest.checkpoints.iter().rev() {
            let path = export::checkpoint_path(dir, entry.number);
            match export::check(&path) {
                Ok(()) => checkpoints.push((path, entry.revision)),
                Err(export::ReadError::Disk(error)) => return Err(error.into()),
                Err(export::ReadError::Damage(damage) | export::ReadError::Mismatch(damage)) => {
                    warnings.push(damage.to_string());
                }
            }
        }
        let mut leased = HashSet::new();
        let number = manifest.tables;
        let tables = open_tables(dir, number, options, &mut leased, &mut warnings)?;
        let revisions = [
            Some(line.end),
            marked,
            manifest.clean,
            manifest.checkpoints.last().map(|newest| newest.revision),
            tables.as_ref().map(|(_, state)| state.revision),
        ];
        let acknowledged = revisions.into_iter().flatten().max().unwrap_or_default();
        let renew = checkpoints.len() < manifest.checkpoints.len() || line.damaged();
        let dir = dir.to_path_buf();
        Ok(Self {
            dir,
            manifest,
            line,
            mark,
            tables,
            leased,
            checkpoints,
            renew,
            acknowledged,
            warnings,
        })
    }

    fn decide(mut self, lock: File, options: &Options) -> Result<Opened, OpenError> {
        if let Some((tables, state)) = self.tables.take() {
            // After an orderly close the tables alone are the whole database; otherwise the journal's end counts.
            let complete = self.ends_cleanly_at(state.revision);
            if complete || (self.end_is_sure() && self.line.follows(state.revision)) {
                self.line.mend()?;
                match self.replay(&tables, state.revision) {
                    Ok(state) => return self.finish(lock, options, tables, state),
                    Err(load::LoadError::Disk(error)) => return Err(error.into()),
                    Err(error) => self.warnings.push(error.to_string()),
                }
            }
        }
        let (tables, state) = self.rebuild(options)?;
        self.finish(lock, options, tables, state)
    }

    fn ends_cleanly_at(&self, revision: Revision) -> bool {
        self.manifest.clean == Some(revision) && revision >= self.acknowledged
    }

    /// No acknowledged commit can be missing behind the end of the journal.
    fn end_is_sure(&self) -> bool {
        self.line.tail.is_none() && self.line.end >= self.acknowledged
    }

    fn replay(&mut self, tables: &Tables, from: Revision) -> Result<State, load::LoadError> {
        for frame in self.line.frames_after(from) {
            let frame = frame?;
            load::replay(tables, &frame)?;
            for op in frame.txns.iter().flatten() {
                match op {
                    Op::Put {
                        key,
                        lease: Some(_),
                        ..
                    } => self.leased.insert(key.clone()),
                    Op::Put { key, .. } | Op::Delete { key } => self.leased.remove(key),
                };
            }
        }
        Ok(tables.state())
    }

    /// Makes new tables from a checkpoint and the journal behind it.
    fn rebuild(&mut self, options: &Options) -> Result<(Tables, State), OpenError> {
        let usable = self.checkpoints.iter().find(|(_, revision)| {
            let sure = self.end_is_sure() && self.line.follows(*revision);
            sure || self.ends_cleanly_at(*revision)
        });
        let Some((checkpoint, revision)) = usable.cloned() else {
            return Err(self.refusal());
        };
        self.line.mend()?;
        let number = self.manifest.take_number();
        let path = tables::path(&self.dir, number);
        self.warnings.push(format!(
            "tables are rebuilt from {} (revision {revision}) and the journal",
            checkpoint.display()
        ));
        let built = load::load(&path, &checkpoint, options.cache_bytes).and_then(|tables| {
            self.replay(&tables, revision)?;
            Ok(tables)
        });
        let built = built.and_then(|tables| {
            self.leased.clear();
            let state = tables.verify(|item| note_leased(&mut self.leased, item))?;
            tables.sync()?;
            Ok((tables, state))
        });
        let (tables, state) = built.map_err(load::LoadError::into_open)?;
        self.manifest.tables = number;
        Ok((tables, state))
    }

    fn refusal(&self) -> OpenError {
        let journal = || Damage::new(&self.dir.join("journal-*"), "end too early");
        let gap = self.line.gaps.first().map(|gap| gap.damage.clone());
        if !self.end_is_sure() {
            let damage = self.line.tail.clone().unwrap_or_else(journal);
            let (acknowledged, found) = (self.acknowledged, self.line.end);
            return OpenError::Lost {
                damage,
                acknowledged,
                found,
            };
        }
        let newest = self
            .manifest
            .checkpoints
            .last()
            .map_or(0, |newest| newest.number);
        let checkpoint = export::checkpoint_path(&self.dir, newest);
        let unusable = || Damage::new(&checkpoint, "is damaged or does not reach the journal");
        OpenError::Damaged {
            damage: gap.unwrap_or_else(unusable),
        }
    }

    /// Begins a new segment behind all that was found, and restores the two ways back if one was lost.
    fn finish(
        mut self,
        lock: File,
        options: &Options,
        tables: Tables,
        state: State,
    ) -> Result<Opened, OpenError> {
        let unused = self
            .manifest
            .segments
            .pop_if(|last| last.base == state.revision);
        if unused.is_none() && state.revision > self.line.end {
            // The journal lost its end after an orderly close: nothing in it is needed beside the tables.
            self.renew = true;
        }
        self.manifest.clean = None;
        // Zeros that lay there over a crash may not be zeros any more.
        disk::remove(&spare_path(&self.dir))?;
        let ledger = Ledger {
            dir: self.dir.clone(),
            manifest: Mutex::new(self.manifest),
        };
        let ledger = Arc::new(ledger);
        let base = state.revision;
        let journal = Journal::begin(Arc::clone(&ledger), options.segment_bytes, base, 0)?;
        self.mark.note(base)?;
        if self.renew {
            let never = AtomicBool::new(false);
            checkpoint(&ledger, &tables, 1, &never).map_err(ExportError::into_open)?;
        }
        self.mark.sync()?;
        remove_unnamed(&ledger)?;
        for warning in &self.warnings {
            tracing::warn!(dir = %self.dir.display(), "{warning}");
        }
        Ok(Opened {
            lock,
            ledger,
            tables,
            journal,
            mark: self.mark,
            state,
            leased: self.leased.into_iter().collect(),
            warnings: self.warnings,
        })
    }
}

/// Opens the tables if they can be trusted. Whatever is wrong with them is a warning: they can be rebuilt.
fn open_tables(
    dir: &Path,
    number: u64,
    options: &Options,
    leased: &mut HashSet<Key>,
    warnings: &mut Vec<String>,
) -> Result<Option<(Tables, State)>, OpenError> {
    let opening = dir.join(OPENING);
    if opening.exists() {
        warnings.push("the last start ended while the tables were opened".to_owned());
        disk::remove(&opening)?;
        return Ok(None);
    }
    File::create(&opening).map_err(DiskError::at("create", &opening))?;
    let path = tables::path(dir, number);
    let found = Tables::open(&path, options.cache_bytes, |item| note_leased(leased, item));
    fs::remove_file(&opening).map_err(DiskError::at("remove", &opening))?;
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Fatal::Disk(error)) => Err(error.into()),
        Err(fatal) => {
            warnings.push(chain(&fatal));
            Ok(None)
        }
    }
}

fn note_leased(leased: &mut HashSet<Key>, item: Item) {
    if item.record.lease.is_some() {
        leased.insert(item.key);
    }
}

/// Removes what a crash left behind: files of ours that the manifest does not name hold nothing.
fn remove_unnamed(ledger: &Ledger) -> Result<(), DiskError> {
    let manifest = ledger.manifest.lock().clone();
    let dir = &ledger.dir;
    let mut named = HashSet::new();
    named.extend(
        manifest
            .segments
            .iter()
            .map(|entry| segment::path(dir, entry.number)),
    );
    let checkpoints = manifest.checkpoints.iter();
    named.extend(checkpoints.map(|entry| export::checkpoint_path(dir, entry.number)));
    named.insert(tables::path(dir, manifest.tables));
    for entry in fs::read_dir(dir).map_err(DiskError::at("list", dir))? {
        let path = entry.map_err(DiskError::at("list", dir))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let ours = ["journal-", "checkpoint-", "tables-", "manifest-"];
        let ours = ours.iter().any(|prefix| name.starts_with(prefix));
        if !ours || named.contains(&path) || name == "manifest-a" || name == "manifest-b" {
            continue;
        }
        disk::remove_any(&path)?;
    }
    Ok(())
}
