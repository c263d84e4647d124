//! A point in time as people write it: exact, with its offset, or read from the clock on the wall.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Zone;
use crate::Invalid;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// With its offset: the same instant everywhere.
    Exact(Timestamp),
    /// Without: whenever the clock on the wall reads that.
    Wall(DateTime),
}

impl Moment {
    /// When that is where the zone is this one.
    pub fn instant(&self, zone: &Zone) -> Timestamp {
        match self {
            Self::Exact(at) => *at,
            Self::Wall(wall) => zone.instant(*wall),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(at) => write!(f, "{at}"),
            Self::Wall(wall) => write!(f, "{wall}"),
        }
    }
}

impl FromStr for Moment {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || {
            Invalid::new(
                "",
                format!(
                    "{text:?} is no time; write 2026-12-01T22:00:00Z, 2026-12-01T22:00:00+01:00, or 2026-12-01T22:00:00 for the clock on the wall"
                ),
            )
        };
        // Zones in brackets and dates without a time would be read as something; nobody writes them by intent.
        if text.len() > 40 || text.contains('[') || !text.contains([':']) {
            return Err(bad());
        }
        match text.parse::<Timestamp>() {
            Ok(at) => Ok(Self::Exact(at)),
            Err(_) => text.parse().map(Self::Wall).map_err(|_| bad()),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Toml(toml::value::Datetime),
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Toml(time) => time.to_string(),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        at: Moment,
    }

    #[test]
    fn reads_text_and_the_times_of_toml() {
        for (written, exact) in [
            ("\"2026-12-01T22:00:00Z\"", true),
            ("2026-12-01T22:00:00+01:00", true),
            ("2026-12-01T22:00:00", false),
            ("\"2026-12-01T22:00\"", false),
        ] {
            let file: File = toml::from_str(&format!("at = {written}")).unwrap();
            assert_eq!(matches!(file.at, Moment::Exact(_)), exact, "{written}");
            let json = serde_json::to_string(&file.at).unwrap();
            assert_eq!(serde_json::from_str::<Moment>(&json).unwrap(), file.at);
        }
        for bad in [
            "tomorrow",
            "2026-12-01",
            "22:00",
            "2026-12-01T22:00:00[Europe/Berlin]",
            "2026-13-01T00:00:00Z",
        ] {
            assert!(bad.parse::<Moment>().is_err(), "{bad:?} was taken");
        }
    }
}
