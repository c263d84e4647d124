//! Conversions between the nouns and the wire. Reading checks everything: a bad message is refused whole, by an error
//! that names the field. Writing cannot fail.

mod agent;
mod facts;
mod failure;
mod report;
pub mod time;

pub use agent::{desired_from_wire, desired_to_wire};
pub use facts::{
    known_packages, known_packages_to_wire, package_change_from_wire, package_change_to_wire,
};

use crate::{Digest, Invalid};

/// A digest of 32 bytes.
pub fn digest(field: &str, bytes: &[u8]) -> Result<Digest, Invalid> {
    let problem = || {
        Invalid::new(
            field,
            format!("has {} bytes, must be 32 (sha256)", bytes.len()),
        )
    };
    bytes.try_into().map(Digest).map_err(|_| problem())
}

/// A message that must be there.
pub fn required<T>(field: &str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::new(field, "is missing"))
}

/// A text that parses; the error tells the field as the wire names it.
pub fn parsed<T>(field: &str, text: &str) -> Result<T, Invalid>
where
    T: std::str::FromStr<Err = Invalid>,
{
    text.parse()
        .map_err(|error: Invalid| Invalid::new(field, error.problem))
}

/// A text of at most `max` bytes without control characters.
fn short(field: &str, text: String, max: usize) -> Result<String, Invalid> {
    if text.len() > max || text.chars().any(char::is_control) {
        let problem = format!("must be at most {max} bytes without control characters");
        return Err(Invalid::new(field, problem));
    }
    Ok(text)
}

/// A list of at most `max` entries.
fn bounded<T>(field: &str, list: Vec<T>, max: usize) -> Result<Vec<T>, Invalid> {
    if list.len() > max {
        let problem = format!("has {} entries, at most {max} are allowed", list.len());
        return Err(Invalid::new(field, problem));
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
