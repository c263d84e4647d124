//! What publishers do to their repository: change it, sign it together, publish it whole.
//!
//! ```text
//!   init, add_key, remove_key, add, withdraw, floor ──> staged (no signatures)
//!   sign, merge                                      ──> staged (one signature after another, on any machines)
//!   finish                                           ──> published, once every role has its threshold
//! ```
//!
//! Reads and writes the repository's directory on the publisher's machine. Invariant: what is published verifies from the
//! first root on; an edit drops the signatures of the role that it changes, and of no other.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use comber_model::{ReleaseId, ReleaseName};
use comber_runtime::fsx;
use jiff::{SignedDuration, Timestamp as Instant};
use thiserror::Error;
use tough::TargetName;
use tough::schema::key::Key;
use tough::schema::{
    Metafile, Role, RoleKeys, RoleType, Root, Signed as SignedRole, Snapshot, Targets, Timestamp,
};

use crate::entry::{self, Entry, Signed};
use crate::files::{Files, FilesError, Published, Staged};
use crate::key::{KeyError, Signer, hex, key_id};

/// The version of the specification that this follows.
const SPEC: &str = "1.0.31";
/// The four roles of a repository.
pub const ROLES: [RoleType; 4] = [
    RoleType::Root,
    RoleType::Targets,
    RoleType::Snapshot,
    RoleType::Timestamp,
];

/// How long each role holds from when it is made.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    /// Of the root.
    pub root: SignedDuration,
    /// Of the list of releases.
    pub targets: SignedDuration,
    /// Of the snapshot.
    pub snapshot: SignedDuration,
    /// Of the timestamp: how long whoever controls the network can hide a newer list.
    pub timestamp: SignedDuration,
}

impl Default for Lives {
    fn default() -> Self {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        Self {
            root: days(365),
            targets: days(90),
            snapshot: days(30),
            timestamp: days(7),
        }
    }
}

/// Why a repository is not changed.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Its files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The bundle, or the place for it.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The new version of a release has other bytes.
    #[error(
        "{0} is listed already with other bytes; a release never changes, give it another version"
    )]
    OtherBytes(ReleaseId),
    /// A counter that would go back.
    #[error(
        "counter {counter} of {release} is not above {highest}, the highest listed of its product; raise it"
    )]
    Counter {
        /// What is added.
        release: ReleaseId,
        /// Its counter.
        counter: u64,
        /// The highest so far.
        highest: u64,
    },
    /// Nothing of that name.
    #[error("{0} is not listed")]
    Unlisted(ReleaseId),
    /// A role without enough keys.
    #[error(
        "{role} would have {keys} keys and a threshold of {threshold}; add keys or lower the threshold"
    )]
    Threshold {
        /// Which role.
        role: RoleType,
        /// Its keys.
        keys: usize,
        /// Signatures that it needs.
        threshold: u64,
    },
    /// A key that signs nothing here.
    #[error("the key {0} signs nothing that is prepared here")]
    Useless(String),
    /// There is nothing to publish.
    #[error(
        "nothing is prepared; change something, or renew the timestamp with: comber repo refresh"
    )]
    Nothing,
    /// Not signed by enough yet.
    #[error(
        "{role} version {version} has not enough valid signatures: {problem}; sign with: comber repo sign"
    )]
    Unsigned {
        /// Which role.
        role: RoleType,
        /// Its version.
        version: NonZeroU64,
        /// What the verifier says.
        problem: String,
    },
    /// Roles of two repositories.
    #[error("{role} prepared here and there is not the same; nothing was merged")]
    Different {
        /// Which role.
        role: RoleType,
    },
    /// A value that cannot be written.
    #[error("cannot write {0}")]
    Write(&'static str),
}

/// A publisher's repository.
#[derive(Debug, Clone)]
pub struct Publisher {
    files: Files,
    lives: Lives,
    now: Instant,
}

/// What is listed, or will be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// The releases.
    pub releases: BTreeMap<ReleaseId, Entry>,
    /// Lowest counter that is still installed, by product.
    pub floors: BTreeMap<ReleaseName, u64>,
}

/// Who may sign a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeysView {
    /// Which role.
    pub role: RoleType,
    /// How many must sign.
    pub threshold: u64,
    /// The identities of their keys.
    pub keys: Vec<String>,
}

/// The roles that were signed, with how many signatures each has and needs.
pub type Progress = Vec<(RoleType, NonZeroU64, usize, u64)>;

impl Publisher {
    /// Makes a repository: prepares its first root and an empty list.
    pub fn init(
        dir: &Path,
        keys: &BTreeMap<&str, (Vec<Key>, u64)>,
        lives: Lives,
        now: Instant,
    ) -> Result<Self, PublishError> {
        let files = Files::at(dir);
        let publisher = Self { files, lives, now };
        let mut root = Root {
            spec_version: SPEC.to_owned(),
            consistent_snapshot: true,
            version: NonZeroU64::MIN,
            expires: written(publisher.after(lives.root))?,
            keys: HashMap::new(),
            roles: HashMap::new(),
            _extra: HashMap::new(),
        };
        for role in ROLES {
            let none = (Vec::new(), 1);
            let (keys, threshold) = keys.get(role.to_string().as_str()).unwrap_or(&none);
            let mut keyids = Vec::new();
            for key in keys {
                let id = key_id(key)?;
                root.keys.insert(id.clone(), key.clone());
                keyids.push(id);
            }
            let threshold = NonZeroU64::new(*threshold).unwrap_or(NonZeroU64::MIN);
            root.roles.insert(
                role,
                RoleKeys {
                    keyids,
                    threshold,
                    _extra: HashMap::new(),
                },
            );
        }
        enough(&root)?;
        publisher.files.create()?;
        publisher.files.stage(&unsigned(root))?;
        publisher.stage_targets(None, |_| Ok(()))?;
        Ok(publisher)
    }

    /// A repository that is there.
    pub fn open(dir: &Path, lives: Lives, now: Instant) -> Result<Self, PublishError> {
        let files = Files::at(dir);
        files.must_exist()?;
        Ok(Self { files, lives, now })
    }

    /// Lets a key sign a role, from the next root on.
    pub fn add_key(&self, role: RoleType, key: &Key) -> Result<(), PublishError> {
        let id = key_id(key)?;
        self.stage_root(role, |root| {
            root.keys.insert(id.clone(), key.clone());
            let keys = root.roles.get_mut(&role);
            if let Some(keys) = keys
                && !keys.keyids.contains(&id)
            {
                keys.keyids.push(id);
            }
        })
    }

    /// Takes the right to sign a role from a key.
    pub fn remove_key(&self, role: RoleType, key: &Key) -> Result<(), PublishError> {
        let id = key_id(key)?;
        self.stage_root(role, |root| {
            if let Some(keys) = root.roles.get_mut(&role) {
                keys.keyids.retain(|known| *known != id);
            }
            if !root.roles.values().any(|keys| keys.keyids.contains(&id)) {
                root.keys.remove(&id);
            }
        })
    }

    /// Says how many signatures a role needs.
    pub fn set_threshold(&self, role: RoleType, threshold: NonZeroU64) -> Result<(), PublishError> {
        self.stage_root(role, |root| {
            if let Some(keys) = root.roles.get_mut(&role) {
                keys.threshold = threshold;
            }
        })
    }

    /// Lists a release; its decoded bundle is copied to the targets.
    pub fn add(&self, bundle: &Path, signed: Signed) -> Result<Entry, PublishError> {
        let (sha256, length, copy) = self.copy(bundle)?;
        let entry = Entry {
            length,
            sha256,
            signed,
        };
        let id = entry.signed.id();
        self.stage_targets(None, |targets| {
            let listed = entry::listed(targets);
            if let Some(known) = listed.get(&id) {
                if known.sha256 != entry.sha256 {
                    return Err(PublishError::OtherBytes(id.clone()));
                }
            } else {
                must_rise(targets, &entry)?;
            }
            let failed = |_| PublishError::Write("the entry");
            let target = entry::to_target(&entry).map_err(failed)?;
            entry::remember(targets, &entry.signed).map_err(failed)?;
            targets.targets.insert(target_name(&entry.signed)?, target);
            Ok(())
        })
        .inspect_err(|_| {
            // Only space is lost where it stays.
            let _ = std::fs::remove_file(&copy);
        })?;
        let place = self.place(&entry);
        std::fs::rename(&copy, &place).map_err(io_at(&place))?;
        fsx::fsync_dir(&self.files.targets()).map_err(FilesError::from)?;
        Ok(entry)
    }

    /// Takes a release off the list: from then on no host installs it.
    pub fn withdraw(&self, release: &ReleaseId) -> Result<(), PublishError> {
        self.stage_targets(None, |targets| {
            let listed = entry::listed(targets);
            let entry = listed.get(release);
            let entry = entry.ok_or_else(|| PublishError::Unlisted(release.clone()))?;
            targets.targets.remove(&target_name(&entry.signed)?);
            Ok(())
        })
    }

    /// Sets the lowest counter of a product that any host still installs.
    pub fn floor(&self, product: &ReleaseName, counter: u64) -> Result<(), PublishError> {
        self.stage_targets(None, |targets| {
            let failed = |_| PublishError::Write("the floors");
            let mut floors = entry::floors(targets).map_err(failed)?;
            floors.insert(product.clone(), counter);
            entry::set_floors(targets, &floors).map_err(failed)
        })
    }

    /// Signs everything prepared that these keys may sign. `Err(Useless)` where a key can sign nothing.
    pub fn sign(&self, keys: &[&dyn Signer]) -> Result<Progress, PublishError> {
        self.prepare()?;
        let mut staged = self.files.staged()?;
        let roots = self.roots(&staged)?;
        for key in keys {
            let mut signs = false;
            // The old root's keys vouch for the new root, beside its own.
            signs |= sign(staged.root.as_mut(), &roots, *key)?;
            let newest = &roots[roots.len().saturating_sub(1)..];
            signs |= sign(staged.targets.as_mut(), newest, *key)?;
            signs |= sign(staged.snapshot.as_mut(), newest, *key)?;
            signs |= sign(staged.timestamp.as_mut(), newest, *key)?;
            if !signs {
                return Err(PublishError::Useless(hex(&key_id(&key.public())?)));
            }
        }
        self.restage(&staged)?;
        self.progress()
    }

    /// Takes over the signatures that were made on another machine, of the very same roles.
    pub fn merge(&self, other: &Path) -> Result<Progress, PublishError> {
        let theirs = Files::at(other).staged()?;
        let mut ours = self.files.staged()?;
        join(ours.root.as_mut(), theirs.root)?;
        join(ours.targets.as_mut(), theirs.targets)?;
        join(ours.snapshot.as_mut(), theirs.snapshot)?;
        join(ours.timestamp.as_mut(), theirs.timestamp)?;
        self.restage(&ours)?;
        self.progress()
    }

    /// What is prepared, and how far each role is.
    pub fn progress(&self) -> Result<Progress, PublishError> {
        let staged = self.files.staged()?;
        let roots = self.roots(&staged)?;
        let Some(root) = roots.last() else {
            return Ok(Vec::new());
        };
        let mut progress = Vec::new();
        count(staged.root.as_ref(), root, &mut progress);
        count(staged.targets.as_ref(), root, &mut progress);
        count(staged.snapshot.as_ref(), root, &mut progress);
        count(staged.timestamp.as_ref(), root, &mut progress);
        Ok(progress)
    }

    /// Prepares a timestamp with a new life, and a snapshot where its own ends within that.
    pub fn refresh(&self) -> Result<(), PublishError> {
        let published = self.files.published()?;
        let (Some(targets), Some(snapshot)) = (&published.targets, &published.snapshot) else {
            return Err(PublishError::Nothing);
        };
        let snapshot =
            if snapshot.signed.expires.as_second() < self.after(self.lives.timestamp).as_second() {
                let next = self.snapshot(&published, targets)?;
                self.files.stage(&next)?;
                next
            } else {
                snapshot.clone()
            };
        self.files.stage(&self.timestamp(&published, &snapshot)?)?;
        Ok(())
    }

    /// Publishes what is prepared, once each role is signed by enough.
    pub fn finish(&self) -> Result<Progress, PublishError> {
        self.prepare()?;
        let staged = self.files.staged()?;
        let roots = self.roots(&staged)?;
        let Some(newest) = roots.last() else {
            return Err(PublishError::Nothing);
        };
        if let Some(root) = &staged.root {
            for by in &roots {
                verified(by, root)?;
            }
        }
        for_each(staged.targets.as_ref(), |role| verified(newest, role))?;
        for_each(staged.snapshot.as_ref(), |role| verified(newest, role))?;
        for_each(staged.timestamp.as_ref(), |role| verified(newest, role))?;
        let progress = self.progress()?;
        if progress.is_empty() {
            return Err(PublishError::Nothing);
        }
        // In the order in which readers need them; the timestamp makes the others visible.
        for_each(staged.root.as_ref(), |role| self.publish(role))?;
        for_each(staged.targets.as_ref(), |role| self.publish(role))?;
        for_each(staged.snapshot.as_ref(), |role| self.publish(role))?;
        for_each(staged.timestamp.as_ref(), |role| self.publish(role))?;
        self.files.unstage::<Root>()?;
        self.files.unstage::<Targets>()?;
        self.files.unstage::<Snapshot>()?;
        self.files.unstage::<Timestamp>()?;
        Ok(progress)
    }

    /// What would be listed if everything prepared were published: releases and floors.
    pub fn preview(&self) -> Result<Preview, PublishError> {
        let (staged, published) = (self.files.staged()?, self.files.published()?);
        let Some(targets) = staged.targets.or(published.targets) else {
            return Ok(Preview::default());
        };
        let floors = entry::floors(&targets.signed);
        Ok(Preview {
            releases: entry::listed(&targets.signed),
            floors: floors.map_err(|_| PublishError::Write("the floors"))?,
        })
    }

    /// The counter that the next release of a product gets where it says none.
    pub fn next_counter(&self, product: &ReleaseName) -> Result<u64, PublishError> {
        let (staged, published) = (self.files.staged()?, self.files.published()?);
        let Some(targets) = staged.targets.or(published.targets) else {
            return Ok(1);
        };
        let highest = entry::highest(&targets.signed, product);
        let highest = highest.map_err(|_| PublishError::Write("the counters"))?;
        Ok(highest.unwrap_or(0).saturating_add(1))
    }

    /// Which keys may sign which role, and how many must, by the newest root, prepared or published.
    pub fn roles(&self) -> Result<Vec<RoleKeysView>, PublishError> {
        let roots = self.roots(&self.files.staged()?)?;
        let Some(root) = roots.last() else {
            return Ok(Vec::new());
        };
        let view = |role: RoleType| {
            let keys = root.roles.get(&role)?;
            Some(RoleKeysView {
                role,
                threshold: keys.threshold.get(),
                keys: keys.keyids.iter().map(|id| hex(id)).collect(),
            })
        };
        Ok(ROLES.into_iter().filter_map(view).collect())
    }

    /// The file of a listed bundle, decoded.
    pub fn bundle(&self, entry: &Entry) -> PathBuf {
        self.place(entry)
    }

    /// Makes a directory of the publisher's own beside the published files.
    pub(crate) fn make_dir(&self, name: &str) -> Result<(), PublishError> {
        let made = fsx::create_dir_durable(&self.files.dir().join(name), 0o700);
        Ok(made.map_err(FilesError::from)?)
    }

    /// The directory of the published metadata.
    pub fn metadata(&self) -> PathBuf {
        self.files.metadata()
    }

    /// Copies what is published to a directory, bundles included; returns the bytes.
    pub fn export(&self, to: &Path) -> Result<u64, PublishError> {
        self.files.export(to).map_err(io_at(to))
    }

    fn publish<T: Role>(&self, role: &SignedRole<T>) -> Result<(), PublishError> {
        Ok(self.files.publish(role)?)
    }

    /// When something ends that begins now, in whole seconds.
    fn after(&self, life: SignedDuration) -> Instant {
        let end = self.now.saturating_add(life).unwrap_or(Instant::MAX);
        Instant::from_second(end.as_second()).unwrap_or(end)
    }

    /// The roots that a prepared root must satisfy, and whose last one is in force for all else.
    fn roots(&self, staged: &Staged) -> Result<Vec<Root>, PublishError> {
        let published = self.files.published()?.root.map(|root| root.signed);
        let next = staged.root.as_ref().map(|root| root.signed.clone());
        Ok(published.into_iter().chain(next).collect())
    }

    fn stage_root(
        &self,
        changed: RoleType,
        change: impl FnOnce(&mut Root),
    ) -> Result<(), PublishError> {
        let published = self.files.published()?;
        let staged = self.files.staged()?.root.map(|root| root.signed);
        let mut root = match (staged, published.root) {
            (Some(staged), _) => staged,
            (None, Some(published)) => {
                let mut next = published.signed;
                next.version = next.version.saturating_add(1);
                next
            }
            (None, None) => return Err(PublishError::Nothing),
        };
        root.expires = written(self.after(self.lives.root))?;
        change(&mut root);
        enough(&root)?;
        self.files.stage(&unsigned(root))?;
        // What the keys of this role signed before may be worth nothing under the new root, so it is made anew.
        if changed == RoleType::Targets {
            self.stage_targets(published.targets.as_ref(), |_| Ok(()))?;
        }
        Ok(())
    }

    fn stage_targets(
        &self,
        base: Option<&SignedRole<Targets>>,
        change: impl FnOnce(&mut Targets) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        let published = self.files.published()?.targets;
        let mut targets = match (self.files.staged()?.targets, base.cloned().or(published)) {
            (Some(staged), _) => staged.signed,
            (None, Some(published)) => {
                let mut next = published.signed;
                next.version = next.version.saturating_add(1);
                next
            }
            (None, None) => Targets {
                spec_version: SPEC.to_owned(),
                version: NonZeroU64::MIN,
                expires: written(self.now)?,
                targets: HashMap::new(),
                delegations: None,
                _extra: HashMap::new(),
            },
        };
        targets.expires = written(self.after(self.lives.targets))?;
        change(&mut targets)?;
        Ok(self.files.stage(&unsigned(targets))?)
    }

    /// Where the list or the root changes, snapshot and timestamp do too: they are made when they are first signed.
    fn prepare(&self) -> Result<(), PublishError> {
        let (staged, published) = (self.files.staged()?, self.files.published()?);
        let targets = staged.targets.as_ref().or(published.targets.as_ref());
        let Some(targets) = targets else {
            return Ok(());
        };
        if staged.targets.is_none() && staged.root.is_none() {
            return Ok(());
        }
        let named = |snapshot: &SignedRole<Snapshot>| {
            let named = snapshot.signed.meta.get("targets.json");
            named.is_some_and(|named| named.version == targets.signed.version)
        };
        let snapshot = match staged.snapshot {
            Some(snapshot) if named(&snapshot) => snapshot,
            Some(_) | None => {
                let next = self.snapshot(&published, targets)?;
                self.files.stage(&next)?;
                next
            }
        };
        let points = |timestamp: &SignedRole<Timestamp>| {
            let meta = timestamp.signed.meta.get("snapshot.json");
            meta.is_some_and(|meta| meta.version == snapshot.signed.version)
        };
        if !staged.timestamp.as_ref().is_some_and(points) {
            self.files.stage(&self.timestamp(&published, &snapshot)?)?;
        }
        Ok(())
    }

    fn snapshot(
        &self,
        published: &Published,
        targets: &SignedRole<Targets>,
    ) -> Result<SignedRole<Snapshot>, PublishError> {
        let version = next(published.snapshot.as_ref());
        let expires = written(self.after(self.lives.snapshot))?;
        let mut snapshot = Snapshot::new(SPEC.to_owned(), version, expires);
        let meta = metafile(targets.signed.version);
        snapshot.meta.insert("targets.json".to_owned(), meta);
        Ok(unsigned(snapshot))
    }

    fn timestamp(
        &self,
        published: &Published,
        snapshot: &SignedRole<Snapshot>,
    ) -> Result<SignedRole<Timestamp>, PublishError> {
        let version = next(published.timestamp.as_ref());
        let expires = written(self.after(self.lives.timestamp))?;
        let mut timestamp = Timestamp::new(SPEC.to_owned(), version, expires);
        let meta = metafile(snapshot.signed.version);
        timestamp.meta.insert("snapshot.json".to_owned(), meta);
        Ok(unsigned(timestamp))
    }

    fn restage(&self, staged: &Staged) -> Result<(), PublishError> {
        for_each(staged.root.as_ref(), |role| Ok(self.files.stage(role)?))?;
        for_each(staged.targets.as_ref(), |role| {
            Ok(self.files.stage(role)?)
        })?;
        for_each(staged.snapshot.as_ref(), |role| {
            Ok(self.files.stage(role)?)
        })?;
        for_each(staged.timestamp.as_ref(), |role| {
            Ok(self.files.stage(role)?)
        })
    }

    /// Hashes and copies in one pass, so that what is signed is what was read.
    fn copy(&self, bundle: &Path) -> Result<([u8; 32], u64, PathBuf), PublishError> {
        let copy = self.files.targets().join(".adding");
        let mut from = File::open(bundle).map_err(io_at(bundle))?;
        let mut to = File::create(&copy).map_err(io_at(&copy))?;
        let (mut digest, mut length) = (Context::new(&SHA256), 0);
        let mut buffer = vec![0; 128 << 10];
        loop {
            let read = from.read(&mut buffer).map_err(io_at(bundle))?;
            if read == 0 {
                break;
            }
            digest.update(&buffer[..read]);
            to.write_all(&buffer[..read]).map_err(io_at(&copy))?;
            length += read as u64;
        }
        to.sync_all().map_err(io_at(&copy))?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest.finish().as_ref());
        Ok((sha256, length, copy))
    }

    fn place(&self, entry: &Entry) -> PathBuf {
        let name = format!("{}.{}", hex(&entry.sha256), entry.signed.target());
        self.files.targets().join(name)
    }
}

fn next<T: Role>(published: Option<&SignedRole<T>>) -> NonZeroU64 {
    published.map_or(NonZeroU64::MIN, |role| {
        role.signed.version().saturating_add(1)
    })
}

/// The library has another version of the time type; the text is the same.
fn written<T: serde::de::DeserializeOwned>(at: Instant) -> Result<T, PublishError> {
    serde_json::from_value(serde_json::Value::String(at.to_string()))
        .map_err(|_| PublishError::Write("a time"))
}

fn metafile(version: NonZeroU64) -> Metafile {
    Metafile {
        length: None,
        hashes: None,
        version,
        _extra: HashMap::new(),
    }
}

fn unsigned<T>(signed: T) -> SignedRole<T> {
    SignedRole {
        signed,
        signatures: Vec::new(),
    }
}

/// Every role must be able to reach its threshold, or the repository could never be changed again.
fn enough(root: &Root) -> Result<(), PublishError> {
    for role in ROLES {
        let (keys, threshold) = root
            .roles
            .get(&role)
            .map_or((0, 1), |keys| (keys.keyids.len(), keys.threshold.get()));
        if (keys as u64) < threshold {
            return Err(PublishError::Threshold {
                role,
                keys,
                threshold,
            });
        }
    }
    Ok(())
}

fn must_rise(targets: &Targets, entry: &Entry) -> Result<(), PublishError> {
    let highest = entry::highest(targets, &entry.signed.product);
    match highest.map_err(|_| PublishError::Write("the counters"))? {
        Some(highest) if entry.signed.counter <= highest => Err(PublishError::Counter {
            release: entry.signed.id(),
            counter: entry.signed.counter,
            highest,
        }),
        Some(_) | None => Ok(()),
    }
}

fn target_name(signed: &Signed) -> Result<TargetName, PublishError> {
    TargetName::new(signed.target()).map_err(|_| PublishError::Write("the target's name"))
}

/// Adds the key's signature where one of the roots lets it sign the role; replaces an older one of the same key.
fn sign<T: Role>(
    role: Option<&mut SignedRole<T>>,
    roots: &[Root],
    key: &dyn Signer,
) -> Result<bool, PublishError> {
    let Some(role) = role else {
        return Ok(false);
    };
    let id = key_id(&key.public())?;
    let may = roots.iter().any(|root| {
        let keys = root.roles.get(&T::TYPE);
        keys.is_some_and(|keys| keys.keyids.contains(&id))
    });
    if !may {
        return Ok(false);
    }
    let message = role.signed.canonical_form();
    let message = message.map_err(|_| PublishError::Write("the role"))?;
    let signature = key.sign(&message)?;
    role.signatures.retain(|known| known.keyid != id);
    role.signatures.push(signature);
    Ok(true)
}

/// Takes over their signatures, where they signed what we have.
fn join<T: Role + PartialEq>(
    ours: Option<&mut SignedRole<T>>,
    theirs: Option<SignedRole<T>>,
) -> Result<(), PublishError> {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        return Ok(());
    };
    if ours.signed != theirs.signed {
        return Err(PublishError::Different { role: T::TYPE });
    }
    for signature in theirs.signatures {
        if !ours
            .signatures
            .iter()
            .any(|known| known.keyid == signature.keyid)
        {
            ours.signatures.push(signature);
        }
    }
    Ok(())
}

fn count<T: Role>(role: Option<&SignedRole<T>>, root: &Root, progress: &mut Progress) {
    if let Some(role) = role {
        let keys = root.roles.get(&T::TYPE);
        let needed = keys.map_or(1, |keys| keys.threshold.get());
        progress.push((
            T::TYPE,
            role.signed.version(),
            role.signatures.len(),
            needed,
        ));
    }
}

fn verified<T: Role>(by: &Root, role: &SignedRole<T>) -> Result<(), PublishError> {
    by.verify_role(role)
        .map_err(|error| PublishError::Unsigned {
            role: T::TYPE,
            version: role.signed.version(),
            problem: error.to_string(),
        })
}

fn for_each<T>(
    role: Option<&SignedRole<T>>,
    act: impl FnOnce(&SignedRole<T>) -> Result<(), PublishError>,
) -> Result<(), PublishError> {
    role.map_or(Ok(()), act)
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Io { path, source }
}
