//! Small things that come from elsewhere: the headers of a download, a module's answer, a key file.
//!
//! Pure. Invariant: what is accepted is within what was offered.

use std::path::Path;

use comber_runtime::range::{Wanted, wanted};
use comber_trust::{Signer as _, SigningKey};
use http::{HeaderMap, HeaderValue, header};

/// `Range`, and behind a line break `If-Range`.
pub(crate) fn range(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [header::RANGE, header::IF_RANGE] {
        let value = lines
            .next()
            .and_then(|line| HeaderValue::from_bytes(line).ok());
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    for length in [0, 1, 100, u64::MAX] {
        if let Wanted::Part(part) = wanted(&headers, "\"tag\"", length) {
            assert!(
                part.start < part.end && part.end <= length,
                "{part:?} of {length}"
            );
        }
    }
}

/// What a module says to a question.
pub(crate) fn module(bytes: &[u8]) {
    for query in [
        "ProvidePayloadFileSizes",
        "SupportsRollback",
        "NeedsArtifactReboot",
    ] {
        let is_answer = comber_agent::install::is_answer(query, bytes) == Some(true);
        let words: &[&[u8]] = &[b"", b"No", b"Yes", b"Automatic"];
        let word = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        assert!(!is_answer || words.contains(&word), "{query}");
    }
}

/// A key file without a passphrase, or one that cannot be opened for want of it.
pub(crate) fn keys(bytes: &[u8]) {
    if let Ok(key) = SigningKey::parse(Path::new("fuzz.key"), bytes, None) {
        assert!(key.sign(b"message").is_ok());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        comber_trust::parse_public(text);
        comber_trust::look_at_root(text).ok();
    }
}
