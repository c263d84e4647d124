//! Looks at a repository through whoever relays it, and believes only what the publisher's keys vouch for.
//!
//! The library's own store is neither atomic nor complete, so it only ever sees a private directory made from our record, and
//! what it found is compared with the record once more. Reads and writes that directory and the record. Invariant: the record
//! only moves forward, and only to metadata that verifies from the root in it; on any error it stays as it was.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use comber_model::{ReleaseId, ReleaseName};
use comber_runtime::fsx;
use jiff::Timestamp as Instant;
use thiserror::Error;
use tough::schema::{RoleType, Root, Signed as SignedRole, Snapshot, Targets, Timestamp};
use tough::{
    ExpirationEnforcement, Limits, Repository, RepositoryLoader, Transport, TransportError,
    TransportErrorKind, TransportStream,
};
use url::Url;

use crate::entry::{self, Entry};
use crate::record::{Record, RecordError};

/// Tighter than the library's own: a root of ten keys has 5 kB, a list of 10,000 releases 5 MB.
const LIMITS: Limits = Limits {
    max_root_size: 256 << 10,
    max_targets_size: 8 << 20,
    max_timestamp_size: 16 << 10,
    max_snapshot_size: 64 << 10,
    max_root_updates: 256,
};
/// A base for names; nothing is ever asked for at it.
const BASE: &str = "comber://repository/";

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
        LIMITS.max_root_size
    } else if name == "timestamp.json" {
        LIMITS.max_timestamp_size
    } else if name.ends_with("snapshot.json") {
        LIMITS.max_snapshot_size
    } else {
        LIMITS.max_targets_size
    }
}

/// A directory as a source.
#[derive(Debug, Clone)]
pub struct Directory(pub PathBuf);

impl Source for Directory {
    fn fetch<'a>(&'a self, name: &'a str) -> Fetching<'a> {
        let path = self.0.join(name);
        Box::pin(async move {
            match fsx::read_limited(&path, LIMITS.max_targets_size) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(io::Error::new(error.kind(), error)),
            }
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
    /// The private directory.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
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
    Away(#[source] Box<tough::error::Error>),
    /// The library takes any failure to fetch the next root for the end of the roots.
    #[error("the publisher's next root cannot be had, so it is not known which keys count now")]
    Unwalked,
    /// More bytes than the role may have.
    #[error(
        "{name} has more than the {} bytes that its role may have",
        limit_of(name)
    )]
    TooLong {
        /// Which file.
        name: String,
    },
    /// A rule of the specification is broken.
    #[error("the metadata does not verify")]
    Refused(#[source] Box<tough::error::Error>),
    /// A root that does not vouch for itself.
    #[error("this is no root metadata that is signed by its own threshold of keys")]
    Root,
    /// Signed, and still not understood.
    #[error("the metadata is signed, but its {0} cannot be read")]
    Content(&'static str),
}

impl VerifyError {
    /// True where another look may do better: nothing was refused.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Unwalked | Self::Io { .. })
    }
}

/// Looks at a repository and moves the record forward.
///
/// `scratch` is a directory of the caller's own, on the record's file system.
pub async fn refresh(
    record_path: &Path,
    scratch: &Path,
    source: Arc<dyn Source>,
    now: Instant,
) -> Result<Listing, VerifyError> {
    let record = Record::load(record_path)?;
    let (next, listing) = advance(&record, scratch, source, now).await?;
    next.save(record_path)?;
    Ok(listing)
}

/// The same for whoever keeps the record elsewhere: gives the next one, which must be durable before the listing counts.
pub async fn advance(
    record: &Record,
    scratch: &Path,
    source: Arc<dyn Source>,
    now: Instant,
) -> Result<(Record, Listing), VerifyError> {
    let private = Private::make(scratch, record)?;
    let loaded = load(record, private.path(), source).await?;
    let listing = compare(record, &loaded)?;
    // A clock that was set back must not revive what had ended, and one that was ahead once must not lock the host out: the
    // latest time that counted is a bound on what is believed, and no condition on the clock.
    let latest = record.trusted_at.map_or(now, |before| before.max(now));
    listing.must_hold(latest)?;
    let next = Record {
        root: text(loaded.root())?,
        timestamp: Some(text(loaded.timestamp())?),
        snapshot: Some(text(loaded.snapshot())?),
        targets: Some(text(loaded.targets())?),
        trusted_at: Some(latest),
    };
    Ok((next, listing))
}

/// What a record lists without looking at any source: for a host that is offline. `None` where nothing but a root was ever
/// trusted. It may have ended; [`Listing::must_hold`] says so.
pub fn kept(record: &Record) -> Result<Option<Listing>, VerifyError> {
    let root: SignedRole<Root> =
        serde_json::from_str(&record.root).map_err(|_| VerifyError::Content("root"))?;
    let (timestamp, snapshot) = (
        known::<Timestamp>(record.timestamp.as_deref())?,
        known::<Snapshot>(record.snapshot.as_deref())?,
    );
    let targets = known::<Targets>(record.targets.as_deref())?;
    let (Some(timestamp), Some(snapshot), Some(targets)) = (timestamp, snapshot, targets) else {
        return Ok(None);
    };
    listing(&root.signed, &timestamp, &snapshot, &targets).map(Some)
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
    if text.len() as u64 > LIMITS.max_root_size {
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

async fn load(
    record: &Record,
    datastore: &Path,
    source: Arc<dyn Source>,
) -> Result<Repository, VerifyError> {
    let base = Url::parse(BASE).map_err(|_| VerifyError::Content("address"))?;
    let failed = Arc::new(AtomicBool::new(false));
    let too_long = Arc::new(Mutex::new(None));
    let relay = Relay {
        source,
        failed: Arc::clone(&failed),
        too_long: Arc::clone(&too_long),
    };
    let loader = RepositoryLoader::new(&record.root, base.clone(), base)
        .transport(relay)
        .limits(LIMITS)
        .datastore(datastore)
        .expiration_enforcement(ExpirationEnforcement::Safe);
    let loaded = loader.load().await;
    // The library takes it for a failure of the transport, which another look might mend.
    if let Some(name) = too_long.lock().ok().and_then(|mut name| name.take()) {
        return Err(VerifyError::TooLong { name });
    }
    let repository = loaded.map_err(explain)?;
    if failed.load(Ordering::Acquire) {
        return Err(VerifyError::Unwalked);
    }
    Ok(repository)
}

/// Which of our errors it is.
fn explain(error: tough::error::Error) -> VerifyError {
    use tough::error::Error as E;
    match error {
        E::ExpiredMetadata { role, .. } => VerifyError::Expired { role },
        E::Transport { .. } => VerifyError::Away(Box::new(error)),
        E::OlderMetadata {
            role,
            current_version,
            new_version,
            ..
        } => VerifyError::Older {
            role,
            found: new_version,
            trusted: current_version,
        },
        other => VerifyError::Refused(Box::new(other)),
    }
}

/// The second look: against the record, whatever the library made of its own files.
fn compare(record: &Record, loaded: &Repository) -> Result<Listing, VerifyError> {
    let before: SignedRole<Root> =
        serde_json::from_str(&record.root).map_err(|_| VerifyError::Content("root"))?;
    let root = &loaded.root().signed;
    older(
        RoleType::Root,
        before.signed.version.get(),
        root.version.get(),
    )?;
    // A publisher whose online keys were stolen gives out new ones; versions that the thief inflated are then forgotten.
    let same = |role| before.signed.keys(role).eq(root.keys(role));
    if same(RoleType::Timestamp) && same(RoleType::Snapshot) {
        if let Some(known) = known::<Timestamp>(record.timestamp.as_deref())? {
            let found = loaded.timestamp().signed.version.get();
            older(RoleType::Timestamp, known.version.get(), found)?;
        }
        if let Some(known) = known::<Snapshot>(record.snapshot.as_deref())? {
            let found = loaded.snapshot().signed.version.get();
            older(RoleType::Snapshot, known.version.get(), found)?;
        }
    }
    if let Some(known) = known::<Targets>(record.targets.as_deref())?
        && before
            .signed
            .keys(RoleType::Targets)
            .eq(root.keys(RoleType::Targets))
    {
        let found = loaded.targets().signed.version.get();
        older(RoleType::Targets, known.version.get(), found)?;
    }
    listing(
        root,
        &loaded.timestamp().signed,
        &loaded.snapshot().signed,
        &loaded.targets().signed,
    )
}

fn known<T: serde::de::DeserializeOwned>(text: Option<&str>) -> Result<Option<T>, VerifyError> {
    let parsed = text.map(serde_json::from_str::<SignedRole<T>>).transpose();
    let parsed = parsed.map_err(|_| VerifyError::Content("record"))?;
    Ok(parsed.map(|role| role.signed))
}

fn older(role: RoleType, trusted: u64, found: u64) -> Result<(), VerifyError> {
    if found < trusted {
        return Err(VerifyError::Older {
            role,
            found,
            trusted,
        });
    }
    Ok(())
}

fn listing(
    root: &Root,
    timestamp: &Timestamp,
    snapshot: &Snapshot,
    targets: &Targets,
) -> Result<Listing, VerifyError> {
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

fn text<T: serde::Serialize>(role: &SignedRole<T>) -> Result<String, VerifyError> {
    serde_json::to_string(role).map_err(|_| VerifyError::Content("role"))
}

/// The library's store for one look; gone afterwards, however that ends.
struct Private(PathBuf);

impl Private {
    fn make(scratch: &Path, record: &Record) -> Result<Self, VerifyError> {
        let dir = scratch.join("metadata");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| VerifyError::Io { path, source }
        };
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&dir)(error));
            }
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&dir).map_err(failed(&dir))?;
        let private = Self(dir);
        for (name, text) in [
            ("timestamp.json", &record.timestamp),
            ("snapshot.json", &record.snapshot),
            ("targets.json", &record.targets),
        ] {
            if let Some(text) = text {
                let path = private.0.join(name);
                fs::write(&path, text).map_err(failed(&path))?;
            }
        }
        Ok(private)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // The next look begins by removing it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A source as the library wants it.
#[derive(Clone)]
struct Relay {
    source: Arc<dyn Source>,
    /// Some file could not be had, for another reason than that it does not exist.
    failed: Arc<AtomicBool>,
    /// This one had more bytes than its role may have.
    too_long: Arc<Mutex<Option<String>>>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for Relay {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path().rsplit('/').next().unwrap_or_default().to_owned();
        let fetched = self.source.fetch(&name).await;
        match fetched {
            Ok(Some(bytes)) if bytes.len() as u64 > limit_of(&name) => {
                if let Ok(mut too_long) = self.too_long.lock() {
                    *too_long = Some(name);
                }
                Err(TransportError::new(TransportErrorKind::Other, url))
            }
            Ok(Some(bytes)) => {
                let whole = futures_util::stream::iter([Ok(bytes.into())]);
                Ok(Box::pin(whole))
            }
            Ok(None) => Err(TransportError::new(TransportErrorKind::FileNotFound, url)),
            Err(error) => {
                self.failed.store(true, Ordering::Release);
                let kind = TransportErrorKind::Other;
                Err(TransportError::new_with_cause(kind, url, error))
            }
        }
    }
}
