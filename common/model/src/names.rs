//! Names and numbers that identify things. Each is checked when it is made, so that it can stand in a path, a key, a
//! metric label or a log line without quoting.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Longest name of a host in bytes: the limit of a DNS name.
pub const HOST_ID_MAX: usize = 253;
/// Longest release name in bytes; it becomes a directory name on hosts.
pub const RELEASE_NAME_MAX: usize = 64;
/// Longest name of a freeze in bytes.
pub const FREEZE_NAME_MAX: usize = 64;
/// Longest name of a source of verdicts in bytes.
pub const SOURCE_NAME_MAX: usize = 64;
/// Longest name of a disruption budget in bytes.
pub const BUDGET_NAME_MAX: usize = 64;
/// Longest version in bytes; it becomes a directory name on hosts.
pub const VERSION_MAX: usize = 64;

fn check(
    field: &str,
    text: &str,
    max: usize,
    allowed: fn(u8) -> bool,
    wording: &str,
) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(field, "is empty"));
    }
    if text.len() > max {
        return Err(Invalid::new(
            field,
            format!("has {} bytes, at most {max} are allowed", text.len()),
        ));
    }
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    if !bytes.iter().copied().all(allowed) || !edge(bytes.first()) || !edge(bytes.last()) {
        return Err(Invalid::new(
            field,
            format!("{text:?} must consist of {wording} and begin and end with a letter or digit"),
        ));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $field:literal, $max:expr, $allowed:expr, $wording:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(std::sync::Arc<str>);

        impl $type {
            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                check($field, text, $max, $allowed, $wording)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// A host's name, unique in the fleet and fixed at enrolment. Cheap to clone.
    HostId,
    "host",
    HOST_ID_MAX,
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'),
    "lower-case letters, digits, '-', '.' and '_'"
);

name!(
    /// What a release is called, without its version: the product. One host runs at most one version of it.
    ReleaseName,
    "name",
    RELEASE_NAME_MAX,
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'),
    "lower-case letters, digits, '-', '.' and '_'"
);

name!(
    /// A release's version. Compared for equality only; the order of releases is the manifest's `counter`.
    Version,
    "version",
    VERSION_MAX,
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'+' | b'~'),
    "letters, digits, '-', '.', '_', '+' and '~'"
);

name!(
    /// What a freeze of the fleet is called.
    FreezeName,
    "name",
    FREEZE_NAME_MAX,
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'),
    "lower-case letters, digits, '-', '.' and '_'"
);

name!(
    /// What the controller's configuration calls a source that gates may ask.
    SourceName,
    "source",
    SOURCE_NAME_MAX,
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'),
    "lower-case letters, digits, '-' and '_'"
);

name!(
    /// What a disruption budget is called.
    BudgetName,
    "name",
    BUDGET_NAME_MAX,
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'),
    "lower-case letters, digits, '-', '.' and '_'"
);

/// `name@version`: one published release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId {
    /// The product.
    pub name: ReleaseName,
    /// Which version of it.
    pub version: Version,
}

impl FromStr for ReleaseId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let Some((name, version)) = text.split_once('@') else {
            return Err(Invalid::new(
                "release",
                format!("{text:?} must have the form name@version"),
            ));
        };
        Ok(Self {
            name: name
                .parse::<ReleaseName>()
                .map_err(|e| e.within("release"))?,
            version: version
                .parse::<Version>()
                .map_err(|e| e.within("release"))?,
        })
    }
}

impl TryFrom<String> for ReleaseId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<ReleaseId> for String {
    fn from(id: ReleaseId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.name, self.version))
    }
}

/// A rollout's number, given by the controller in order of creation; written `r7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RolloutId(pub u32);

impl FromStr for RolloutId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.strip_prefix('r')
            .and_then(|digits| digits.parse().ok())
            .filter(|number| *number > 0 && format!("r{number}") == text)
            .map(Self)
            .ok_or_else(|| {
                Invalid::new(
                    "rollout",
                    format!("{text:?} must be a rollout's number such as r7"),
                )
            })
    }
}

impl TryFrom<String> for RolloutId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<RolloutId> for String {
    fn from(id: RolloutId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("r{}", self.0))
    }
}

/// A monotone fence: the plan that last changed something. Agents refuse an assignment whose generation is lower than
/// the highest they have seen; 0 means that nothing was ever planned.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_directory_are_refused() {
        for bad in [
            "", ".", "..", "../x", "a/b", "-a", "a-", "A", "a b", "a\n", "ä", "a\0",
        ] {
            assert!(bad.parse::<ReleaseName>().is_err(), "{bad:?} was accepted");
            assert!(bad.parse::<HostId>().is_err(), "{bad:?} was accepted");
        }
        assert!(
            "x".repeat(RELEASE_NAME_MAX + 1)
                .parse::<ReleaseName>()
                .is_err()
        );
    }

    #[test]
    fn a_release_id_reads_back_as_written() {
        let id: ReleaseId = "webapp@2.4.1+b~rc1".parse().unwrap();
        assert_eq!(id.to_string().parse::<ReleaseId>().unwrap(), id);
        let error = "webapp".parse::<ReleaseId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "release: \"webapp\" must have the form name@version"
        );
    }

    #[test]
    fn a_rollout_id_has_one_spelling() {
        assert_eq!("r7".parse::<RolloutId>().unwrap(), RolloutId(7));
        for bad in ["7", "r", "r0", "r07", "R7", "r+7", "r99999999999"] {
            assert!(bad.parse::<RolloutId>().is_err(), "{bad:?} was accepted");
        }
    }
}
