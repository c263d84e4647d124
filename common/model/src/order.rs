//! Which of two versions is the newer one.
//!
//! Pure. The order is that of Debian's packages (deb-version(5)), so that the agent on the shelf and the one of a package are
//! compared as the package manager compares them; a `-` is read as `~`, so that 1.0-rc1 comes before 1.0 whichever way it is
//! written.

use std::cmp::Ordering;

use crate::Version;

impl Version {
    /// True where this one is older than the other: `1.9` than `1.10`, `2.0~rc1` than `2.0`.
    pub fn is_older_than(&self, other: &Self) -> bool {
        is_newer(other.as_str(), self.as_str())
    }
}

/// Whether `one` is newer than `other`.
pub fn is_newer(one: &str, other: &str) -> bool {
    compare(one.as_bytes(), other.as_bytes()) == Ordering::Greater
}

fn compare(mut one: &[u8], mut other: &[u8]) -> Ordering {
    while !one.is_empty() || !other.is_empty() {
        let words = take(&mut one, is_no_digit).cmp_words(take(&mut other, is_no_digit));
        let numbers = || numeric(take(&mut one, is_digit), take(&mut other, is_digit));
        match words.then_with(numbers) {
            Ordering::Equal => {}
            decided => return decided,
        }
    }
    Ordering::Equal
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

fn is_no_digit(byte: u8) -> bool {
    !byte.is_ascii_digit()
}

/// Takes the bytes off the front that are of one kind.
fn take<'a>(rest: &mut &'a [u8], kind: fn(u8) -> bool) -> &'a [u8] {
    let end = rest.iter().position(|byte| !kind(*byte));
    let (taken, left) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = left;
    taken
}

trait Words {
    fn cmp_words(self, other: Self) -> Ordering;
}

impl Words for &[u8] {
    /// Byte by byte, where the end of a word ranks like a digit after it.
    fn cmp_words(self, other: Self) -> Ordering {
        let longest = self.len().max(other.len());
        let ranks = |word: &[u8], at: usize| rank(word.get(at).copied());
        let mut pairs = (0..longest).map(|at| ranks(self, at).cmp(&ranks(other, at)));
        pairs
            .find(|order| *order != Ordering::Equal)
            .unwrap_or(Ordering::Equal)
    }
}

/// What comes first: `~`, then the end, then letters, then everything else.
fn rank(byte: Option<u8>) -> u16 {
    match byte {
        Some(b'~' | b'-') => 0,
        None => 1,
        Some(letter) if letter.is_ascii_alphabetic() => u16::from(letter),
        Some(other) => u16::from(other) + 256,
    }
}

/// Numbers of any length: without their zeros the longer one is larger.
fn numeric(one: &[u8], other: &[u8]) -> Ordering {
    let plain = |digits: &[u8]| {
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits[zeros..].to_vec()
    };
    let (one, other) = (plain(one), plain(other));
    one.len().cmp(&other.len()).then_with(|| one.cmp(&other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_the_order_of_packages() {
        let rising = [
            "0.9", "1.0~rc1", "1.0", "1.0a", "1.0+b1", "1.0.1", "1.2", "1.10", "2",
        ];
        for (at, one) in rising.iter().enumerate() {
            for (other_at, other) in rising.iter().enumerate() {
                assert_eq!(is_newer(one, other), at > other_at, "{one} {other}");
            }
        }
    }

    #[test]
    fn a_candidate_comes_before_its_version_however_it_is_written() {
        assert!(is_newer("1.0.0", "1.0.0-rc1"));
        assert!(!is_newer("1.0.0-rc1", "1.0.0~rc1"));
        assert!(!is_newer("1.00", "1.0"));
    }
}
