//! The directory that a module works on: the protocol's file tree, made before the first call and gone after the last.
//!
//! ```text
//!   version  current_artifact_name  current_artifact_group  current_device_type
//!   header/  artifact_name artifact_group payload_type header-info type-info meta-data
//!   tmp/                     the module's own, until the end
//!   stream-next  streams/    only in Download
//!   files/                   from ArtifactInstall on, where the module did not take the payload itself
//! ```
//!
//! Blocking. Invariant: a tree that a module is called on is whole and on the disk; nobody but the agent's user can read it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde::Serialize;

use super::error::ModuleError;
use super::payload::Member;
use crate::install::Stop;

/// The version of the protocol, which is the version of the tree.
const VERSION: &str = "3";
/// What a host is to a module: the protocol wants a type of device, and here every release has its own selector instead.
const DEVICE_TYPE: &str = "comber";
/// One piece of a copy.
const PIECE: usize = 64 << 10;

/// The tree of one change.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    dir: PathBuf,
}

/// What a tree says of the change.
#[derive(Debug, Clone)]
pub(super) struct Heading {
    /// `name@version` of what is installed.
    pub release: String,
    /// `name@version` of what is there; nothing where nothing is.
    pub current: String,
    /// The payload type.
    pub module: String,
    /// JSON for the module alone.
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct HeaderInfo<'a> {
    payloads: [Payload<'a>; 1],
    artifact_provides: BTreeMap<&'a str, &'a str>,
    artifact_depends: BTreeMap<&'a str, [&'a str; 1]>,
}

#[derive(Serialize)]
struct Payload<'a> {
    r#type: &'a str,
}

#[derive(Serialize)]
struct TypeInfo<'a> {
    r#type: &'a str,
    artifact_provides: BTreeMap<String, &'a str>,
    clears_artifact_provides: [String; 1],
}

impl Tree {
    /// The tree at that absolute place, whether or not it is there.
    pub(super) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn next(&self) -> PathBuf {
        self.dir.join("stream-next")
    }

    pub(super) fn streams(&self) -> PathBuf {
        self.dir.join("streams")
    }

    /// Makes it anew, with nothing of the payload yet.
    pub(super) fn make(&self, heading: &Heading) -> Result<(), ModuleError> {
        self.remove()?;
        let header = self.dir.join("header");
        for dir in [&self.dir, &header, &self.dir.join("tmp")] {
            make_dir(dir)?;
        }
        let line = |text: &str| format!("{text}\n");
        for (name, text) in [
            ("version", line(VERSION)),
            ("current_artifact_name", line(&heading.current)),
            ("current_artifact_group", line("")),
            ("current_device_type", line(DEVICE_TYPE)),
        ] {
            write(&self.dir.join(name), text.as_bytes())?;
        }
        for (name, text) in headers(heading) {
            write(&header.join(name), text.as_bytes())?;
        }
        sync(&self.dir)
    }

    /// Makes the pipe that tells the names of the others, and a place for those.
    pub(super) fn make_streams(&self) -> Result<(), ModuleError> {
        make_dir(&self.streams())?;
        make_pipe(&self.next())
    }

    /// Makes the pipe of one member; its name was checked to be one.
    pub(super) fn make_stream(&self, name: &str) -> Result<PathBuf, ModuleError> {
        let path = self.streams().join(name);
        make_pipe(&path)?;
        Ok(path)
    }

    pub(super) fn remove_streams(&self) -> Result<(), ModuleError> {
        let next = self.next();
        absent(fs::remove_file(&next)).map_err(io_at("remove", &next))?;
        let streams = self.streams();
        absent(fs::remove_dir_all(&streams)).map_err(io_at("remove", &streams))
    }

    /// Puts the payload into `files/`.
    pub(super) fn store(&self, payload: &[Member], stop: &Stop) -> Result<(), ModuleError> {
        let files = self.dir.join("files");
        make_dir(&files)?;
        for member in payload {
            copy(&member.path, &files.join(&member.name), stop)?;
        }
        sync(&self.dir)
    }

    /// Removes all of it; none is as good.
    pub(super) fn remove(&self) -> Result<(), ModuleError> {
        absent(fs::remove_dir_all(&self.dir)).map_err(io_at("remove", &self.dir))
    }
}

fn headers(heading: &Heading) -> [(&'static str, String); 6] {
    let Heading {
        release, module, ..
    } = heading;
    let header_info = HeaderInfo {
        payloads: [Payload { r#type: module }],
        artifact_provides: BTreeMap::from([("artifact_name", release.as_str())]),
        artifact_depends: BTreeMap::from([("device_type", [DEVICE_TYPE])]),
    };
    let type_info = TypeInfo {
        r#type: module,
        artifact_provides: BTreeMap::from([(
            format!("rootfs-image.{module}.version"),
            release.as_str(),
        )]),
        clears_artifact_provides: [format!("rootfs-image.{module}.*")],
    };
    [
        ("artifact_name", release.clone()),
        ("artifact_group", String::new()),
        ("payload_type", module.clone()),
        ("header-info", json(&header_info)),
        ("type-info", json(&type_info)),
        ("meta-data", json(&heading.metadata)),
    ]
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("strings and parsed JSON are always written")
}

fn make_dir(path: &Path) -> Result<(), ModuleError> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(io_at("create", path))
}

fn make_pipe(path: &Path) -> Result<(), ModuleError> {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .map_err(|errno| io_at("create", path)(errno.into()))
}

fn create(path: &Path) -> Result<File, ModuleError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io_at("create", path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ModuleError> {
    create(path)?.write_all(bytes).map_err(io_at("write", path))
}

fn copy(from: &Path, to: &Path, stop: &Stop) -> Result<(), ModuleError> {
    let mut source = stop.over(File::open(from).map_err(io_at("open", from))?);
    let mut target = create(to)?;
    let mut piece = vec![0; PIECE];
    loop {
        let count = source.read(&mut piece).map_err(io_at("read", from))?;
        if count == 0 {
            return Ok(());
        }
        target
            .write_all(&piece[..count])
            .map_err(io_at("write", to))?;
    }
}

/// Brings a directory and all in it to the disk.
fn sync(dir: &Path) -> Result<(), ModuleError> {
    for entry in fs::read_dir(dir).map_err(io_at("list", dir))? {
        let entry = entry.map_err(io_at("list", dir))?;
        let (path, kind) = (entry.path(), entry.file_type());
        let kind = kind.map_err(io_at("look at", &path))?;
        if kind.is_dir() {
            sync(&path)?;
        } else if kind.is_file() {
            sync_one(&path)?;
        }
    }
    sync_one(dir)
}

fn sync_one(path: &Path) -> Result<(), ModuleError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(io_at("sync", path))
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

pub(super) fn io_at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ModuleError {
    let path = path.to_owned();
    move |source| ModuleError::Io { step, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_tree_is_the_protocols_and_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::at(dir.path().join("tree"));
        let heading = Heading {
            release: "web@2".to_owned(),
            current: "web@1".to_owned(),
            module: "single-file".to_owned(),
            metadata: serde_json::Map::from_iter([("a".to_owned(), 1.into())]),
        };
        tree.make(&heading).unwrap();
        // Whatever was there is gone.
        fs::write(tree.dir().join("tmp/old"), "").unwrap();
        tree.make(&heading).unwrap();
        assert!(!tree.dir().join("tmp/old").exists());
        let read = |name: &str| fs::read_to_string(tree.dir().join(name)).unwrap();
        assert_eq!(read("version"), "3\n");
        assert_eq!(read("current_artifact_name"), "web@1\n");
        assert_eq!(read("current_artifact_group"), "\n");
        assert_eq!(read("header/payload_type"), "single-file");
        assert_eq!(read("header/meta-data"), "{\n  \"a\": 1\n}");
        let info: serde_json::Value = serde_json::from_str(&read("header/header-info")).unwrap();
        let expected = serde_json::json!({
            "payloads": [{"type": "single-file"}],
            "artifact_provides": {"artifact_name": "web@2"},
            "artifact_depends": {"device_type": ["comber"]},
        });
        assert_eq!(info, expected);
        let mode = |name: &str| {
            let metadata = fs::metadata(tree.dir().join(name)).unwrap();
            metadata.permissions().mode() & 0o7777
        };
        for (name, expected) in [
            ("", 0o700),
            ("header", 0o700),
            ("tmp", 0o700),
            ("version", 0o600),
            ("header/type-info", 0o600),
        ] {
            assert_eq!(mode(name), expected, "{name}");
        }
        tree.remove().unwrap();
        tree.remove().unwrap();
    }
}
