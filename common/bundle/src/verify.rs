//! Walks a bundle from its first byte to its last and refuses it at the first rule that it breaks.
//!
//! The one walk serves the check of an upload, the check on a host and unpacking, so no two of them can disagree.
//! Invariant: whoever gets [`Contents`] from here knows that every byte of the bundle was seen and was as listed.

use std::io::Read;

use comber_model::{Artifact, Digest};
use sha2::{Digest as _, Sha256};

use crate::decode::{Decoded, Totals};
use crate::header::{self, BLOCK, END};
use crate::listing::{LISTING_MAX, Listing, Member};
use crate::path::shown;
use crate::refused::Refused;

/// Content is passed on in pieces of this size.
const PIECE: usize = 128 << 10;

/// How much is granted to a bundle of which nothing is known yet.
///
/// The carried bytes are bounded by whoever hands them in: an endless source of empty zstd blocks never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the uncompressed tar.
    pub length: u64,
}

/// What a sound bundle contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The release's manifest and its members.
    pub listing: Listing,
    /// Its identity and lengths, as found.
    pub artifact: Artifact,
}

/// Checks a bundle of unknown identity, for example an upload, and says what it is.
pub fn inspect(carried: impl Read, limits: Limits) -> Result<Contents, Refused> {
    walk(carried, limits.length, &mut Nothing)
}

/// Checks that a bundle is sound and is the one declared. `carried_length` is not compared: a bundle that a relay
/// compressed again is the same bundle.
pub fn verify(carried: impl Read, declared: &Artifact) -> Result<Contents, Refused> {
    verify_into(carried, declared, &mut Nothing)
}

/// Receives what the walk finds, in the order of the bundle.
///
/// It sees contents before they are proven: what it makes of them must stay aside until the walk has ended well.
pub(crate) trait Sink {
    type Error: From<Refused>;

    /// The next member begins.
    fn member(&mut self, member: &Member) -> Result<(), Self::Error>;

    /// The next bytes of the file that began last.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

struct Nothing;

impl Sink for Nothing {
    type Error = Refused;

    fn member(&mut self, _: &Member) -> Result<(), Refused> {
        Ok(())
    }

    fn data(&mut self, _: &[u8]) -> Result<(), Refused> {
        Ok(())
    }
}

/// [`verify`] that passes the contents to `sink`.
pub(crate) fn verify_into<S: Sink>(
    carried: impl Read,
    declared: &Artifact,
    sink: &mut S,
) -> Result<Contents, S::Error> {
    let contents = walk(carried, declared.length, sink)?;
    let found = contents.artifact;
    if found.length != declared.length {
        return Err(S::Error::from(Refused::Length {
            declared: declared.length,
            found: found.length,
        }));
    }
    if found.digest != declared.digest {
        return Err(S::Error::from(Refused::Digest {
            declared: declared.digest,
            found: found.digest,
        }));
    }
    Ok(contents)
}

fn walk<S: Sink>(carried: impl Read, limit: u64, sink: &mut S) -> Result<Contents, S::Error> {
    let mut tar = Decoded::new(carried, limit)?;
    let listing = read_listing(&mut tar, limit)?;
    let mut piece = vec![0; PIECE];
    for (index, member) in listing.members().iter().enumerate() {
        compare_header(
            &mut tar,
            &header::member_header(member),
            Some(index),
            &listing,
        )?;
        sink.member(member)?;
        if let Member::File {
            path, size, sha256, ..
        } = member
        {
            let found = copy_content(&mut tar, *size, &mut piece, sink)?;
            if found != *sha256 {
                return Err(S::Error::from(Refused::Content { path: shown(path) }));
            }
            check_padding(&mut tar, *size, path)?;
        }
    }
    compare_header(&mut tar, &END, None, &listing)?;
    let Totals {
        digest,
        length,
        carried_length,
    } = tar.finish()?;
    let artifact = Artifact {
        digest,
        length,
        carried_length,
    };
    Ok(Contents { listing, artifact })
}

fn read_listing<R: Read>(tar: &mut Decoded<R>, limit: u64) -> Result<Listing, Refused> {
    let mut block = [0; BLOCK];
    tar.fill(&mut block, "the header of manifest.json")?;
    let size = header::manifest_size(&block).ok_or(Refused::NoManifest)?;
    if size > LISTING_MAX {
        return Err(Refused::ManifestTooLarge { size });
    }
    let too_long = Refused::TooLong { limit };
    // Before the memory for it is taken.
    if size > tar.left() {
        return Err(too_long);
    }
    let mut json = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    tar.fill(&mut json, "manifest.json")?;
    check_padding(tar, size, header::MANIFEST_NAME)?;
    let listing = Listing::parse(&json)?;
    // Known before a single byte of content is taken.
    if listing.tar_length(size) > limit {
        return Err(too_long);
    }
    Ok(listing)
}

/// Block by block, so that a foreign header is explained by its own first block.
fn compare_header<R: Read>(
    tar: &mut Decoded<R>,
    expected: &[u8],
    index: Option<usize>,
    listing: &Listing,
) -> Result<(), Refused> {
    let mut block = [0; BLOCK];
    for (number, wanted) in expected.chunks_exact(BLOCK).enumerate() {
        tar.fill(&mut block, "the header of a member")?;
        if block == wanted {
            continue;
        }
        return Err(match index {
            // The text of a long name is no header and explains nothing.
            Some(index) if number > 0 => Refused::Header {
                path: shown(listing.members()[index].path()),
            },
            _ => header::explain(&block, index, listing),
        });
    }
    Ok(())
}

fn copy_content<R: Read, S: Sink>(
    tar: &mut Decoded<R>,
    size: u64,
    piece: &mut [u8],
    sink: &mut S,
) -> Result<Digest, S::Error> {
    let mut hash = Sha256::new();
    let mut left = size;
    while left > 0 {
        let count = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        let part = &mut piece[..count];
        tar.fill(part, "the content of a member")?;
        hash.update(&*part);
        sink.data(part)?;
        left -= count as u64;
    }
    Ok(Digest(hash.finalize().into()))
}

fn check_padding<R: Read>(tar: &mut Decoded<R>, size: u64, path: &str) -> Result<(), Refused> {
    let mut padding = [0; BLOCK];
    let padding = &mut padding[..header::padding(size)];
    tar.fill(padding, "the padding after a member")?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Refused::Padding { path: shown(path) });
    }
    Ok(())
}
