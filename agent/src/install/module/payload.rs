//! What a module gets: the release's files, without the module itself where the release carries one.
//!
//! Looks at the unpacked release, which was proven; reads no content. Invariant: the names are plain names of one
//! directory, and one line each, so none of them can lead out of the tree or be two lines of the protocol.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::ModuleError;
use super::tree::io_at;

/// Longest name: the line that tells it must go through a pipe in one piece.
const NAME_MAX: usize = 255;

/// One file of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name in the tree.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
}

/// The payload of the release in that directory, by name. `carried` is the module, which is no part of it.
pub(super) fn payload(place: &Path, carried: Option<&str>) -> Result<Vec<Member>, ModuleError> {
    let carried = carried.map(|carried| place.join(carried));
    let mut members = Vec::new();
    for entry in fs::read_dir(place).map_err(io_at("list", place))? {
        let entry = entry.map_err(io_at("list", place))?;
        let path = entry.path();
        if carried.as_ref() == Some(&path) {
            continue;
        }
        let kind = entry.file_type().map_err(io_at("look at", &path))?;
        let name = entry.file_name();
        let name = name.to_string_lossy().into_owned();
        if kind.is_dir() && holds_only(&path, carried.as_deref())? {
            continue;
        }
        check(&name, kind.is_file())?;
        let metadata = entry.metadata().map_err(io_at("look at", &path))?;
        members.push(Member {
            name,
            path,
            length: metadata.len(),
        });
    }
    members.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(members)
}

/// Whether a release's file can be run.
pub(super) fn is_executable(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o100 != 0)
}

fn check(name: &str, is_file: bool) -> Result<(), ModuleError> {
    let refuse = |problem| {
        let name = name.to_owned();
        Err(ModuleError::Payload { name, problem })
    };
    if !is_file {
        return refuse("is a directory or a link");
    }
    // A name with a space could not be told from a name and a size.
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refuse("has a space or a control character in its name");
    }
    if name.is_empty() || name == "." || name == ".." || name.contains('/') || name.len() > NAME_MAX
    {
        return refuse("is not the plain name of a file");
    }
    Ok(())
}

/// Whether in that directory and those below it is no file but the module.
fn holds_only(dir: &Path, carried: Option<&Path>) -> Result<bool, ModuleError> {
    for entry in fs::read_dir(dir).map_err(io_at("list", dir))? {
        let path = entry.map_err(io_at("list", dir))?.path();
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let only = if is_dir {
            holds_only(&path, carried)?
        } else {
            carried == Some(path.as_path())
        };
        if !only {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_carried_module_is_no_part_of_the_payload() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("modules/v3")).unwrap();
        fs::write(dir.path().join("modules/v3/own"), "").unwrap();
        fs::write(dir.path().join("b"), "22").unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        let members = payload(dir.path(), Some("modules/v3/own")).unwrap();
        let told: Vec<_> = members
            .iter()
            .map(|member| (member.name.as_str(), member.length))
            .collect();
        assert_eq!(told, [("a", 0), ("b", 2)]);
        assert!(payload(dir.path(), None).is_err());
        fs::write(dir.path().join("modules/other"), "").unwrap();
        assert!(payload(dir.path(), Some("modules/v3/own")).is_err());
    }

    #[test]
    fn what_is_no_plain_file_is_refused() {
        for name in ["a b", "a\nb", "a\tb", "\u{85}"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), "").unwrap();
            let error = payload(dir.path(), None).unwrap_err();
            assert!(matches!(error, ModuleError::Payload { .. }), "{name:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let error = payload(dir.path(), None).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("\"link\" is a directory or a link"),
            "{error}"
        );
        for name in ["", ".", "..", "../x", "a/b"] {
            assert!(check(name, true).is_err(), "{name:?}");
        }
    }
}
