//! Records in the words of the audit log: what they are called, and what differs between two of them.
//!
//! Pure. Invariant: a field whose name says that it holds a secret, or the hash of one, is never told.

use comber_model::audit::SIDE_MAX;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::stored;
use crate::core::records;
use crate::store::Key;

/// Fields that are never told.
const SECRET: [&str; 3] = ["hash", "secret", "key"];

/// What kind of record a key names.
pub(super) fn kind(key: &Key) -> &'static str {
    let known = [
        (records::HOSTS, "host"),
        (records::RELEASES, "release"),
        (records::ROLLOUTS, "rollout"),
        (records::MEMBERS, "member"),
        (records::DESIRED, "assignment"),
        (records::FREEZES, "freeze"),
        (records::BUDGETS, "budget"),
        (records::LOCKS, "lock"),
        (records::TOKENS, "enrolment token"),
        (records::OPERATORS, "operator"),
        (records::EVENTS, "event"),
    ];
    let found = known
        .iter()
        .find(|(prefix, _)| key.starts_with(prefix.as_bytes()));
    found.map_or("record", |(_, kind)| kind)
}

/// True for a record whose change is an entry of its own. What hosts say, and what the controller counts, is none.
pub(super) fn is_told(key: &Key) -> bool {
    let untold = [
        records::STATUS,
        records::PACKAGES,
        records::EVENTS,
        records::AUDIT,
        records::META,
    ];
    !untold
        .iter()
        .any(|prefix| key.starts_with(prefix.as_bytes()))
}

/// The last part of a key.
pub(super) fn name(key: &Key) -> &str {
    let text = std::str::from_utf8(key).unwrap_or_default();
    text.rsplit('/').next().unwrap_or_default()
}

/// What people call a record.
pub(super) fn object(key: &Key) -> String {
    let name = name(key);
    match kind(key) {
        "rollout" => match u32::from_str_radix(name, 16) {
            Ok(number) => format!("rollout r{number}"),
            Err(_) => format!("rollout {name}"),
        },
        "enrolment token" => format!("enrolment token {}", name.get(..12).unwrap_or(name)),
        "record" => format!("record {}", String::from_utf8_lossy(key)),
        kind => format!("{kind} {name}"),
    }
}

/// One field of a stored record, as text.
pub(super) fn field(value: &[u8], field: &str) -> Option<String> {
    let record = stored(value)?;
    record.get(field)?.as_str().map(ToOwned::to_owned)
}

/// What of a record changes: the fields that differ, as they were and as they are.
pub(super) fn difference(
    before: Option<&[u8]>,
    after: Option<&[u8]>,
) -> (Option<String>, Option<String>) {
    let [before, after] = [before, after].map(|bytes| bytes.and_then(stored));
    match (before, after) {
        (Some(Value::Object(mut before)), Some(Value::Object(mut after))) => {
            let same: Vec<String> = before
                .iter()
                .filter(|(name, value)| after.get(*name) == Some(value))
                .map(|(name, _)| name.clone())
                .collect();
            for name in same {
                before.remove(&name);
                after.remove(&name);
            }
            (
                Some(told(Value::Object(before))),
                Some(told(Value::Object(after))),
            )
        }
        (before, after) => (before.map(told), after.map(told)),
    }
}

fn told(mut value: Value) -> String {
    redact(&mut value);
    bounded(value.to_string())
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => redact_fields(fields),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn redact_fields(fields: &mut Map<String, Value>) {
    fields.retain(|name, _| !SECRET.contains(&name.as_str()));
    fields.values_mut().for_each(redact);
}

/// A text of bounded length; what was cut off is told by its digest.
pub(super) fn bounded(mut text: String) -> String {
    if text.len() <= SIDE_MAX {
        return text;
    }
    let digest = comber_model::Digest(Sha256::digest(text.as_bytes()).into());
    let mut end = SIDE_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    format!("{text}... (sha256 of the whole: {digest})")
}
