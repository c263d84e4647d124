//! Which of two versions is the newer one.
//!
//! Debian's order (deb-version(5)) with `-` read as `~`, so that semantic versions stand as people expect too: texts are
//! compared in turns, a part without digits and a number; `~` sorts before everything, the end included. Total, and equal
//! only for versions that read the same as numbers.

use std::cmp::Ordering;

use crate::Version;

impl Version {
    /// True where this one is older than the other: `1.9` than `1.10`, `2.0~rc1` than `2.0`.
    pub fn is_older_than(&self, other: &Self) -> bool {
        compare(self.as_str().as_bytes(), other.as_str().as_bytes()) == Ordering::Less
    }
}

fn compare(mut one: &[u8], mut other: &[u8]) -> Ordering {
    while !one.is_empty() || !other.is_empty() {
        let (text, rest) = split(one, |byte| !byte.is_ascii_digit());
        let (their_text, their_rest) = split(other, |byte| !byte.is_ascii_digit());
        let (number, rest) = split(rest, |byte| byte.is_ascii_digit());
        let (their_number, their_rest) = split(their_rest, |byte| byte.is_ascii_digit());
        let ordering = texts(text, their_text).then_with(|| numbers(number, their_number));
        if ordering != Ordering::Equal {
            return ordering;
        }
        (one, other) = (rest, their_rest);
    }
    Ordering::Equal
}

fn split(text: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !belongs(*byte));
    text.split_at(end.unwrap_or(text.len()))
}

fn texts(one: &[u8], other: &[u8]) -> Ordering {
    let length = one.len().max(other.len());
    let ranks = |text: &[u8]| -> Vec<u16> {
        let rank = |at: usize| text.get(at).map_or(1, |byte| rank(*byte));
        (0..length).map(rank).collect()
    };
    ranks(one).cmp(&ranks(other))
}

/// Letters before other signs; `~` and `-` before the end, which has rank 1.
fn rank(byte: u8) -> u16 {
    match byte {
        b'~' | b'-' => 0,
        letter if letter.is_ascii_alphabetic() => u16::from(letter),
        other => 256 + u16::from(other),
    }
}

/// By value, however long: without leading zeros the longer one is larger.
fn numbers(one: &[u8], other: &[u8]) -> Ordering {
    let bare = |digits: &[u8]| -> Vec<u8> {
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits[zeros..].to_vec()
    };
    let (one, other) = (bare(one), bare(other));
    one.len().cmp(&other.len()).then_with(|| one.cmp(&other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_the_order_that_people_expect() {
        let ordered = [
            "0.9",
            "0.10-1",
            "0.10~rc1",
            "0.10",
            "0.10.1",
            "1",
            "1.0-alpha",
            "1.0-beta2",
            "1.0-beta10",
            "1.0",
            "1.0.1",
            "1.0.9",
            "1.0.10",
            "2.0~~",
            "2.0~",
            "2.0",
            "2.0+b1",
            "10.0",
            "99999999999999999999999",
            "100000000000000000000000",
        ];
        for (at, one) in ordered.iter().enumerate() {
            for (their, other) in ordered.iter().enumerate() {
                let ordering = compare(one.as_bytes(), other.as_bytes());
                assert_eq!(ordering, at.cmp(&their), "{one} and {other}");
            }
        }
        assert_eq!(compare(b"1.01", b"1.1"), Ordering::Equal);
    }
}
