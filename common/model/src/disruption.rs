//! Disruption budgets: how many hosts of a failure domain may be down at once, whatever the reason, over all rollouts;
//! and the locks that hosts without an agent take from the same budgets.
//!
//! Only records and their checks; what counts as down, and who has to wait, is the planner's to say.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Amount, BudgetName, Invalid, Labels, labels};

/// Most budgets of a fleet: each costs a look at every host that changes.
pub const BUDGETS_MAX: usize = 100;
/// Most locks at once: far more hosts than any budget lets be down, and few enough to be kept in memory.
pub const LOCKS_MAX: usize = 10_000;
/// Longest id and longest group of a lock in bytes; `FleetLock`'s ids are 32 hexadecimal digits.
pub const LOCK_TEXT_MAX: usize = 128;
/// Longest reason in bytes.
const REASON_MAX: usize = 200;

/// What divides hosts into failure domains: a label. Hosts that share its value share a domain; hosts without the label
/// share one too, since nothing says that they do not go down together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainKey(String);

impl DomainKey {
    /// The value of the label; empty for a host without it.
    pub fn value<'a>(&self, labels: &'a Labels) -> &'a str {
        labels.get(&self.0).unwrap_or_default()
    }
}

impl FromStr for DomainKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let key = text.strip_prefix("labels.").ok_or_else(|| {
            let problem = format!("{text:?} must name a label, for example labels.rack");
            Invalid::new("by", problem)
        })?;
        labels::check_key(key).map_err(|error| error.within("by"))?;
        Ok(Self(key.to_owned()))
    }
}

impl TryFrom<String> for DomainKey {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<DomainKey> for String {
    fn from(key: DomainKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for DomainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "labels.{}", self.0)
    }
}

/// One budget. Stored as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisruptionBudget {
    /// Its name, unique in the fleet.
    pub name: BudgetName,
    /// What divides its hosts into domains; absent: they are one domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<DomainKey>,
    /// Most hosts of a domain that may be down at once; a percentage is of the domain's hosts.
    pub max: Amount,
    /// Which hosts it is about: CEL over facts and labels; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Whether locks of `FleetLock` count in it: in the domain that the client's group names.
    #[serde(default)]
    pub fleet_lock: bool,
    /// Why, for people; may be empty.
    #[serde(default)]
    pub reason: String,
    /// Who set it last.
    pub author: String,
    /// When that was.
    pub set_at: Timestamp,
}

impl DisruptionBudget {
    /// Refuses what could never be kept, or is too large.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut found = Vec::new();
        if self.max.is_zero() {
            let problem =
                "is 0, so no host could ever move; a freeze says that better: comber freeze add";
            found.push(Invalid::new("max", problem));
        }
        if self.reason.len() > REASON_MAX || self.reason.chars().any(char::is_control) {
            let problem = format!("must be at most {REASON_MAX} bytes without control characters");
            found.push(Invalid::new("reason", problem));
        }
        if let Some(source) = &self.selector {
            crate::rollout::check_selector("selector", source, &mut found);
        }
        if found.is_empty() { Ok(()) } else { Err(found) }
    }
}

/// A lock that a host without an agent holds while it reboots. Stored as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Who holds it.
    pub id: LockId,
    /// The group that the client says: its failure domain.
    pub group: LockGroup,
    /// Since when.
    pub since: Timestamp,
}

macro_rules! lock_text {
    ($(#[$doc:meta])* $type:ident, $field:literal, $allowed:expr, $wording:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let allowed: fn(u8) -> bool = $allowed;
                let fits = !text.is_empty() && text.len() <= LOCK_TEXT_MAX;
                if fits && text.bytes().all(allowed) {
                    return Ok(Self(text.to_owned()));
                }
                let problem = format!("must be 1 to {LOCK_TEXT_MAX} {}", $wording);
                Err(Invalid::new($field, problem))
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(text: $type) -> Self {
                text.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

lock_text!(
    /// Who holds a lock, by the client's own account: `FleetLock` makes it of the machine's id.
    LockId,
    "id",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    "letters, digits, '-', '.' and '_'"
);

lock_text!(
    /// The group of a `FleetLock` client, as the protocol restricts it.
    LockGroup,
    "group",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'),
    "letters, digits, '-' and '.'"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(max: &str) -> DisruptionBudget {
        let json = format!(
            r#"{{"name":"racks","by":"labels.rack","max":{max},"author":"anna","set_at":"2026-11-24T00:00:00Z"}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_domain_is_a_label_and_hosts_without_it_share_one() {
        let key: DomainKey = "labels.rack".parse().unwrap();
        let labels = |rack: Option<&str>| {
            let set = rack.map(|rack| ("rack".to_owned(), rack.to_owned()));
            Labels::default().edited(set, []).unwrap()
        };
        assert_eq!(key.value(&labels(Some("r1"))), "r1");
        assert_eq!(key.value(&labels(None)), "");
        for bad in ["rack", "facts.os.id", "labels.", "labels.a b", ""] {
            assert!(bad.parse::<DomainKey>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_budget_of_nothing_is_refused_with_what_says_it_better() {
        assert!(budget("1").check().is_ok());
        for none in ["0", "\"0%\""] {
            let problems = budget(none).check().unwrap_err();
            assert!(problems[0].to_string().contains("freeze"), "{problems:?}");
        }
    }

    #[test]
    fn a_lock_s_texts_can_stand_in_keys_and_logs() {
        assert!("c988d2509fdf5cdcbed39037c56406fb".parse::<LockId>().is_ok());
        let long = "x".repeat(LOCK_TEXT_MAX + 1);
        for bad in ["", "a/b", "a b", "a\n", "ä", long.as_str()] {
            assert!(bad.parse::<LockId>().is_err(), "{bad:?} was accepted");
            assert!(bad.parse::<LockGroup>().is_err(), "{bad:?} was accepted");
        }
    }
}
