//! Release bundles: the carried bytes, the tar in them, and the list at its beginning.
//!
//! Touches no file. Invariant: no more comes out of a bundle than was granted, and what is accepted says its own length.

use std::sync::OnceLock;

use comber_bundle::{Limits, inspect};

/// No bundle of a test is longer.
const GRANTED: u64 = 1 << 20;
/// Fields of a tar header.
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// An even first byte: what follows is the zstd frame. An odd one: it is the tar, and is carried properly.
pub(crate) fn bundle(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    if kind % 2 == 0 {
        look(bytes);
    } else if let Ok(carried) = zstd::encode_all(bytes, 1) {
        look(&carried);
    }
}

/// The text of `manifest.json`, up to a NUL, in a sound header; behind it, the rest of the tar.
pub(crate) fn listing(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0);
    let (json, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    let mut tar = header(json.len());
    tar.extend_from_slice(json);
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar.extend_from_slice(rest.get(1..).unwrap_or_default());
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    if let Ok(carried) = zstd::encode_all(tar.as_slice(), 1) {
        look(&carried);
    }
}

fn look(carried: &[u8]) {
    if let Ok(contents) = inspect(carried, Limits { length: GRANTED }) {
        assert!(contents.artifact.length <= GRANTED);
        assert_eq!(contents.artifact.carried_length, carried.len() as u64);
        assert!(contents.listing.unpacked_size() <= contents.artifact.length);
        assert!(contents.listing.manifest().problems().is_empty());
    }
}

/// The header of `manifest.json`, taken from a bundle that was built, with another size.
fn header(size: usize) -> Vec<u8> {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    let mut header = BUILT.get_or_init(built)[..512].to_vec();
    header[SIZE].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[CHECKSUM].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn built() -> Vec<u8> {
    let seed = include_bytes!("../corpus/bundle/small.bundle");
    zstd::decode_all(&seed[1..]).expect("the seed is a bundle")
}
