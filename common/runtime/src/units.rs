//! Sizes as people write them: `64 MiB`, `1 GB`. Durations are `comber_model::duration`, the same in every file.
//!
//! Pure. A bare number is refused, because it would mean bytes to one reader and megabytes to the next.
//! Invariant: what is formatted parses back to the same value.

use thiserror::Error;

/// What a size looks like, for messages.
pub const SIZE_EXAMPLES: &str = r#"a size like "512 KiB", "64 MiB" or "1 GB""#;

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

/// A text that is no size.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("write {SIZE_EXAMPLES}")]
pub struct InvalidSize;

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
        fn sizes_parse_back(bytes in any::<u64>()) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9wdhmsKiB. é-]{0,12}") {
            let _ = parse_size(&text);
        }
    }
}
