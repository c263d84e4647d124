//! Words, lines and sizes: small pieces that several views share.
//!
//! Pure. Invariant: a wrapped line is no wider than asked, but for a single word that is.

use console::measure_text_width;

use super::View;

/// `text` broken at spaces to the view's width; the first line begins with `first`, the others with as many spaces.
pub(crate) fn wrap(view: &View, first: &str, text: &str) -> String {
    let indent = measure_text_width(first);
    let room = view
        .width
        .unwrap_or(usize::MAX)
        .saturating_sub(indent)
        .max(20);
    let mut out = String::from(first);
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = measure_text_width(word);
        if used > 0 && used + 1 + length > room {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            used = 0;
        }
        if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out.push('\n');
    out
}

/// `1 host`, `2 hosts`.
pub(crate) fn hosts(count: u32) -> String {
    match count {
        1 => "1 host".to_owned(),
        count => format!("{count} hosts"),
    }
}

/// `5 hosts are`, `1 host is`.
pub(crate) fn hosts_are(count: u32) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("{} {verb}", hosts(count))
}

/// Bytes in decimal units, as disks and networks are sold.
pub(crate) fn bytes(count: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (name, size) in units {
        if count >= size {
            let tenths = u128::from(count) * 10 / u128::from(size);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{count} B")
}

/// `text` with its moments cut to whole seconds: `12:00:01.399569494Z` becomes `12:00:01Z`.
pub(crate) fn whole_seconds(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('.') {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let is_moment = digits > 0
            && after[digits..].starts_with('Z')
            && before.ends_with(|c: char| c.is_ascii_digit());
        out.push_str(before);
        rest = if is_moment {
            &after[digits..]
        } else {
            out.push('.');
            after
        };
    }
    out + rest
}

/// Each line of `text` moved in by two columns and ended by a line feed.
pub(crate) fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

/// Hexadecimal, for digests.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `key=value` pairs by key.
pub(crate) fn labels(labels: &std::collections::HashMap<String, String>) -> String {
    let mut pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.sort();
    pairs.join(" ")
}

/// Counts by name, the largest first.
pub(crate) fn counts(counts: &std::collections::HashMap<String, u32>) -> Vec<(String, u32)> {
    let mut sorted: Vec<(String, u32)> = counts
        .iter()
        .map(|(name, count)| (name.clone(), *count))
        .collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sorted
}

/// Aligned `name  value` lines; empty values are left out.
pub(crate) fn fields<const N: usize>(view: &View, fields: &[(&str, String); N]) -> String {
    let shown = fields.iter().filter(|(_, value)| !value.is_empty());
    let widest = shown.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    shown
        .map(|(name, value)| wrap(view, &format!("{name:<widest$}  "), value))
        .collect()
}

/// Commands to type next, each on a line.
pub(crate) fn next(view: &View, commands: &[String]) -> String {
    if commands.is_empty() {
        return String::new();
    }
    let lines = indented(&commands.join("\n"));
    format!("\n{}\n{lines}", view.paint(super::Paint::Faint, "next:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_moments_lose_their_fraction() {
        let text = "since 2026-11-24T12:00:01.399569494Z; app@1.2 on web.example.";
        assert_eq!(
            whole_seconds(text),
            "since 2026-11-24T12:00:01Z; app@1.2 on web.example."
        );
        assert_eq!(whole_seconds("..Z 1.Z"), "..Z 1.Z");
    }

    #[test]
    fn sizes_have_one_decimal() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(bytes(u64::MAX), "18446744073.7 GB");
    }
}
