//! Which part of a file an HTTP request asks for: `Range` and `If-Range` (RFC 9110, 14.2 and 13.1.5).
//!
//! Pure. One range is served; several, and those that are none, get the whole, as the standard allows. Invariant: a part is
//! not empty and lies within the file.

use std::ops::Range;

use http::{HeaderMap, header};

/// What of a file is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it; also where ranges are asked for in a way that is not served.
    All,
    /// One part.
    Part(Range<u64>),
    /// A part that is not there.
    Nothing,
}

/// Reads the headers of a request for a file of that tag and length.
pub fn wanted(headers: &HeaderMap, etag: &str, length: u64) -> Wanted {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(header::RANGE) else {
        return Wanted::All;
    };
    if text(header::IF_RANGE).is_some_and(|tag| tag != etag) {
        return Wanted::All;
    }
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Wanted::All;
    };
    let part = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.is_empty() => first..length,
        (Err(_), Ok(suffix)) if first.is_empty() => length.saturating_sub(suffix)..length,
        _ => return Wanted::All,
    };
    if part.is_empty() {
        Wanted::Nothing
    } else {
        Wanted::Part(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn asked(range: &str, expected: &Wanted) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        assert_eq!(&wanted(&headers, "\"tag\"", 100), expected, "{range}");
    }

    #[test]
    fn one_range_is_served_and_odd_ones_get_the_whole() {
        asked("bytes=0-", &Wanted::Part(0..100));
        asked("bytes=40-", &Wanted::Part(40..100));
        asked("bytes=10-19", &Wanted::Part(10..20));
        asked("bytes=90-500", &Wanted::Part(90..100));
        asked("bytes=-10", &Wanted::Part(90..100));
        asked("bytes=-500", &Wanted::Part(0..100));
        asked("bytes=100-", &Wanted::Nothing);
        asked(
            "bytes=18446744073709551615-18446744073709551615",
            &Wanted::Nothing,
        );
        asked("bytes=-0", &Wanted::Nothing);
        for odd in [
            "bytes=5-1",
            "bytes=1-2,5-6",
            "lines=1-2",
            "bytes=a-b",
            "bytes=",
            "bytes=-",
        ] {
            asked(odd, &Wanted::All);
        }
    }

    #[test]
    fn a_changed_tag_gets_the_whole() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=40-".parse().unwrap());
        headers.insert(header::IF_RANGE, "\"other\"".parse().unwrap());
        assert_eq!(wanted(&headers, "\"tag\"", 100), Wanted::All);
        headers.insert(header::IF_RANGE, "\"tag\"".parse().unwrap());
        assert_eq!(wanted(&headers, "\"tag\"", 100), Wanted::Part(40..100));
        assert_eq!(wanted(&HeaderMap::new(), "\"tag\"", 100), Wanted::All);
    }
}
