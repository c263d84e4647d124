//! Unpacks a bundle into a fresh directory that gets its final name only when every byte is proven and on disk.
//!
//! Writes below one parent directory, through descriptors of directories it made itself and never through a link.
//! Invariant: a directory that has the final name is complete; one that a crash left behind ends in `.partial`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use comber_model::Artifact;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use thiserror::Error;

use crate::listing::Member;
use crate::path::parent;
use crate::refused::Refused;
use crate::verify::{Contents, Sink, verify_into};

/// The ending of a directory that is not complete.
const PARTIAL: &str = ".partial";

/// Why nothing was unpacked; the final name does not exist.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The bundle is not sound or not the declared one.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The final name is taken; whoever has it may be in use.
    #[error("{} is already there", path.display())]
    Exists {
        /// The final name.
        path: PathBuf,
    },
    /// The disk did not take it.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Unpacks the bundle to `target`, whose parent exists and which itself does not.
///
/// What an earlier try left behind is removed first. When it returns `Ok`, all of it survives a power cut.
pub fn unpack(
    carried: impl Read,
    declared: &Artifact,
    target: &Path,
) -> Result<Contents, UnpackError> {
    if fs::symlink_metadata(target).is_ok() {
        return Err(UnpackError::Exists {
            path: target.to_owned(),
        });
    }
    let partial = with_ending(target);
    remove(&partial)?;
    let unpacked = fill(carried, declared, &partial).and_then(|contents| {
        publish(&partial, target)?;
        Ok(contents)
    });
    if unpacked.is_err() {
        // The first error is the one to tell, and what stays is recognised and removed later.
        let _ = fs::remove_dir_all(&partial);
    }
    unpacked
}

/// Whether a directory of that name was left by an [`unpack`] that did not end.
pub fn is_partial(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(PARTIAL.as_bytes())
}

/// Removes what earlier tries left behind in `parent`; says how many there were. For the start of the process.
pub fn remove_partial(parent: &Path) -> Result<usize, UnpackError> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(io_at("list", parent)(error)),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(io_at("list", parent))?;
        if is_partial(&entry.file_name()) {
            remove(&entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn fill(carried: impl Read, declared: &Artifact, partial: &Path) -> Result<Contents, UnpackError> {
    // Nobody else can enter before it is complete.
    rustix::fs::mkdirat(CWD, partial, Mode::RWXU)
        .map_err(|errno| io_at("create", partial)(errno.into()))?;
    let top = rustix::fs::openat(CWD, partial, DIR_FLAGS, Mode::empty())
        .map_err(|errno| io_at("open", partial)(errno.into()))?;
    let mut tree = Tree {
        place: partial,
        top,
        last: None,
        file: None,
    };
    let contents = verify_into(carried, declared, &mut tree)?;
    tree.file = None;
    tree.sync(contents.listing.members())?;
    Ok(contents)
}

/// Gives the complete directory its name.
fn publish(partial: &Path, target: &Path) -> Result<(), UnpackError> {
    // NOREPLACE: an empty directory of that name would otherwise be replaced without a word.
    match rustix::fs::renameat_with(CWD, partial, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => {
            return Err(UnpackError::Exists {
                path: target.to_owned(),
            });
        }
        // A file system without the flag: the name was free a moment ago and only this process makes such names.
        Err(rustix::io::Errno::INVAL) => {
            fs::rename(partial, target).map_err(io_at("rename", partial))?;
        }
        Err(errno) => return Err(io_at("rename", partial)(errno.into())),
    }
    let parent = target.parent().unwrap_or_else(|| Path::new("/"));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(io_at("sync", parent))
}

const DIR_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The directory being filled.
struct Tree<'a> {
    place: &'a Path,
    top: OwnedFd,
    /// The directory opened last: neighbours in the list mostly share it.
    last: Option<(String, OwnedFd)>,
    file: Option<(PathBuf, File)>,
}

impl Sink for Tree<'_> {
    type Error = UnpackError;

    fn member(&mut self, member: &Member) -> Result<(), UnpackError> {
        self.file = None;
        let place = self.place.join(member.path());
        let name = name_of(member.path());
        match member {
            Member::Dir { path } => {
                let parent = self.parent_of(path)?;
                rustix::fs::mkdirat(parent, name, Mode::RWXU)
                    .map_err(|errno| io_at("create", &place)(errno.into()))
            }
            Member::Symlink { path, target } => {
                let parent = self.parent_of(path)?;
                rustix::fs::symlinkat(target.as_str(), parent, name)
                    .map_err(|errno| io_at("create", &place)(errno.into()))
            }
            Member::File {
                path, executable, ..
            } => {
                let file = create(self.parent_of(path)?, name, *executable)
                    .map_err(io_at("create", &place))?;
                self.file = Some((place, file));
                Ok(())
            }
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        match &mut self.file {
            Some((place, file)) => file.write_all(bytes).map_err(io_at("write", place)),
            None => Ok(()),
        }
    }
}

impl Tree<'_> {
    /// The open directory of a member, reached from the top without following a link.
    fn parent_of(&mut self, path: &str) -> Result<&OwnedFd, UnpackError> {
        let Some(wanted) = parent(path) else {
            return Ok(&self.top);
        };
        if self.last.as_ref().is_none_or(|(open, _)| open != wanted) {
            let opened = self.open_dir(wanted)?;
            self.last = Some((wanted.to_owned(), opened));
        }
        Ok(self.last.as_ref().map_or(&self.top, |(_, dir)| dir))
    }

    fn open_dir(&self, path: &str) -> Result<OwnedFd, UnpackError> {
        let open = |at: &OwnedFd, name: &str| {
            rustix::fs::openat(at, name, DIR_FLAGS, Mode::empty())
                .map_err(|errno| io_at("open", &self.place.join(path))(errno.into()))
        };
        let mut names = path.split('/');
        let mut dir = open(&self.top, names.next().unwrap_or_default())?;
        for name in names {
            dir = open(&dir, name)?;
        }
        Ok(dir)
    }

    /// Brings every file and directory to the disk, after all are written: the first sync then carries most of the
    /// journal for all the others. Directories get their final mode here, so that one which is open to others is whole.
    fn sync(&mut self, members: &[Member]) -> Result<(), UnpackError> {
        for member in members {
            let place = self.place.join(member.path());
            match member {
                Member::Symlink { .. } => {}
                Member::File { path, .. } => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let parent = self.parent_of(path)?;
                    rustix::fs::openat(parent, name_of(path), flags, Mode::empty())
                        .and_then(rustix::fs::fsync)
                        .map_err(|errno| io_at("sync", &place)(errno.into()))?;
                }
                Member::Dir { path } => {
                    let dir = self.open_dir(path)?;
                    open_to_all(&dir).map_err(io_at("sync", &place))?;
                }
            }
        }
        open_to_all(&self.top).map_err(io_at("sync", self.place))
    }
}

fn create(parent: &OwnedFd, name: &str, executable: bool) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
    let mode = if executable { 0o755 } else { 0o644 };
    // Not left to the creation, which the umask would cut.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(File::from(file))
}

fn open_to_all(dir: impl AsFd) -> io::Result<()> {
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755))?;
    rustix::fs::fsync(&dir)?;
    Ok(())
}

fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn remove(place: &Path) -> Result<(), UnpackError> {
    match fs::remove_dir_all(place) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_at("remove", place)(error)),
    }
}

fn with_ending(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(PARTIAL);
    PathBuf::from(name)
}

fn io_at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    let path = path.to_owned();
    move |source| UnpackError::Io { step, path, source }
}
