//! Durations as people write them: `500ms`, `30s`, `15m`, `2h`, `1h30m`, `7d`. Used with `#[serde(with = "duration")]`.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

use crate::Invalid;

/// No duration in Comber is longer: ten years. Keeps every sum of a time and a duration in range.
pub const MAX: Duration = Duration::from_hours(87600);

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration; each unit at most once, whole numbers only.
pub fn parse(text: &str) -> Result<Duration, Invalid> {
    let wrong = || {
        Invalid::new(
            "",
            format!("{text:?} is not a duration; write 500ms, 30s, 15m, 2h, 1h30m or 7d"),
        )
    };
    let mut rest = text.trim();
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_alphabetic())
                .len();
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..letters]);
        let (_, millis) = *unit.ok_or_else(wrong)?;
        if millis >= smallest {
            return Err(wrong());
        }
        smallest = millis;
        total = number
            .checked_mul(millis)
            .and_then(|n| total.checked_add(n))
            .ok_or_else(wrong)?;
        rest = rest[letters..].trim_start();
    }
    let duration = Duration::from_millis(total);
    if duration > MAX {
        return Err(Invalid::new("", format!("{text:?} is longer than 3650d")));
    }
    Ok(duration)
}

/// Writes what [`parse`] reads; anything below a millisecond is dropped.
pub fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, millis) in UNITS {
        let number = rest / millis;
        rest %= millis;
        if number > 0 {
            let _ = write!(text, "{number}{name}");
        }
    }
    text
}

/// For `#[serde(with = "duration")]`.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For `#[serde(with = "duration")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// The same for an optional duration, with `#[serde(with = "duration::option", default)]`.
pub mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    /// For `#[serde(with = "duration::option")]`.
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// For `#[serde(with = "duration::option")]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_as_written() {
        for text in ["0s", "500ms", "30s", "1h30m", "7d", "1d2h3m4s5ms"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(parse("90s").unwrap(), parse("1m30s").unwrap());
    }

    #[test]
    fn refuses_what_could_be_misread() {
        for bad in [
            "",
            "5",
            "m",
            "-5m",
            "1.5h",
            "5m5m",
            "5m1h",
            "5 minutes",
            "99999999d",
            "5µs",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_reads_back(millis in 0..u64::try_from(MAX.as_millis()).unwrap_or(u64::MAX)) {
            let duration = Duration::from_millis(millis);
            proptest::prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9dhms. é-]{0,12}") {
            let _ = parse(&text);
        }
    }
}
