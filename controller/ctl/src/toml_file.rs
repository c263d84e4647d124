//! Files that a person gives: a path, or `-` for standard input.
//!
//! Reads only. Invariant: nothing longer than the limit gets into memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use comber_model::rollout::RolloutSpec;

use crate::error::{CliError, Outcome};

/// A rollout file has at most 64 kB; a little more is read so that the parser can say by how much it is too long.
const LIMIT: u64 = 1 << 20;

/// The text of `path`, or of standard input for `-`, and the name to call it by in errors.
pub(crate) fn read(path: &Path) -> Outcome<(String, String)> {
    let name = match path.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => path.display().to_string(),
    };
    let cannot = |error: io::Error| {
        CliError::configuration(format!("cannot read {name}")).because(error.to_string())
    };
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => io::stdin().take(LIMIT).read_to_string(&mut text),
        _ => File::open(path).and_then(|file| file.take(LIMIT).read_to_string(&mut text)),
    };
    read.map_err(cannot)?;
    Ok((text, name))
}

/// A rollout file, checked here first: the errors can then show the line.
pub(crate) fn read_rollout(path: &Path) -> Outcome<String> {
    let (text, name) = read(path)?;
    RolloutSpec::parse(&text).map_err(|problems| {
        CliError::invalid(format!("{name} is not a valid rollout file"), &problems)
    })?;
    Ok(text)
}
