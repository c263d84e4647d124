//! Reads the directory of a release: its description and what lies below `files/`, with everything wrong at once.
//!
//! Reads names and modes, no content. Invariant: what it returns keeps the rules for paths and links, sorted.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use comber_model::Invalid;
use comber_model::release::Manifest;

use crate::build::{BuildError, FILES_DIR, RELEASE_FILE, io_at};
use crate::listing::MEMBERS_MAX;
use crate::path::{check_link, check_path, shown};
use crate::refused::Refused;

/// Beyond the manifest's own bound, so that it is the manifest that says so.
const SOURCE_READ_MAX: u64 = 1 << 20;

/// A place below `files/` before its content was read.
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Dir,
    File { executable: bool },
    Symlink { target: String },
}

/// The manifest and the sorted tree, or everything that is wrong with both.
pub(crate) fn read(dir: &Path) -> Result<(Manifest, Vec<Found>), BuildError> {
    let source = dir.join(RELEASE_FILE);
    let mut problems = Vec::new();
    let mut text = String::new();
    File::open(&source)
        .and_then(|file| file.take(SOURCE_READ_MAX).read_to_string(&mut text))
        .map_err(io_at("read", &source))?;
    let manifest = Manifest::parse(&text).map_err(|errors| {
        problems.extend(
            errors
                .into_iter()
                .map(|error| within_file(error, RELEASE_FILE)),
        );
    });
    let mut found = Vec::new();
    let files = dir.join(FILES_DIR);
    list(&files, "", &mut found, &mut problems)?;
    // Bytes of the path, not parts: the one order that is easy to check while reading.
    found.sort_by(|a, b| a.path.cmp(&b.path));
    match manifest {
        Ok(manifest) if problems.is_empty() => Ok((manifest, found)),
        Ok(_) | Err(()) => Err(BuildError::Invalid(problems)),
    }
}

fn list(
    dir: &Path,
    prefix: &str,
    found: &mut Vec<Found>,
    problems: &mut Vec<Invalid>,
) -> Result<(), BuildError> {
    let entries = fs::read_dir(dir).map_err(io_at("list", dir))?;
    for entry in entries {
        let entry = entry.map_err(io_at("list", dir))?;
        let place = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            let problem = "has a name that is not UTF-8; rename it";
            problems.push(Invalid::new(place.display().to_string(), problem));
            continue;
        };
        let path = format!("{prefix}{name}");
        let metadata = fs::symlink_metadata(&place).map_err(io_at("read", &place))?;
        if found.len() >= MEMBERS_MAX {
            return Err(BuildError::Refused(Refused::TooManyMembers));
        }
        match describe(&place, &path, &metadata)? {
            Ok(one) => {
                let is_dir = matches!(one.kind, Kind::Dir);
                found.push(one);
                if is_dir {
                    list(&place, &format!("{path}/"), found, problems)?;
                }
            }
            Err(problem) => problems.push(Invalid::new(format!("{FILES_DIR}/{path}"), problem)),
        }
    }
    Ok(())
}

/// What a place is, or what is wrong with it.
fn describe(
    place: &Path,
    path: &str,
    metadata: &Metadata,
) -> Result<Result<Found, String>, BuildError> {
    if let Err(rule) = check_path(path) {
        return Ok(Err(format!("the path {rule}")));
    }
    let kind = metadata.file_type();
    let mode = metadata.permissions().mode();
    let (size, kind) = if kind.is_dir() {
        (0, Kind::Dir)
    } else if kind.is_file() && mode & 0o6000 != 0 {
        return Ok(Err("has a setuid or setgid bit; remove it".to_owned()));
    } else if kind.is_file() {
        let executable = mode & 0o111 != 0;
        (metadata.len(), Kind::File { executable })
    } else if kind.is_symlink() {
        let target = fs::read_link(place).map_err(io_at("read the link", place))?;
        let Some(target) = target.to_str() else {
            return Ok(Err("links to a name that is not UTF-8".to_owned()));
        };
        if let Err(rule) = check_link(path, target) {
            return Ok(Err(format!(
                "the target {} of the link {rule}",
                shown(target)
            )));
        }
        let target = target.to_owned();
        (0, Kind::Symlink { target })
    } else {
        let problem = "is a device, socket or fifo; only files, directories and links are bundled";
        return Ok(Err(problem.to_owned()));
    };
    Ok(Ok(Found {
        path: path.to_owned(),
        size,
        kind,
    }))
}

fn within_file(error: Invalid, file: &str) -> Invalid {
    let field = if error.field.is_empty() {
        file.to_owned()
    } else {
        format!("{file}: {}", error.field)
    };
    Invalid::new(field, error.problem)
}
