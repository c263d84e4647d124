//! What operators say of a host. Facts come from the host and can lie; labels come from people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Most labels of one host.
pub const LABELS_MAX: usize = 64;
/// Longest key in bytes.
pub const KEY_MAX: usize = 63;
/// Longest value in bytes.
pub const VALUE_MAX: usize = 253;

/// The labels of one host; keys are identifiers so that a selector can say `labels.role`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<String, String>",
    into = "BTreeMap<String, String>"
)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These labels with `set` added or replaced and `remove` taken away.
    pub fn edited<'a>(
        &self,
        set: impl IntoIterator<Item = (String, String)>,
        remove: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Invalid> {
        let mut map = self.0.clone();
        for key in remove {
            map.remove(key);
        }
        map.extend(set);
        Self::try_from(map)
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = Invalid;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, Invalid> {
        if map.len() > LABELS_MAX {
            let problem = format!("{} labels, at most {LABELS_MAX} are allowed", map.len());
            return Err(Invalid::new("labels", problem));
        }
        for (key, value) in &map {
            check_key(key)?;
            if value.len() > VALUE_MAX || value.chars().any(char::is_control) {
                return Err(Invalid::new(
                    format!("labels.{key}"),
                    format!("must be at most {VALUE_MAX} bytes without control characters"),
                ));
            }
        }
        Ok(Self(map))
    }
}

pub(crate) fn check_key(key: &str) -> Result<(), Invalid> {
    let letters = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let first = key
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if letters && first && key.len() <= KEY_MAX {
        return Ok(());
    }
    Err(Invalid::new(
        "labels",
        format!(
            "key {key:?} must be at most {KEY_MAX} letters, digits and '_', not beginning with a digit"
        ),
    ))
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_selector_could_not_name_is_refused() {
        for bad in ["", "a-b", "1a", "a.b", "ä"] {
            let map = BTreeMap::from([(bad.to_owned(), "x".to_owned())]);
            assert!(Labels::try_from(map).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn editing_removes_first_and_then_sets() {
        let labels = Labels::default()
            .edited([("role".to_owned(), "web".to_owned())], [])
            .unwrap()
            .edited([("role".to_owned(), "db".to_owned())], ["role", "absent"])
            .unwrap();
        assert_eq!(labels.get("role"), Some("db"));
    }
}
