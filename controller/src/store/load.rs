//! Filling tables from a checkpoint or backup, and bringing them forward with the journal.
//!
//! Writes tables that nothing uses yet, or applies journal frames to those in use. The invariant: tables count as
//! loaded only once their records give the hash that the checkpoint or frame states.

use std::path::Path;

use thiserror::Error;

use super::contract::{Key, Op, Versioned};
use super::disk;
use super::error::{Damage, DiskError, Fatal, OpenError};
use super::export::{self, Entry, after};
use super::record::{self, State};
use super::segment::Frame;
use super::tables::Tables;

/// Changes applied at once while loading.
const BATCH: usize = 1_000;

/// Tables could not be filled.
#[derive(Debug, Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Damage(#[from] Damage),
    #[error(transparent)]
    Tables(Fatal),
}

impl From<Fatal> for LoadError {
    fn from(fatal: Fatal) -> Self {
        match fatal {
            Fatal::Disk(error) => Self::Disk(error),
            other => Self::Tables(other),
        }
    }
}

impl From<export::ReadError> for LoadError {
    fn from(error: export::ReadError) -> Self {
        match error {
            export::ReadError::Disk(error) => Self::Disk(error),
            export::ReadError::Damage(damage) | export::ReadError::Mismatch(damage) => {
                Self::Damage(damage)
            }
        }
    }
}

impl LoadError {
    pub(super) fn into_open(self) -> OpenError {
        match self {
            Self::Disk(error) | Self::Tables(Fatal::Disk(error)) => OpenError::Disk(error),
            Self::Damage(damage) => OpenError::Damaged { damage },
            Self::Tables(Fatal::Tables { dir, what }) => OpenError::Damaged {
                damage: Damage::new(&dir, what),
            },
            Self::Tables(Fatal::Writer) => OpenError::Damaged {
                damage: Damage::new(Path::new("tables"), "were not filled"),
            },
        }
    }
}

/// Makes new tables with what a checkpoint or backup holds; the file is proven before it is used.
pub(super) fn load(dir: &Path, file: &Path, cache: u64) -> Result<Tables, LoadError> {
    let summary = export::verify(file)?;
    let tables = Tables::create(dir, cache)?;
    let mut batch: Vec<(Key, Option<Versioned>)> = Vec::with_capacity(BATCH);
    let mut failed: Option<Fatal> = None;
    export::read(file, |entry| {
        match entry {
            Entry::Record(item) => batch.push((item.key, Some(item.record))),
            Entry::Commit(revision, ops) => {
                batch.extend(ops.into_iter().map(|op| after(op, revision)));
            }
        }
        if batch.len() >= BATCH && failed.is_none() {
            failed = tables.apply(batch.drain(..), State::default()).err();
        }
        Ok(())
    })?;
    if let Some(fatal) = failed {
        return Err(fatal.into());
    }
    tables.apply(batch, summary.state)?;
    tables.verify(|_| ())?;
    tables.sync()?;
    // The name of the directory is new in its parent, too.
    dir.parent().map_or(Ok(()), disk::sync_dir)?;
    Ok(tables)
}

/// Applies one frame of the journal and checks that it leads to the state it names.
pub(super) fn replay(tables: &Tables, frame: &Frame) -> Result<(), LoadError> {
    let mut state = tables.state();
    let mut overlay: std::collections::HashMap<Key, Option<Versioned>> =
        std::collections::HashMap::new();
    for (revision, ops) in frame
        .commits()
        .filter(|(revision, _)| *revision > state.revision)
    {
        for op in ops.iter().cloned() {
            let old = old_record(tables, &overlay, &op)?;
            let (key, new) = after(op, revision);
            if let Some(old) = old {
                state.set.remove(record::hash(&key, &old));
            }
            if let Some(new) = &new {
                state.set.add(record::hash(&key, new));
            }
            overlay.insert(key, new);
        }
    }
    state.revision = frame.state().revision;
    if state != frame.state() {
        let what = "journal and tables do not lead to the same records";
        return Err(LoadError::Tables(tables.failed(what)));
    }
    Ok(tables.apply(overlay, state)?)
}

fn old_record(
    tables: &Tables,
    overlay: &std::collections::HashMap<Key, Option<Versioned>>,
    op: &Op,
) -> Result<Option<Versioned>, Fatal> {
    match overlay.get(op.key()) {
        Some(known) => Ok(known.clone()),
        None => tables.get(op.key()),
    }
}
