//! The directory of one product on the disk, and the one link in it that says what is active.
//!
//! Knows names and paths, nothing of records or commands. The switch is a new link renamed over the old one, then
//! synced. Invariant: at every instant `current` is absent or leads to one release, and nothing else is ever replaced by
//! it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use comber_model::Version;
use comber_runtime::fsx::{self, FileError};
use rustix::fs::{CWD, RenameFlags};

use super::InstallError;

const RELEASES: &str = "releases";
const CURRENT: &str = "current";
/// The link that is about to become `current`.
const NEXT: &str = ".current.next";
/// The ending by which a release that is not whole is known; also what unpacking uses.
const PARTIAL: &str = ".partial";
/// Digits of the digest at the end of a release's directory.
const SHORT_DIGEST: usize = 12;

/// The directory of one product.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    dir: PathBuf,
}

/// What `current` says, whether or not that is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Absent,
    /// A directory in `releases`.
    Slot(String),
    /// Where it leads, or itself where it is no link.
    Other(PathBuf),
}

impl Layout {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn current(&self) -> PathBuf {
        self.dir.join(CURRENT)
    }

    pub(crate) fn releases(&self) -> PathBuf {
        self.dir.join(RELEASES)
    }

    /// The directory of a release, by its short name.
    pub(crate) fn place(&self, slot: &str) -> PathBuf {
        self.releases().join(slot)
    }

    /// Where proven bytes wait that are to take a place which is in use.
    pub(crate) fn fresh(&self, slot: &str) -> PathBuf {
        self.releases().join(format!("{slot}.fresh{PARTIAL}"))
    }

    /// Makes the directories, open to everyone whatever the umask of the agent.
    pub(crate) fn make(&self) -> Result<(), InstallError> {
        make_public(&self.dir)?;
        make_public(&self.releases())
    }

    /// Takes the directories away where nothing is in them any more.
    pub(crate) fn unmake(&self) {
        // Each stays where something else is in it.
        let _ = fs::remove_dir(self.releases());
        let _ = fs::remove_dir(&self.dir);
    }

    pub(crate) fn link(&self) -> Result<Link, InstallError> {
        let current = self.current();
        let target = match fs::read_link(&current) {
            Ok(target) => target,
            Err(error) if is_absent(&error) => return Ok(Link::Absent),
            // What is there is no link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Ok(Link::Other(current));
            }
            Err(error) => return Err(io_at("read the link", &current)(error)),
        };
        let slot = target.strip_prefix(RELEASES).ok().and_then(Path::to_str);
        match slot {
            Some(slot) if is_slot(slot) => Ok(Link::Slot(slot.to_owned())),
            Some(_) | None => Ok(Link::Other(target)),
        }
    }

    /// The point of no return, both ways. The place must be there.
    pub(crate) fn switch(&self, slot: &str) -> Result<(), InstallError> {
        let (next, current) = (self.dir.join(NEXT), self.link_or_nothing()?);
        fsx::remove_durable(&next).map_err(file_at("remove", &next))?;
        symlink(Path::new(RELEASES).join(slot), &next).map_err(io_at("create", &next))?;
        fs::rename(&next, &current).map_err(io_at("replace", &current))?;
        fsx::fsync_dir(&self.dir).map_err(file_at("sync", &self.dir))
    }

    /// Makes nothing active.
    pub(crate) fn unlink(&self) -> Result<(), InstallError> {
        let current = self.link_or_nothing()?;
        if !self.dir.is_dir() {
            return Ok(());
        }
        fsx::remove_durable(&current).map_err(file_at("remove", &current))
    }

    /// Puts what is at `fresh` to the place and removes what was there. Whoever looks sees the one or the other, whole.
    pub(crate) fn exchange(&self, slot: &str) -> Result<(), InstallError> {
        let (fresh, place) = (self.fresh(slot), self.place(slot));
        rustix::fs::renameat_with(CWD, &fresh, CWD, &place, RenameFlags::EXCHANGE)
            .map_err(|errno| io_at("exchange", &place)(errno.into()))?;
        fsx::fsync_dir(&self.releases()).map_err(file_at("sync", &place))?;
        fs::remove_dir_all(&fresh).map_err(io_at("remove", &fresh))
    }

    /// The short names of the releases that are there; anything else in there is somebody else's.
    pub(crate) fn slots(&self) -> Result<Vec<String>, InstallError> {
        let releases = self.releases();
        let entries = match fs::read_dir(&releases) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(io_at("list", &releases)(error)),
        };
        let mut slots = Vec::new();
        for entry in entries {
            let name = entry.map_err(io_at("list", &releases))?.file_name();
            slots.extend(name.into_string().ok().filter(|name| is_slot(name)));
        }
        Ok(slots)
    }

    /// Removes a release. Its name goes first: what a crash leaves then is known as incomplete.
    pub(crate) fn discard(&self, slot: &str) -> Result<(), InstallError> {
        let place = self.place(slot);
        let mut partial = OsString::from(&place);
        partial.push(PARTIAL);
        let partial = PathBuf::from(partial);
        fs::rename(&place, &partial).map_err(io_at("rename", &place))?;
        fs::remove_dir_all(&partial).map_err(io_at("remove", &partial))
    }

    /// The path of `current`, once it is sure that replacing it loses nobody's data.
    fn link_or_nothing(&self) -> Result<PathBuf, InstallError> {
        let path = self.current();
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_symlink()) {
            return Err(InstallError::NotALink { path });
        }
        Ok(path)
    }
}

/// `<version>-<12 digits>`.
fn is_slot(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(version, digits)| {
        version.parse::<Version>().is_ok()
            && digits.len() == SHORT_DIGEST
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn make_public(dir: &Path) -> Result<(), InstallError> {
    if dir.is_dir() {
        return Ok(());
    }
    fsx::create_dir_durable(dir, 0o755).map_err(file_at("create", dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(io_at("open up", dir))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

pub(crate) fn io_at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Io { step, path, source }
}

fn file_at(step: &'static str, path: &Path) -> impl FnOnce(FileError) -> InstallError {
    let path = path.to_owned();
    move |error| InstallError::Io {
        step,
        path,
        source: io::Error::new(error.kind(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_releases_are_taken_for_releases() {
        for slot in [
            "1.0-0123456789ab",
            "1.0-rc1-0123456789ab",
            "2~b+1-a1b2c3d4e5f6",
        ] {
            assert!(is_slot(slot), "{slot}");
        }
        for other in [
            "1.0",
            "1.0-0123456789a",
            "1.0-0123456789ab.partial",
            "-0123456789ab",
            "../1.0-0123456789ab",
            "a/b-0123456789ab",
            "notes-are-not-here!",
        ] {
            assert!(!is_slot(other), "{other}");
        }
    }

    #[test]
    fn a_link_is_only_believed_where_it_leads_into_releases() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        for target in [
            "releases/../../etc-0123456789ab",
            "/releases/1.0-0123456789ab",
            "other/1.0-0123456789ab",
            "releases/1.0-0123456789ab/bin",
            "releases",
        ] {
            symlink(target, layout.current()).unwrap();
            assert_eq!(layout.link().unwrap(), Link::Other(target.into()));
            layout.unlink().unwrap();
        }
        assert_eq!(layout.link().unwrap(), Link::Absent);
        layout.switch("1.0-0123456789ab").unwrap();
        assert_eq!(
            layout.link().unwrap(),
            Link::Slot("1.0-0123456789ab".into())
        );
    }
}
