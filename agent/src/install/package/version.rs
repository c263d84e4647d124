//! Compares versions of packages as dpkg and rpm do. Pure.
//!
//! Invariant: for every pair the answer is the tool's own; the tests ask the tools.

use std::cmp::Ordering;

/// As `dpkg --compare-versions`.
pub(super) fn deb(left: &str, right: &str) -> Ordering {
    let (left_epoch, left) = epoch(left);
    let (right_epoch, right) = epoch(right);
    let (left, left_revision) = left.rsplit_once('-').unwrap_or((left, ""));
    let (right, right_revision) = right.rsplit_once('-').unwrap_or((right, ""));
    left_epoch
        .cmp(&right_epoch)
        .then_with(|| deb_part(left, right))
        .then_with(|| deb_part(left_revision, right_revision))
}

/// As rpm compares `epoch:version-release`.
pub(super) fn rpm(left: &str, right: &str) -> Ordering {
    let (left_epoch, left) = epoch(left);
    let (right_epoch, right) = epoch(right);
    let (left, left_release) = left.rsplit_once('-').unwrap_or((left, ""));
    let (right, right_release) = right.rsplit_once('-').unwrap_or((right, ""));
    left_epoch
        .cmp(&right_epoch)
        .then_with(|| rpm_part(left, right))
        .then_with(|| rpm_part(left_release, right_release))
}

fn epoch(version: &str) -> (u64, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

/// Text and numbers by turns; in text `~` stands before the end, the end before letters, letters before all else.
fn deb_part(mut left: &str, mut right: &str) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = split(left, |byte| !byte.is_ascii_digit());
        let (right_text, right_rest) = split(right, |byte| !byte.is_ascii_digit());
        let weights = |text: &str| -> Vec<i32> { text.bytes().map(weight).chain([0]).collect() };
        let (left_number, left_rest) = split(left_rest, |byte| byte.is_ascii_digit());
        let (right_number, right_rest) = split(right_rest, |byte| byte.is_ascii_digit());
        let ordering = weights(left_text)
            .cmp(&weights(right_text))
            .then_with(|| number(left_number, right_number));
        if ordering.is_ne() {
            return ordering;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

/// The end weighs 0.
fn weight(byte: u8) -> i32 {
    match byte {
        b'~' => -1,
        letter if letter.is_ascii_alphabetic() => i32::from(letter),
        other => i32::from(other) + 256,
    }
}

/// Runs of letters and of digits, whatever stands between; `~` is less than the end and `^` more.
fn rpm_part(mut left: &str, mut right: &str) -> Ordering {
    loop {
        let between = |byte: u8| !byte.is_ascii_alphanumeric() && byte != b'~' && byte != b'^';
        left = split(left, between).1;
        right = split(right, between).1;
        match (left.strip_prefix('~'), right.strip_prefix('~')) {
            (Some(l), Some(r)) => {
                (left, right) = (l, r);
                continue;
            }
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        match (left.strip_prefix('^'), right.strip_prefix('^')) {
            (Some(l), Some(r)) => {
                (left, right) = (l, r);
                continue;
            }
            (Some(_), None) if right.is_empty() => return Ordering::Greater,
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) if left.is_empty() => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        let (Some(first), Some(other)) = (left.bytes().next(), right.bytes().next()) else {
            return left.len().min(1).cmp(&right.len().min(1));
        };
        let ordering = match (first.is_ascii_digit(), other.is_ascii_digit()) {
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (digits, _) => {
                let same =
                    |byte: u8| byte.is_ascii_alphanumeric() && byte.is_ascii_digit() == digits;
                let (l, left_rest) = split(left, same);
                let (r, right_rest) = split(right, same);
                (left, right) = (left_rest, right_rest);
                if digits { number(l, r) } else { l.cmp(r) }
            }
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
}

/// Digits of any number.
fn number(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// The longest beginning of such bytes, all of them ASCII or all bytes of one character, and the rest.
fn split(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !belongs(byte));
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const VERSIONS: &[&str] = &[
        "1",
        "1.0",
        "1.0~rc1",
        "1.0~rc1-1",
        "1.0-1",
        "1.0-1~bpo12+1",
        "1.0-10",
        "1.0-2",
        "1.0a",
        "1.0+b1",
        "1:0.9",
        "0:1.0-1",
        "2.36-9+deb12u14",
        "2.36-9+deb12u4",
        "1.6-2.1+deb12u3",
        "1.00",
        "1.0.0",
        "1.0z",
    ];

    #[test]
    fn versions_compare_as_dpkg_compares_them() {
        if Command::new("dpkg").arg("--version").output().is_err() {
            eprintln!("skipped: this machine has no dpkg");
            return;
        }
        for left in VERSIONS {
            for right in VERSIONS {
                let is = |relation| {
                    let asked = Command::new("dpkg")
                        .args(["--compare-versions", left, relation, right])
                        .status();
                    asked.unwrap().success()
                };
                let expected = match (is("lt"), is("eq")) {
                    (true, _) => Ordering::Less,
                    (_, true) => Ordering::Equal,
                    _ => Ordering::Greater,
                };
                assert_eq!(deb(left, right), expected, "{left} and {right}");
            }
        }
    }

    #[test]
    fn versions_compare_as_rpm_compares_them() {
        let versions = [
            "1-1",
            "1.0-1",
            "1.0~rc1-1",
            "1.0^git1-1",
            "1.0^git1~a-1",
            "1.0-1.fc40",
            "1.0-10",
            "1.0-2",
            "1.0a-1",
            "1.0.a-1",
            "1.01-1",
            "1_0-1",
            "2.0-1",
            "10-1",
        ];
        for left in versions {
            for right in versions {
                let program = format!("%{{lua: print(rpm.vercmp('{left}', '{right}'))}}");
                let Ok(asked) = Command::new("rpm").args(["--eval", &program]).output() else {
                    eprintln!("skipped: this machine has no rpm");
                    return;
                };
                let said = String::from_utf8(asked.stdout).unwrap();
                let said: i32 = said.trim().parse().unwrap();
                assert_eq!(rpm(left, right), said.cmp(&0), "{left} and {right}");
            }
        }
        assert_eq!(rpm("1:1-1", "2-1"), Ordering::Greater);
    }
}
