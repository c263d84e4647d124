//! Making a database: an empty one, or one with what a backup holds.
//!
//! Writes a directory that holds no database. The invariant: the manifest comes last, so a directory holds a whole
//! database or none; what a crash leaves of an unfinished one is known by its marker and removed.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::Options;
use super::contract::Revision;
use super::disk;
use super::error::{BackupError, Damage, DiskError, OpenError};
use super::export;
use super::journal::Ledger;
use super::load::{self, LoadError};
use super::maintenance::{ExportError, checkpoint};
use super::manifest::{Epoch, Manifest, Mark, Origin};
use super::open::lock;
use super::tables::{self, Tables};

/// Present from before the first file of a database until its manifest is durable.
const CREATING: &str = "creating";

/// Makes a database in a directory that is locked and has no manifest.
pub(super) fn create(
    dir: &Path,
    options: &Options,
    backup: Option<&Path>,
) -> Result<Manifest, OpenError> {
    if !options.create && backup.is_none() {
        return Err(OpenError::Missing {
            dir: dir.to_path_buf(),
        });
    }
    let marker = dir.join(CREATING);
    clear_unfinished(dir, &marker)?;
    File::create(&marker).map_err(DiskError::at("create", &marker))?;
    disk::sync_dir(dir)?;
    let mut manifest = Manifest {
        generation: 0,
        epoch: random_epoch()?,
        origin: None,
        tables: 1,
        next: 2,
        segments: Vec::new(),
        checkpoints: Vec::new(),
        clean: None,
    };
    let path = tables::path(dir, manifest.tables);
    let tables = match backup {
        None => Tables::create(&path, options.cache_bytes).map_err(LoadError::from),
        Some(backup) => load::load(&path, backup, options.cache_bytes),
    };
    let tables = tables.map_err(LoadError::into_open)?;
    tables
        .sync()
        .map_err(LoadError::from)
        .map_err(LoadError::into_open)?;
    let state = tables.state();
    if let Some(backup) = backup {
        manifest.origin = Some(origin(backup)?);
    }
    manifest.clean = Some(state.revision);
    let (mut mark, _) = Mark::open(dir, manifest.epoch, &mut Vec::new())?;
    mark.note(state.revision)?;
    mark.sync()?;
    let ledger = Ledger {
        dir: dir.to_path_buf(),
        manifest: Mutex::new(manifest),
    };
    checkpoint(&ledger, &tables, 1, &AtomicBool::new(false)).map_err(ExportError::into_open)?;
    created(dir)?;
    Ok(ledger.manifest.into_inner())
}

/// Takes away the marker once there is a manifest, so that it can never stand for anything else.
pub(super) fn created(dir: &Path) -> Result<(), DiskError> {
    disk::remove(&dir.join(CREATING))
}

fn origin(backup: &Path) -> Result<Origin, OpenError> {
    let summary = export::read(backup, |_| Ok(())).map_err(LoadError::from);
    let summary = summary.map_err(LoadError::into_open)?;
    Ok(Origin {
        epoch: summary.epoch,
        revision: summary.state.revision,
    })
}

/// Removes an unfinished database; anything else without a manifest is one that lost both copies of it.
fn clear_unfinished(dir: &Path, marker: &Path) -> Result<(), OpenError> {
    let unfinished = marker.exists();
    for entry in fs::read_dir(dir).map_err(DiskError::at("list", dir))? {
        let path = entry.map_err(DiskError::at("list", dir))?.path();
        if path.ends_with("LOCK") || path == marker {
            continue;
        }
        if !unfinished {
            let damage = Damage::new(
                &dir.join("manifest-a"),
                "and manifest-b are missing or damaged",
            );
            return Err(OpenError::Damaged { damage });
        }
        disk::remove_any(&path)?;
    }
    Ok(())
}

/// Makes a new database, with a new epoch, out of a backup; `dir` must be empty or not there yet.
pub(super) fn restore(
    backup: &Path,
    dir: &Path,
    options: &Options,
) -> Result<Revision, BackupError> {
    export::verify(backup).map_err(|error| match error {
        export::ReadError::Disk(error) => BackupError::Disk(error),
        export::ReadError::Damage(damage) | export::ReadError::Mismatch(damage) => {
            BackupError::Damaged(damage)
        }
    })?;
    disk::create_dir(dir)?;
    let _lock = lock(dir)?;
    let marker = dir.join(CREATING);
    let entries = fs::read_dir(dir).map_err(DiskError::at("list", dir))?;
    let others = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() != "LOCK");
    if others.count() > 0 && !marker.exists() {
        return Err(OpenError::NotEmpty {
            dir: dir.to_path_buf(),
        }
        .into());
    }
    let manifest = create(dir, options, Some(backup))?;
    Ok(manifest.clean.unwrap_or_default())
}

fn random_epoch() -> Result<Epoch, OpenError> {
    let mut epoch = [0; 16];
    getrandom::fill(&mut epoch).map_err(|_| OpenError::Random)?;
    Ok(Epoch(epoch))
}
