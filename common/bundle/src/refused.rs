//! Why a bundle is refused: one variant for each rule, so that an upload, an agent and a test name the same thing.
//!
//! Texts from the bundle are quoted and cut before they get here; the messages are safe to log and to send.

use std::io;

use comber_model::{Digest, Invalid};
use thiserror::Error;

use crate::listing::{FORMAT, LISTING_MAX, MEMBERS_MAX};
use crate::path::{LinkRule, PathRule};

/// A bundle that is not taken, or bytes that could not be read.
#[derive(Debug, Error)]
pub enum Refused {
    /// The bytes could not be read: a matter of the disk or the network and not of the bundle.
    #[error("the bundle cannot be read")]
    Read(#[source] io::Error),
    /// Not zstd, damaged, or made with a larger window than agents grant.
    #[error("the bundle is not a sound zstd frame")]
    Compression(#[source] io::Error),
    /// The bytes end early.
    #[error("the bundle is cut short: it ends after {at} decoded bytes, in {inside}")]
    Truncated {
        /// Decoded bytes up to there.
        at: u64,
        /// What was being read.
        inside: &'static str,
    },
    /// More than was declared or is allowed comes out; decoding stopped there.
    #[error("the bundle unpacks to more than the {limit} bytes declared or allowed")]
    TooLong {
        /// The declared or allowed length of the tar.
        limit: u64,
    },
    /// Something follows the end of the tar or of the zstd frame.
    #[error("bytes follow the end of the bundle")]
    TrailingGarbage,
    /// The first member is something else.
    #[error("the first member is not manifest.json")]
    NoManifest,
    /// The list is larger than anyone needs.
    #[error("manifest.json has {size} bytes, at most {LISTING_MAX} are allowed")]
    ManifestTooLarge {
        /// As its header says.
        size: u64,
    },
    /// Made by a newer comber.
    #[error(
        "the bundle has format {found}, this version reads format {FORMAT}; upgrade comber here first"
    )]
    Format {
        /// As `manifest.json` says.
        found: u64,
    },
    /// `manifest.json` is not what it should be.
    #[error("manifest.json cannot be read: {problem}")]
    ManifestSyntax {
        /// What the parser said, with line and column.
        problem: String,
    },
    /// The release's manifest breaks its own rules.
    #[error("the release's manifest is not valid: {}", joined(.0))]
    Manifest(Vec<Invalid>),
    /// Too many members.
    #[error("the bundle has more than {MEMBERS_MAX} members")]
    TooManyMembers,
    /// A member's path is not allowed.
    #[error("the path {path} {rule}")]
    Path {
        /// Quoted.
        path: String,
        /// The rule.
        rule: PathRule,
    },
    /// A symbolic link's target is not allowed.
    #[error("the target {target} of the link {path} {rule}")]
    Link {
        /// Quoted.
        path: String,
        /// Quoted.
        target: String,
        /// The rule.
        rule: LinkRule,
    },
    /// Two members of one path.
    #[error("the member {path} is there twice")]
    Duplicate {
        /// Quoted.
        path: String,
    },
    /// The list is not in the order of its paths.
    #[error("the member {path} is out of order; members are sorted by the bytes of their paths")]
    NotSorted {
        /// Quoted.
        path: String,
    },
    /// A member below a symbolic link would be written wherever the link leads.
    #[error("the member {path} lies below the symbolic link {link}")]
    ThroughSymlink {
        /// Quoted.
        path: String,
        /// Quoted.
        link: String,
    },
    /// The parent is missing or is a file.
    #[error("the directory of the member {path} is not a member")]
    NoParent {
        /// Quoted.
        path: String,
    },
    /// A device, a fifo or another special file.
    #[error(
        "the member {path} is a device or fifo; only files, directories and symbolic links are allowed"
    )]
    DeviceNode {
        /// Quoted.
        path: String,
    },
    /// A hard link.
    #[error(
        "the member {path} is a hard link; only files, directories and symbolic links are allowed"
    )]
    HardLink {
        /// Quoted.
        path: String,
    },
    /// setuid, setgid or sticky.
    #[error("the member {path} has a setuid, setgid or sticky bit")]
    SetId {
        /// Quoted.
        path: String,
    },
    /// In the tar, not in the list.
    #[error("the member {path} is not in the list of members")]
    NotListed {
        /// Quoted.
        path: String,
    },
    /// In the list, not in the tar.
    #[error("the listed member {path} is missing")]
    Missing {
        /// Quoted.
        path: String,
    },
    /// The header differs from the one that the list demands.
    #[error("the header of the member {path} says something else than the list of members")]
    Header {
        /// Quoted.
        path: String,
    },
    /// The content differs from the list.
    #[error("the content of the member {path} does not have the listed sha256")]
    Content {
        /// Quoted.
        path: String,
    },
    /// The fill bytes after a member are not zero.
    #[error("the padding after the member {path} is not zero")]
    Padding {
        /// Quoted.
        path: String,
    },
    /// The tar has another length than declared.
    #[error("the bundle unpacks to {found} bytes, {declared} were declared")]
    Length {
        /// What was signed or assigned.
        declared: u64,
        /// What is there.
        found: u64,
    },
    /// The tar has another digest than declared.
    #[error("the bundle has the digest {found}, {declared} was declared")]
    Digest {
        /// What was signed or assigned.
        declared: Digest,
        /// What is there.
        found: Digest,
    },
}

impl Refused {
    /// True where the bytes could not be read: trying again may help. Anything else is a fault of the bundle.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Read(_))
    }
}

fn joined(problems: &[Invalid]) -> String {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
