//! Looks at a repository through whoever relays it, and believes only what the publisher's keys vouch for.
//!
//! [`crate::walk`] takes the steps; here is what goes in and what comes out. Reads and writes the record. Invariant: the
//! record only moves forward, and only to metadata that verifies from the root in it; a listing is never one that mixes.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use comber_model::{ReleaseId, ReleaseName};
use jiff::Timestamp as Instant;
use thiserror::Error;
use tough::schema::{RoleType, Root, Signed as SignedRole};

use crate::entry::{self, Entry};
use crate::record::{Record, RecordError};
use crate::walk::{self, Found};

/// Longest files. A root of ten keys has 5 kB, a list of 10,000 releases 5 MB.
const ROOT_MAX: u64 = 256 << 10;
const TIMESTAMP_MAX: u64 = 16 << 10;
const SNAPSHOT_MAX: u64 = 64 << 10;
const TARGETS_MAX: u64 = 8 << 20;

/// The bytes of a file, or `None` where there is no such file.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = io::Result<Option<Vec<u8>>>> + Send + 'a>>;

/// Where metadata comes from: anybody; it is not trusted.
pub trait Source: Send + Sync + 'static {
    /// Asks for a file such as `3.root.json`. However much comes, no more than the role's limit is used.
    fn fetch<'a>(&'a self, name: &'a str) -> Fetching<'a>;
}

/// The most bytes of a metadata file that are of use, by its name. A source need not bring more: what is longer is refused.
pub fn limit_of(name: &str) -> u64 {
    if name.ends_with("root.json") {
        ROOT_MAX
    } else if name == "timestamp.json" {
        TIMESTAMP_MAX
    } else if name.ends_with("snapshot.json") {
        SNAPSHOT_MAX
    } else {
        TARGETS_MAX
    }
}

/// A directory as a source.
#[derive(Debug, Clone)]
pub struct Directory(pub PathBuf);

impl Source for Directory {
    fn fetch<'a>(&'a self, name: &'a str) -> Fetching<'a> {
        let path = self.0.join(name);
        let limit = limit_of(name);
        Box::pin(async move {
            let file = match std::fs::File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            // One byte more than is of use, so that what is too long is refused and not taken for an absence.
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, limit + 1), &mut bytes)?;
            Ok(Some(bytes))
        })
    }
}

/// What the publisher lists, proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Versions of root, timestamp, snapshot and targets.
    pub versions: [u64; 4],
    /// The releases.
    pub releases: BTreeMap<ReleaseId, Entry>,
    /// Lowest counter that is still installed, by product.
    pub floors: BTreeMap<ReleaseName, u64>,
    /// When the first of the four roles ends.
    pub expires: Instant,
    /// When each ends, in the order of `versions`.
    pub ends: [Instant; 4],
}

/// Why nothing is believed.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Around the record.
    #[error("{} cannot be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A role is over.
    #[error(
        "the publisher's {role} metadata has expired: nothing new is installed until the publisher renews it"
    )]
    Expired {
        /// Which role.
        role: RoleType,
    },
    /// An older version than trusted before.
    #[error(
        "{role} version {found} is older than {trusted}, which was trusted before: somebody shows old metadata"
    )]
    Older {
        /// Which role.
        role: RoleType,
        /// What was shown.
        found: u64,
        /// What was trusted.
        trusted: u64,
    },
    /// The source is away.
    #[error("the metadata cannot be had")]
    Away(#[source] io::Error),
    /// Whether there is a next root is not known.
    #[error("the publisher's next root cannot be had, so it is not known which keys count now")]
    Unwalked(#[source] io::Error),
    /// A rule of the specification is broken.
    #[error("the metadata does not verify")]
    Refused(
        #[from]
        #[source]
        Broken,
    ),
    /// Only a part of what is newer was had.
    #[error(
        "newer metadata is known than what was had of it; what was listed before counts no more until another look"
    )]
    Behind,
    /// A root that does not vouch for itself.
    #[error("this is no root metadata that is signed by its own threshold of keys")]
    Root,
    /// Signed, and still not understood.
    #[error("the metadata is signed, but its {0} cannot be read")]
    Content(&'static str),
}

/// The rule that a file breaks.
#[derive(Debug, Error)]
pub enum Broken {
    /// It is listed and not there.
    #[error("{0} is missing")]
    Missing(String),
    /// It is longer than any honest one.
    #[error("{name} has {found} bytes, at most {limit} are read")]
    Long {
        /// The file.
        name: String,
        /// Its length, or more than that.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// It says more than any honest one.
    #[error("{name} has more than {limit} values")]
    Values {
        /// The file.
        name: String,
        /// The bound.
        limit: usize,
    },
    /// It is not UTF-8.
    #[error("{0} is no text")]
    NoText(String),
    /// It is not metadata of that role.
    #[error("{name} is no metadata of its role")]
    Syntax {
        /// The file.
        name: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// It follows rules that are not known here.
    #[error("{name} follows version {found:?} of the specification, only 1.x is understood")]
    Spec {
        /// The file.
        name: String,
        /// What it says.
        found: String,
    },
    /// The keys.
    #[error("{name} is not signed by enough of the keys that count for it")]
    Signatures {
        /// The file.
        name: String,
        /// How many, or what is wrong with them.
        #[source]
        source: Box<tough::schema::Error>,
    },
    /// It is not the version under whose name it is shown.
    #[error("{name} says that it is version {found}, {expected} was asked for")]
    Version {
        /// The file.
        name: String,
        /// What is listed.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// Other bytes than listed.
    #[error("{0} is another file than the one that is listed: its length or its sha256 differs")]
    Other(String),
    /// A role is gone from a list.
    #[error("{name} does not list {role}")]
    Unlisted {
        /// The file.
        name: String,
        /// What is not in it.
        role: String,
    },
}

impl VerifyError {
    /// True where another look may do better: nothing was shown that is wrong. Whoever relays says that a file is missing;
    /// that is to withhold it, as a relay that is away does.
    pub fn is_away(&self) -> bool {
        matches!(
            self,
            Self::Away(_) | Self::Unwalked(_) | Self::Refused(Broken::Missing(_))
        )
    }
}

/// Looks at a repository and moves the record forward.
///
/// Also on an error, what was verified before it stays: a root that revokes keys counts, whatever is withheld behind it.
pub async fn refresh(
    record_path: &Path,
    source: Arc<dyn Source>,
    now: Instant,
) -> Result<Listing, VerifyError> {
    let before = Record::load(record_path)?;
    let mut record = before.clone();
    let found = look(&mut record, &*source, now).await;
    if record != before {
        record.save(record_path)?;
    }
    found
}

/// The same on a record in memory. It may have moved forward also where an error comes back.
pub async fn look(
    record: &mut Record,
    source: &dyn Source,
    now: Instant,
) -> Result<Listing, VerifyError> {
    // A clock that was set back must not revive what had ended, and one that was ahead once must not lock the host out: the
    // latest time that counted is a bound on what is believed, and no condition on the clock.
    let latest = record.trusted_at.map_or(now, |before| before.max(now));
    let found = walk::walk(record, source, latest).await?;
    let listing = listing(&found)?;
    record.trusted_at = Some(latest);
    Ok(listing)
}

/// What a record lists without looking at any source: for a host that is offline. `None` where nothing but a root was ever
/// trusted. It may have ended; [`Listing::must_hold`] says so.
pub fn kept(record: &Record) -> Result<Option<Listing>, VerifyError> {
    walk::kept(record)?.as_ref().map(listing).transpose()
}

/// Any listed target, whether or not it is a release of ours: for tools that handle repositories of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Bytes of the file.
    pub length: u64,
    /// Their sha256.
    pub sha256: [u8; 32],
    /// Where it lies below the address of the targets, `/` between its parts.
    pub place: String,
}

/// Looks a target up by its name in what a record lists.
pub fn target(record: &Record, name: &str) -> Result<Option<Target>, VerifyError> {
    let Some(found) = walk::kept(record)? else {
        return Ok(None);
    };
    let targets = &found.targets.targets;
    let Some((_, target)) = targets.iter().find(|(known, _)| known.raw() == name) else {
        return Ok(None);
    };
    let sha256: &[u8] = &target.hashes.sha256;
    let sha256 = <[u8; 32]>::try_from(sha256).map_err(|_| VerifyError::Content("sha256"))?;
    let place = match name.rsplit_once('/') {
        _ if !found.root.consistent_snapshot => name.to_owned(),
        Some((dir, file)) => format!("{dir}/{}.{file}", crate::key::hex(&sha256)),
        None => format!("{}.{name}", crate::key::hex(&sha256)),
    };
    Ok(Some(Target {
        length: target.length,
        sha256,
        place,
    }))
}

/// A root that somebody handed over, looked at by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFacts {
    /// Its version.
    pub version: u64,
    /// Until when it holds.
    pub expires: Instant,
    /// The sha256 of the file, by which people compare it.
    pub sha256: String,
}

/// Reads a root that is about to be pinned. It must be signed by its own threshold; whether it is the publisher's is for
/// whoever hands it over to know.
pub fn look_at_root(text: &str) -> Result<RootFacts, VerifyError> {
    if text.len() as u64 > ROOT_MAX {
        return Err(VerifyError::Content("root"));
    }
    let root: SignedRole<Root> =
        serde_json::from_str(text).map_err(|_| VerifyError::Content("root"))?;
    let vouched = root.signed.verify_role(&root);
    vouched.map_err(|_| VerifyError::Root)?;
    Ok(RootFacts {
        version: root.signed.version.get(),
        expires: instant(root.signed.expires.as_second()),
        sha256: crate::key::hex(digest(&SHA256, text.as_bytes()).as_ref()),
    })
}

fn listing(found: &Found) -> Result<Listing, VerifyError> {
    let (root, timestamp) = (&found.root, &found.timestamp);
    let (snapshot, targets) = (&found.snapshot, &found.targets);
    let ends = [
        root.expires.as_second(),
        timestamp.expires.as_second(),
        snapshot.expires.as_second(),
        targets.expires.as_second(),
    ]
    .map(instant);
    Ok(Listing {
        versions: [
            root.version.get(),
            timestamp.version.get(),
            snapshot.version.get(),
            targets.version.get(),
        ],
        releases: entry::listed(targets),
        floors: entry::floors(targets).map_err(|_| VerifyError::Content("floors"))?,
        expires: ends.into_iter().min().unwrap_or(Instant::UNIX_EPOCH),
        ends,
    })
}

fn instant(second: i64) -> Instant {
    Instant::from_second(second).unwrap_or(Instant::UNIX_EPOCH)
}

impl Listing {
    /// Refuses what has ended by then, and names the role.
    pub fn must_hold(&self, by: Instant) -> Result<(), VerifyError> {
        let roles = [
            RoleType::Root,
            RoleType::Timestamp,
            RoleType::Snapshot,
            RoleType::Targets,
        ];
        let ended = roles.into_iter().zip(self.ends).find(|(_, end)| *end <= by);
        match ended {
            Some((role, _)) => Err(VerifyError::Expired { role }),
            None => Ok(()),
        }
    }
}
