//! Where fragments come from and in which order they count.
//!
//! Touches the files named here, reading only. A directory that does not exist holds no fragments; a file that was named
//! by a flag must exist.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::Value;

use super::{
    problem::Problem,
    tree::{self, Node, Origin, Table},
};
use crate::fsx;

/// A configuration of more than this is not one that a person wrote.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The fragments of one process, from the weakest to the strongest.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    places: Vec<Place>,
    flags: Vec<Flag>,
}

#[derive(Clone, Debug)]
enum Place {
    /// All `*.toml` in it, by name.
    Directory(PathBuf),
    /// May be absent.
    File(PathBuf),
    /// Named by the user, so it must exist.
    Named(PathBuf),
}

#[derive(Clone, Debug)]
struct Flag {
    name: String,
    key: Vec<String>,
    value: Value,
}

impl Sources {
    /// The files of `name` (`controller`, `agent`) as installed.
    pub fn system(name: &str) -> Self {
        Self::under(Path::new("/"), name)
    }

    /// The same below another root: an image that is being built, or a test.
    pub fn under(root: &Path, name: &str) -> Self {
        let fragments = format!("{name}.d");
        let place = |dir: &str, file: &str| root.join(dir).join("comber").join(file);
        let places = vec![
            Place::Directory(place("usr/lib", &fragments)),
            Place::Directory(place("run", &fragments)),
            Place::File(place("etc", &format!("{name}.toml"))),
            Place::Directory(place("etc", &fragments)),
        ];
        Self {
            places,
            flags: Vec::new(),
        }
    }

    /// Adds a file that counts above all files so far; for `--config`.
    #[must_use]
    pub fn with_file(mut self, path: &Path) -> Self {
        self.places.push(Place::Named(path.to_owned()));
        self
    }

    /// Sets `key` (`log.level`) above all files; `flag` (`--log-level`) is what messages call it.
    #[must_use]
    pub fn with_flag(mut self, flag: &str, key: &str, value: impl Into<Value>) -> Self {
        let key = key.split('.').map(str::to_owned).collect();
        self.flags.push(Flag {
            name: flag.to_owned(),
            key,
            value: value.into(),
        });
        self
    }

    /// Everything laid over each other, with what could not be read.
    pub(super) fn merge(&self) -> (Table, Vec<Problem>) {
        let mut merged = Table::new();
        let mut problems = Vec::new();
        for path in self.files(&mut problems) {
            match read(&path) {
                Ok(table) => tree::merge(&mut merged, table),
                Err(message) => problems.push(problem(&path, message)),
            }
        }
        for flag in &self.flags {
            tree::merge(&mut merged, flag.to_table());
        }
        (merged, problems)
    }

    fn files(&self, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for place in &self.places {
            match place {
                Place::Directory(dir) => match fragments(dir) {
                    Ok(found) => files.extend(found),
                    Err(error) => problems.push(problem(dir, format!("cannot be listed: {error}"))),
                },
                Place::File(path) if !path.exists() => {}
                Place::File(path) | Place::Named(path) => files.push(path.clone()),
            }
        }
        files
    }
}

impl Flag {
    fn to_table(&self) -> Table {
        let origin: Origin = format!("flag {}", self.name).into();
        let innermost = Node::from_toml(self.value.clone(), &origin);
        let (first, rest) = match self.key.split_first() {
            Some((first, rest)) => (first.clone(), rest),
            None => (String::new(), &[][..]),
        };
        let wrap = |node, key: &String| Node::Table(Table::from([(key.clone(), node)]));
        Table::from([(first, rest.iter().rev().fold(innermost, wrap))])
    }
}

fn fragments(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Table, String> {
    let bytes = fsx::read_limited(path, MAX_FILE_BYTES)
        .map_err(|error| format!("cannot be read: {}", error.reason()))?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = 1 + text.as_bytes()[..at]
            .split(|byte| *byte == b'\n')
            .skip(1)
            .count();
        format!("line {line} is not TOML: {}", error.message())
    })?;
    Ok(tree::from_table(
        table,
        &Arc::from(path.display().to_string()),
    ))
}

fn problem(path: &Path, message: String) -> Problem {
    Problem {
        origin: path.display().to_string(),
        key: String::new(),
        message,
    }
}
