//! The few steps on files and directories that durability is made of.
//!
//! Touches only the paths it is given. The invariant: when a function here returns `Ok`, what it wrote survives a
//! power cut, name and content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::error::DiskError;

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(DiskError::at("make durable the directory", dir))
}

/// Creates a directory and makes its name durable in the parent.
pub(super) fn create_dir(dir: &Path) -> Result<(), DiskError> {
    fs::create_dir_all(dir).map_err(DiskError::at("create the directory", dir))?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Replaces a small file whole: a reader finds the old content or the new, never a mix.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let new = path.with_extension("new");
    let mut file = File::create(&new).map_err(DiskError::at("create", &new))?;
    file.write_all(bytes)
        .map_err(DiskError::at("write", &new))?;
    file.sync_all()
        .map_err(DiskError::at("make durable", &new))?;
    rename(&new, path)
}

/// Renames within one directory, durably.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    fs::rename(from, to).map_err(DiskError::at("rename", from))?;
    sync_parent(to)
}

/// Removes a file if it is there, durably.
pub(super) fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DiskError::at("remove", path)(error)),
    }
}

/// Removes a file or a directory with all that is in it.
pub(super) fn remove_any(path: &Path) -> Result<(), DiskError> {
    if path.is_dir() {
        fs::remove_dir_all(path).map_err(DiskError::at("remove", path))?;
        return sync_parent(path);
    }
    remove(path)
}

/// The content of a file, or `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::at("read", path)(error)),
    }
}

/// Opens an existing file for reading and writing in place.
pub(super) fn open(path: &Path) -> Result<File, DiskError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(DiskError::at("open", path))
}

/// Makes durable every file and name below a directory, whoever wrote them.
pub(super) fn sync_tree(dir: &Path) -> Result<(), DiskError> {
    let entries = fs::read_dir(dir).map_err(DiskError::at("list", dir))?;
    for entry in entries {
        let path = entry.map_err(DiskError::at("list", dir))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
            continue;
        }
        match File::open(&path).and_then(|file| file.sync_all()) {
            // A snapshot that sled replaced between the listing and here is none of its state any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(DiskError::at("make durable", &path))?,
        }
    }
    sync_dir(dir)
}

fn sync_parent(path: &Path) -> Result<(), DiskError> {
    path.parent().map_or(Ok(()), sync_dir)
}
