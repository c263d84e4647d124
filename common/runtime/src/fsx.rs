//! Durable changes of files: what these functions promise holds after a power cut at any instant.
//!
//! A rename is atomic but not durable, and a new name is lost unless its directory is synced; every caller would have
//! to remember that. Blocking: call from a blocking thread or at start-up.
//! Invariant: a file written here is at every instant either the old one whole or the new one whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::statvfs;
use thiserror::Error;

/// A step on a file that failed; the path is the one that the step touched.
#[derive(Debug, Error)]
#[error("cannot {step} {}", path.display())]
pub struct FileError {
    step: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    /// What the kernel answered, for telling a missing file from a full disk.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The kernel's answer as text, for messages that name the file themselves.
    pub fn reason(&self) -> String {
        self.source.to_string()
    }

    fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { step, path, source }
    }
}

/// Space of one file system, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space {
    /// What an unprivileged process may still use; the reserve of root is not in it.
    pub available: u64,
    /// The size of the file system.
    pub total: u64,
}

/// Replaces `path` by `bytes` with the permissions `mode`, creating it when absent.
///
/// When it returns `Ok`, the new content is on disk and survives a power cut. When it fails, `path` holds the old
/// content whole, or, only when the last step (sync of the directory) failed, the new content whole. A crash may leave
/// a temporary file `.<name>.tmp` beside it, which the next call overwrites; two writers of one path must not race.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let (parent, temporary) = beside(path)?;
    let written = write_synced(&temporary, bytes, mode)
        .and_then(|()| fs::rename(&temporary, path).map_err(FileError::at("replace", path)));
    if let Err(error) = written {
        // The first error is the one to report; a leftover is overwritten by the next call.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    fsync_dir(&parent)
}

/// Makes `path` and its missing parents with the permissions `mode`, durably; one that exists is left as it is.
///
/// When it fails, some of the parents may exist; calling again goes on from there.
pub fn create_dir_durable(path: &Path, mode: u32) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    create_dir_durable(&parent, mode)?;
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fsync_dir(&parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(FileError::at("create the directory", path)(error)),
    }
}

/// Makes names that were added to, removed from or renamed in the directory durable.
///
/// When it fails, those changes are visible but may be undone by a power cut.
pub fn fsync_dir(path: &Path) -> Result<(), FileError> {
    let sync = || File::open(path)?.sync_all();
    sync().map_err(FileError::at("sync the directory", path))
}

/// Removes a file durably; one that is already gone is a success.
///
/// When it fails, the file may be back after a power cut.
pub fn remove_durable(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => fsync_dir(&parent_of(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::at("remove", path)(error)),
    }
}

/// Reads a file of at most `limit` bytes; a longer one is refused, not cut.
///
/// A file that somebody let grow must not become the memory of the process.
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let read = || {
        let mut bytes = Vec::new();
        io::Read::read_to_end(
            &mut io::Read::take(File::open(path)?, limit.saturating_add(1)),
            &mut bytes,
        )?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("larger than {limit} bytes"),
            ));
        }
        Ok(bytes)
    };
    read().map_err(FileError::at("read", path))
}

/// Space of the file system that `path`, which must exist, is on.
pub fn free_space(path: &Path) -> Result<Space, FileError> {
    let stat = statvfs(path)
        .map_err(|errno| FileError::at("read the free space of", path)(io::Error::from(errno)))?;
    Ok(Space {
        available: stat.f_bavail.saturating_mul(stat.f_frsize),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// The directory of `path` and the temporary name in it.
fn beside(path: &Path) -> Result<(PathBuf, PathBuf), FileError> {
    let Some(name) = path.file_name() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
        return Err(FileError::at("write", path)(source));
    };
    let parent = parent_of(path);
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    let temporary = parent.join(temporary);
    Ok((parent, temporary))
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || {
        // A leftover of a crash may have wider permissions than the secret we are about to write into it.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        // The mode at creation is cut by the umask; this states it exactly.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(FileError::at("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn writes_the_content_and_the_exact_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o664).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode_of(&path), 0o664);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_leftover_of_a_crash_gives_away_neither_content_nor_mode() {
        let dir = tempfile::tempdir().unwrap();
        let leftover = dir.path().join(".secret.tmp");
        fs::write(&leftover, b"half and longer than the new one").unwrap();
        fs::set_permissions(&leftover, fs::Permissions::from_mode(0o666)).unwrap();
        let path = dir.path().join("secret");
        write_atomic(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode_of(&path), 0o600);
        assert!(!leftover.exists());
    }

    #[test]
    fn a_failed_replace_keeps_the_old_and_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("child"), b"old").unwrap();
        let error = write_atomic(&path, b"new", 0o600).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot replace {}", path.display())
        );
        assert_eq!(fs::read(path.join("child")).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn directories_are_made_with_their_parents_and_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        create_dir_durable(&path, 0o700).unwrap();
        create_dir_durable(&path, 0o755).unwrap();
        assert_eq!(mode_of(&path), 0o700);
    }

    #[test]
    fn a_file_in_place_of_a_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"").unwrap();
        let error = create_dir_durable(&path.join("sub"), 0o700).unwrap_err();
        assert!(
            error.to_string().contains("create the directory"),
            "{error}"
        );
    }

    #[test]
    fn removing_twice_is_a_success() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"x").unwrap();
        remove_durable(&path).unwrap();
        remove_durable(&path).unwrap();
    }

    #[test]
    fn a_file_over_the_limit_is_refused_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read_limited(&path, 5).unwrap(), b"12345");
        assert_eq!(
            read_limited(&path, 4).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }

    #[test]
    fn free_space_is_within_the_total() {
        let space = free_space(Path::new("/")).unwrap();
        assert!(
            space.total > 0 && space.available <= space.total,
            "{space:?}"
        );
        assert_eq!(
            free_space(Path::new("/nonexistent")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
