//! `manifest.json`: the first member, which says of every other one what and where it is.
//!
//! Pure. Invariant: a [`Listing`] that exists keeps every rule of this crate: paths and links stay inside, no path is
//! there twice, and each member's directory is a listed directory that precedes it.

use std::fmt;

use comber_model::Digest;
use comber_model::release::Manifest;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::header;
use crate::path::{check_link, check_path, parent, shown};
use crate::refused::Refused;

/// The format that this version writes and reads.
pub const FORMAT: u64 = 1;
/// Most members: an agent keeps the list in memory, about 200 bytes for each.
pub const MEMBERS_MAX: usize = 100_000;
/// Longest `manifest.json` in bytes: the most members at a path of 150 bytes each.
pub const LISTING_MAX: u64 = 32 << 20;

/// One file, directory or link below `files/`.
///
/// Owner, time and the other bits of the mode are not here because every bundle has the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Member {
    /// A directory, mode 0755.
    Dir {
        /// Relative to the release.
        path: String,
    },
    /// A file, mode 0644, or 0755 where it is executable.
    File {
        /// Relative to the release.
        path: String,
        /// Whether everyone may execute it.
        executable: bool,
        /// Bytes of its content.
        size: u64,
        /// Of its content.
        sha256: Digest,
    },
    /// A symbolic link to a place inside the release.
    Symlink {
        /// Relative to the release.
        path: String,
        /// Relative to the link's directory; need not exist.
        target: String,
    },
}

impl Member {
    /// Where it is, relative to the release.
    pub fn path(&self) -> &str {
        match self {
            Self::Dir { path } | Self::File { path, .. } | Self::Symlink { path, .. } => path,
        }
    }

    /// Bytes of its content; 0 for all but files.
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Dir { .. } | Self::Symlink { .. } => 0,
        }
    }
}

/// What a bundle contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    manifest: Manifest,
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Written<'a> {
    format: u64,
    manifest: &'a Manifest,
    members: &'a [Member],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    #[expect(dead_code, reason = "judged before, by itself")]
    format: u64,
    manifest: Manifest,
    #[serde(deserialize_with = "few_members")]
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u64,
}

impl Listing {
    /// Takes a manifest and members that keep all rules.
    pub fn new(manifest: Manifest, members: Vec<Member>) -> Result<Self, Refused> {
        let problems = manifest.problems();
        if !problems.is_empty() {
            return Err(Refused::Manifest(problems));
        }
        if members.len() > MEMBERS_MAX {
            return Err(Refused::TooManyMembers);
        }
        for (index, member) in members.iter().enumerate() {
            check_member(&members[..index], member)?;
        }
        Ok(Self { manifest, members })
    }

    /// Reads `manifest.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let syntax = |error: serde_json::Error| match error.to_string() {
            text if text.starts_with(TOO_MANY) => Refused::TooManyMembers,
            // The parser quotes unknown names, which are foreign texts.
            text => Refused::ManifestSyntax {
                problem: shown(&text),
            },
        };
        // The format first: what another format has besides is not an error of this one.
        let FormatOnly { format } = serde_json::from_slice(bytes).map_err(syntax)?;
        if format != FORMAT {
            return Err(Refused::Format { found: format });
        }
        let read: Read = serde_json::from_slice(bytes).map_err(syntax)?;
        Self::new(read.manifest, read.members)
    }

    /// Writes `manifest.json`; the same listing always gives the same bytes.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(&Written {
            format: FORMAT,
            manifest: &self.manifest,
            members: &self.members,
        })
    }

    /// What the release says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// In the order of their paths.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Bytes of all files together: the least space that the unpacked release takes.
    pub fn unpacked_size(&self) -> u64 {
        self.members
            .iter()
            .fold(0, |sum, member| sum.saturating_add(member.size()))
    }

    /// Bytes of the tar whose `manifest.json` has `json_size` bytes.
    pub(crate) fn tar_length(&self, json_size: u64) -> u64 {
        let first = header::length_on_tape(header::MANIFEST_NAME.len(), 0, json_size);
        self.members
            .iter()
            .map(|member| {
                let (name, link) = header::text_lengths(member);
                header::length_on_tape(name, link, member.size())
            })
            .fold(first, u64::saturating_add)
            .saturating_add(header::END.len() as u64)
    }

    /// The member of that path, if it is listed.
    pub(crate) fn find(&self, path: &str) -> Option<usize> {
        self.members
            .binary_search_by(|member| member.path().cmp(path))
            .ok()
    }
}

/// Judges one member; `before` have passed and are sorted.
fn check_member(before: &[Member], member: &Member) -> Result<(), Refused> {
    let path = member.path();
    check_path(path).map_err(|rule| Refused::Path {
        path: shown(path),
        rule,
    })?;
    if let Member::Symlink { target, .. } = member {
        check_link(path, target).map_err(|rule| Refused::Link {
            path: shown(path),
            target: shown(target),
            rule,
        })?;
    }
    match before.last().map(|last| last.path().cmp(path)) {
        None | Some(std::cmp::Ordering::Less) => {}
        Some(std::cmp::Ordering::Equal) => return Err(Refused::Duplicate { path: shown(path) }),
        Some(std::cmp::Ordering::Greater) => {
            return Err(Refused::NotSorted { path: shown(path) });
        }
    }
    let Some(parent) = parent(path) else {
        return Ok(());
    };
    let found = before.binary_search_by(|other| other.path().cmp(parent));
    match found.ok().map(|index| &before[index]) {
        Some(Member::Dir { .. }) => Ok(()),
        Some(Member::Symlink { path: link, .. }) => Err(Refused::ThroughSymlink {
            path: shown(path),
            link: shown(link),
        }),
        Some(Member::File { .. }) | None => Err(Refused::NoParent { path: shown(path) }),
    }
}

const TOO_MANY: &str = "too many members";

/// Stops at the bound while reading, so that a hostile list cannot grow the memory beyond it first.
fn few_members<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Member>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = Vec<Member>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of members")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = sequence.next_element()? {
                if members.len() == MEMBERS_MAX {
                    return Err(de::Error::custom(TOO_MANY));
                }
                members.push(member);
            }
            Ok(members)
        }
    }

    deserializer.deserialize_seq(Few)
}
