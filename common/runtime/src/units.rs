//! Durations and sizes as people write them: `30m`, `1h30m`, `500ms`, `64 MiB`, `1 GB`.
//!
//! Pure. A bare number is refused, because it would mean seconds to one reader and milliseconds to the next.
//! Invariant: what is formatted parses back to the same value.

use std::{fmt::Write, time::Duration};

use thiserror::Error;

/// What a duration looks like, for messages.
pub const DURATION_EXAMPLES: &str = r#"a duration like "500ms", "30s", "1h30m" or "7d""#;
/// What a size looks like, for messages.
pub const SIZE_EXAMPLES: &str = r#"a size like "512 KiB", "64 MiB" or "1 GB""#;

/// Largest first, as they are written; a text names each at most once, in this order.
const DURATION_UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

/// A text that is no duration.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("write {DURATION_EXAMPLES}")]
pub struct InvalidDuration;

/// A text that is no size.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("write {SIZE_EXAMPLES}")]
pub struct InvalidSize;

/// Reads whole numbers with the units w, d, h, m, s and ms, from large to small: `1d12h`.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let mut rest = text;
    let mut units = DURATION_UNITS.iter();
    let mut total: u64 = 0;
    while !rest.is_empty() || total == 0 && rest.len() == text.len() {
        let (number, behind) = split_number(rest).ok_or(InvalidDuration)?;
        let length = behind
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(length);
        let (_, millis) = units
            .find(|(name, _)| *name == unit)
            .ok_or(InvalidDuration)?;
        let part = number.checked_mul(*millis).ok_or(InvalidDuration)?;
        total = total.checked_add(part).ok_or(InvalidDuration)?;
        rest = behind;
    }
    Ok(Duration::from_millis(total))
}

/// The shortest text that [`parse_duration`] reads back; what is below a millisecond is dropped.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in DURATION_UNITS {
        if rest >= millis {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{unit}", rest / millis);
            rest %= millis;
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// Reads a whole number of bytes with a unit; a space between the two is allowed.
pub fn parse_size(text: &str) -> Result<u64, InvalidSize> {
    let (number, unit) = split_number(text).ok_or(InvalidSize)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, bytes) = SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(InvalidSize)?;
    number.checked_mul(*bytes).ok_or(InvalidSize)
}

/// The size in the largest unit that holds it exactly.
pub fn format_size(bytes: u64) -> String {
    let exact = SIZE_UNITS
        .iter()
        .filter(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    let (name, unit) = exact.max_by_key(|(_, unit)| *unit).unwrap_or(&("B", 1));
    format!("{} {name}", bytes / unit)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let length = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(length);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_people_write() {
        let cases = [
            ("500ms", 500),
            ("30m", 1_800_000),
            ("1h30m", 5_400_000),
            ("2w1d", 1_296_000_000),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn dubious_durations_are_refused() {
        for text in [
            "",
            "30",
            "m",
            "30 m",
            "1.5h",
            "-1s",
            "30m1h",
            "1h1h",
            "1H",
            "99999999999999999999s",
            "18446744073709551615w",
        ] {
            assert_eq!(parse_duration(text), Err(InvalidDuration), "{text:?}");
        }
    }

    #[test]
    fn sizes_people_write() {
        let cases = [
            ("64 MiB", 64 << 20),
            ("1 GB", 1_000_000_000),
            ("512KiB", 512 << 10),
            ("0 B", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "1",
            "1 mb",
            "1  GB",
            "GB",
            "1.5 GB",
            "-1 B",
            "99999999 TiB",
            "1 GB ",
        ] {
            assert_eq!(parse_size(text), Err(InvalidSize), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_exact_unit() {
        assert_eq!(format_size(64 << 20), "64 MiB");
        assert_eq!(format_size(2_000_000_000), "2 GB");
        assert_eq!(format_size(1025), "1025 B");
    }

    proptest! {
        #[test]
        fn durations_parse_back(millis in any::<u64>()) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn sizes_parse_back(bytes in any::<u64>()) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in "[0-9wdhmsKiB. é-]{0,12}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
