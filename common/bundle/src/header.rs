//! The headers of the tar: one member has exactly one header, and a foreign one is only ever compared with it.
//!
//! Written out here and not left to a library, because these bytes are part of every release's identity: a library
//! that one day splits a long name differently would make old agents refuse new bundles. GNU tar, bsdtar and Python
//! read it. Pure. Invariant: the same member always gives the same bytes.

use crate::listing::{Listing, Member};
use crate::path::{check_path, shown};
use crate::refused::Refused;

/// A tar consists of blocks of this size.
pub(crate) const BLOCK: usize = 512;
/// Two empty blocks end a tar.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// The name of the list.
pub(crate) const MANIFEST_NAME: &str = "manifest.json";
/// Stands before each member's path, so that no member can be taken for the list.
const PREFIX: &str = "files/";
/// 1980-01-01: old enough to be nobody's, young enough for every tool.
const MTIME: u64 = 315_532_800;
/// Longest text in the name and link fields; a longer one stands in a block of its own before the header.
const FIELD_MAX: usize = 100;
/// Sizes from here on do not fit the eleven octal digits.
const OCTAL_SIZE_MAX: u64 = 1 << 33;

const MODE: std::ops::Range<usize> = 100..108;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;

/// What goes before the content of `manifest.json`.
pub(crate) fn manifest_header(size: u64) -> Vec<u8> {
    encode(MANIFEST_NAME, 0o644, size, b'0', "").to_vec()
}

/// What goes before the content of the member: one block, or more where a text is long.
pub(crate) fn member_header(member: &Member) -> Vec<u8> {
    let name = name_in_tar(member);
    let (mode, size, kind, link) = match member {
        Member::Dir { .. } => (0o755, 0, b'5', ""),
        Member::File {
            executable: true,
            size,
            ..
        } => (0o755, *size, b'0', ""),
        Member::File { size, .. } => (0o644, *size, b'0', ""),
        Member::Symlink { target, .. } => (0o777, 0, b'2', target.as_str()),
    };
    let mut blocks = Vec::with_capacity(BLOCK);
    long_text(&mut blocks, b'K', link);
    long_text(&mut blocks, b'L', &name);
    blocks.extend_from_slice(&encode(&name, mode, size, kind, link));
    blocks
}

/// Bytes that a member takes in the tar.
pub(crate) fn length_on_tape(name: usize, link: usize, size: u64) -> u64 {
    let block = BLOCK as u64;
    let long = |text: usize| match text {
        0..=FIELD_MAX => 0,
        _ => block + padded(text as u64 + 1),
    };
    block
        .saturating_add(long(name))
        .saturating_add(long(link))
        .saturating_add(padded(size))
}

/// Lengths of the member's name in the tar and of its link.
pub(crate) fn text_lengths(member: &Member) -> (usize, usize) {
    let path = PREFIX.len() + member.path().len();
    match member {
        Member::Dir { .. } => (path + 1, 0),
        Member::File { .. } => (path, 0),
        Member::Symlink { target, .. } => (path, target.len()),
    }
}

/// Fill bytes after a content of that size.
pub(crate) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

fn padded(size: u64) -> u64 {
    size.saturating_add(padding(size) as u64)
}

/// The size in the header of `manifest.json`, if that is what the block is.
pub(crate) fn manifest_size(block: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(block.get(SIZE)?).ok()?;
    let size = u64::from_str_radix(digits.trim_end_matches('\0'), 8).ok()?;
    (manifest_header(size) == block).then_some(size)
}

/// Says which rule a block breaks that stands where the header of `expected` (or the end) should be.
///
/// The answer only chooses the message: the bundle is refused for being different, whatever the block claims.
pub(crate) fn explain(block: &[u8], expected: Option<usize>, listing: &Listing) -> Refused {
    let listed = |index: usize| shown(listing.members()[index].path());
    if block.iter().all(|byte| *byte == 0) {
        return expected.map_or(Refused::TrailingGarbage, |index| Refused::Missing {
            path: listed(index),
        });
    }
    let name = String::from_utf8_lossy(text_at(block, 0));
    let path = shown(&name);
    match block[TYPE] {
        b'1' => return Refused::HardLink { path },
        b'3'..=b'4' | b'6'..=b'7' => return Refused::DeviceNode { path },
        _ => {}
    }
    let mode = std::str::from_utf8(text_at(block, MODE.start)).unwrap_or_default();
    if u32::from_str_radix(mode, 8).is_ok_and(|mode| mode & 0o7000 != 0) {
        return Refused::SetId { path };
    }
    let member = name.strip_prefix(PREFIX).unwrap_or(&name);
    let member = member.strip_suffix('/').unwrap_or(member);
    if let Err(rule) = check_path(member) {
        return Refused::Path { path, rule };
    }
    match (listing.find(member), expected) {
        (Some(found), Some(wanted)) if found > wanted => Refused::Missing {
            path: listed(wanted),
        },
        (Some(found), Some(wanted)) if found == wanted => Refused::Header {
            path: listed(wanted),
        },
        (Some(_), _) => Refused::Duplicate { path },
        (None, Some(wanted)) if matches!(block[TYPE], b'K' | b'L') => Refused::Header {
            path: listed(wanted),
        },
        (None, _) => Refused::NotListed { path },
    }
}

fn name_in_tar(member: &Member) -> String {
    let slash = if matches!(member, Member::Dir { .. }) {
        "/"
    } else {
        ""
    };
    format!("{PREFIX}{}{slash}", member.path())
}

/// GNU tar's way: a member of type K or L whose content is the text of the next header.
fn long_text(blocks: &mut Vec<u8>, kind: u8, text: &str) {
    if text.len() <= FIELD_MAX {
        return;
    }
    let size = text.len() as u64 + 1;
    blocks.extend_from_slice(&encode("././@LongLink", 0o644, size, kind, ""));
    blocks.extend_from_slice(text.as_bytes());
    blocks.resize(blocks.len() + 1 + padding(size), 0);
}

fn encode(name: &str, mode: u32, size: u64, kind: u8, link: &str) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put(&mut block, 0, cut(name));
    put(&mut block, MODE.start, format!("{mode:07o}").as_bytes());
    put(&mut block, 108, b"0000000");
    put(&mut block, 116, b"0000000");
    if size < OCTAL_SIZE_MAX {
        put(&mut block, SIZE.start, format!("{size:011o}").as_bytes());
    } else {
        block[SIZE.start] = 0x80;
        put(&mut block, SIZE.end - 8, &size.to_be_bytes());
    }
    put(&mut block, 136, format!("{MTIME:011o}").as_bytes());
    block[TYPE] = kind;
    put(&mut block, 157, cut(link));
    put(&mut block, 257, b"ustar  \0");
    // The checksum counts its own field as spaces.
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(
        &mut block,
        CHECKSUM.start,
        format!("{sum:06o}\0 ").as_bytes(),
    );
    block
}

fn cut(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(FIELD_MAX)]
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The text of a field up to its NUL; no field is longer than a name.
fn text_at(block: &[u8], start: usize) -> &[u8] {
    let end = if start == 0 { FIELD_MAX } else { start + 8 };
    let field = &block[start..end];
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}
