//! The publisher's metadata as the controller keeps it: verified before it comes here, replaced all at once.
//!
//! Stored in pieces, since a list of many releases is larger than one value may be; the head that says which pieces count
//! is written after them, so a crash leaves the set before or the set after. Invariant: what is here verified from the
//! pinned root on, and a release is brought to hosts only while it is listed here with its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use comber_model::event::EventKind;
use comber_model::rollout::RolloutState;
use comber_model::{Artifact, Digest, ReleaseId, RolloutId};
use comber_planner::Command;
use comber_trust::{Entry, Listing, Record};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::changes::{delete, put};
use super::edit::Edit;
use super::{Core, CoreError, LoadError, World, load, records};
use crate::store::Store;

/// Bytes of text in one piece. JSON in JSON can be twice as long, and a value has at most 64 KiB.
const PIECE: usize = 24_000;

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// sha256 of the root that was pinned.
    pub pinned: Digest,
    /// Every root from the pinned one on, by version: hosts that slept walk along them.
    pub roots: BTreeMap<u64, String>,
    /// As the publisher wrote it; absent before the first import. So are the next two.
    pub timestamp: Option<String>,
    /// The snapshot.
    pub snapshot: Option<String>,
    /// The list of releases.
    pub targets: Option<String>,
    /// The latest time at which metadata was verified.
    pub trusted_at: Option<Timestamp>,
    /// Every release that was ever listed, with its counter: tells a withdrawn one from one that never was.
    pub once: BTreeMap<ReleaseId, u64>,
    /// When it was imported, or the root pinned.
    pub imported_at: Timestamp,
    /// By whom.
    pub imported_by: String,
}

/// Which pieces count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Of the import.
    pub(crate) number: u64,
    /// How many.
    pub(crate) pieces: usize,
}

/// What is kept, with what it lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// As it is stored.
    pub kept: Kept,
    /// What it lists; absent before the first import.
    pub listing: Option<Listing>,
    head: Head,
}

/// Whether the publisher lists a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// With these bytes.
    Yes,
    /// With these bytes, and below its product's floor.
    BelowFloor,
    /// Not any more.
    Withdrawn,
    /// Never, or with other bytes.
    No,
}

impl Kept {
    /// Nothing but a root that somebody pinned.
    pub fn pinned(pinned: Digest, root: (u64, String), at: Timestamp, by: &str) -> Self {
        Self {
            pinned,
            roots: BTreeMap::from([root]),
            timestamp: None,
            snapshot: None,
            targets: None,
            trusted_at: None,
            once: BTreeMap::new(),
            imported_at: at,
            imported_by: by.to_owned(),
        }
    }

    /// What the verifier begins with.
    pub fn record(&self) -> Record {
        Record {
            root: self.newest_root().unwrap_or_default().to_owned(),
            timestamp: self.timestamp.clone(),
            snapshot: self.snapshot.clone(),
            targets: self.targets.clone(),
            trusted_at: self.trusted_at,
        }
    }

    /// The newest root.
    pub fn newest_root(&self) -> Option<&str> {
        self.roots.values().next_back().map(String::as_str)
    }
}

impl Trusted {
    /// A metadata file by its name, as hosts ask for it.
    pub fn file(&self, name: &str) -> Option<&str> {
        if name == "timestamp.json" {
            return self.kept.timestamp.as_deref();
        }
        let (number, role) = name.split_once('.')?;
        // One spelling for each file.
        let version: u64 = number
            .parse()
            .ok()
            .filter(|n: &u64| n.to_string() == number)?;
        let [_, _, snapshot, targets] = self.listing.as_ref().map_or([0; 4], |l| l.versions);
        match role {
            "root.json" => self.kept.roots.get(&version).map(String::as_str),
            "snapshot.json" if version == snapshot => self.kept.snapshot.as_deref(),
            "targets.json" if version == targets => self.kept.targets.as_deref(),
            _ => None,
        }
    }

    /// Whether a release is listed with these bytes.
    pub fn listed(&self, id: &ReleaseId, artifact: &Artifact) -> Listed {
        let entry = self.entry(id);
        let same =
            |entry: &&Entry| entry.sha256 == artifact.digest.0 && entry.length == artifact.length;
        match entry.filter(same) {
            Some(entry) if entry.signed.counter < self.floor(id) => Listed::BelowFloor,
            Some(_) => Listed::Yes,
            None if entry.is_none() && self.kept.once.contains_key(id) => Listed::Withdrawn,
            None => Listed::No,
        }
    }

    /// The counter that the release has or had; 0 where it was never listed.
    pub fn counter(&self, id: &ReleaseId) -> u64 {
        let entry = self.entry(id).map(|entry| entry.signed.counter);
        entry
            .or_else(|| self.kept.once.get(id).copied())
            .unwrap_or(0)
    }

    /// The floor of the release's product; 0 where there is none.
    pub fn floor(&self, id: &ReleaseId) -> u64 {
        let listing = self.listing.as_ref();
        let floor = listing.and_then(|listing| listing.floors.get(&id.name));
        floor.copied().unwrap_or(0)
    }

    fn entry(&self, id: &ReleaseId) -> Option<&Entry> {
        self.listing.as_ref()?.releases.get(id)
    }
}

impl World {
    /// Refuses a release that the publisher does not list with these bytes, or lets no host install.
    pub(crate) fn must_list(&self, id: &ReleaseId, artifact: &Artifact) -> Result<(), CoreError> {
        let refused = |why: String| Err(CoreError::Refused(why));
        let Some(trust) = &self.trust else {
            return refused(format!(
                "{id} is not listed: no publisher's root is pinned here; pin it with: comber repo import --pin"
            ));
        };
        match trust.listed(id, artifact) {
            Listed::Yes => Ok(()),
            Listed::BelowFloor => refused(format!(
                "{id} is below the publisher's floor: its counter is {} and the floor of {} is {}",
                trust.counter(id),
                id.name,
                trust.floor(id)
            )),
            Listed::Withdrawn => refused(format!(
                "{id} is not listed any more: the publisher withdrew it, and no host would install it"
            )),
            Listed::No => refused(format!(
                "{id} is not listed with these bytes in the publisher's metadata, and no host would install it; list it with: \
                 comber release publish"
            )),
        }
    }

    /// Refuses to bring a release to hosts that they would refuse.
    pub(crate) fn must_be_installable(
        &self,
        id: &ReleaseId,
        wall: Timestamp,
    ) -> Result<(), CoreError> {
        let release = self.input.releases.get(id);
        let release = release.ok_or_else(|| CoreError::missing("release", id))?;
        self.must_list(id, &release.artifact)?;
        let listing = self.trust.as_ref().and_then(|trust| trust.listing.as_ref());
        let holds = listing.map_or(Ok(()), |listing| listing.must_hold(wall));
        holds.map_err(|error| {
            CoreError::Refused(format!(
                "{error}; renew it with: comber repo refresh, then comber repo import"
            ))
        })
    }
}

impl Core {
    /// Keeps what was verified against `before`, in its place; refused where another import was quicker.
    pub async fn keep_trust(
        &self,
        before: Option<Arc<Trusted>>,
        kept: Kept,
    ) -> Result<Arc<Trusted>, CoreError> {
        let listing = comber_trust::kept(&kept.record())
            .map_err(|error| CoreError::Refused(error.to_string()))?;
        self.edit(move |edit| keep(edit, before.as_deref(), kept, listing))
            .await
    }
}

fn keep(
    edit: &mut Edit<'_>,
    before: Option<&Trusted>,
    mut kept: Kept,
    listing: Option<Listing>,
) -> Result<Arc<Trusted>, CoreError> {
    let present = edit.world.trust.as_deref();
    if present != before {
        return Err(CoreError::Refused(
            "another import was quicker; import again".to_owned(),
        ));
    }
    let old = present.map(|trusted| trusted.head);
    for (id, entry) in listing.iter().flat_map(|listing| &listing.releases) {
        kept.once.insert(id.clone(), entry.signed.counter);
    }
    let text = to_text(&kept);
    let pieces = pieces(&text);
    let head = Head {
        number: old.map_or(1, |old| old.number.saturating_add(1)),
        pieces: pieces.len(),
    };
    let told = format!(
        "{} was imported by {}",
        versions(listing.as_ref()),
        kept.imported_by
    );
    tracing::info!(actor = kept.imported_by, "{told}");
    let event = edit.event_by(EventKind::RepositoryImported, &kept.imported_by, told);
    let event = edit.event(&event);
    for (number, piece) in pieces.iter().enumerate() {
        let key = records::trust_key(head.number, number);
        edit.changes.group(vec![put(key, piece)]);
    }
    edit.changes
        .group(vec![put(records::TRUST.to_owned(), &head), event]);
    for piece in old.iter().flat_map(|old| 0..old.pieces) {
        let number = old.map_or(0, |old| old.number);
        edit.changes
            .group(vec![delete(records::trust_key(number, piece))]);
    }
    let trusted = Arc::new(Trusted {
        kept,
        listing,
        head,
    });
    edit.world.trust = Some(Arc::clone(&trusted));
    pause_unlisted(edit, &trusted);
    Ok(trusted)
}

/// Hosts would refuse the release one after the other and count as failed: the rollout waits for a person instead.
fn pause_unlisted(edit: &mut Edit<'_>, trusted: &Trusted) {
    let runs = |id: &RolloutId| {
        let view = edit.world.input.rollouts.get(id)?;
        let release = &view.rollout.spec.release;
        let artifact = edit.world.input.releases.get(release)?.artifact;
        let stops = view.rollout.state == RolloutState::Running
            && trusted.listed(release, &artifact) != Listed::Yes;
        stops.then_some(*id)
    };
    let all: Vec<RolloutId> = edit.world.input.rollouts.keys().copied().collect();
    let stopped: Vec<RolloutId> = all.iter().filter_map(runs).collect();
    for id in stopped {
        let by = &trusted.kept.imported_by;
        let paused = comber_planner::command(&edit.world.input, id, Command::Pause, by, edit.now);
        let Ok(effect) = paused else { continue };
        let events = effect.events.iter().map(|event| edit.event(event));
        let events = events.collect();
        tracing::warn!(rollout = %id, "paused: the publisher lists its release no more");
        edit.put_rollout(effect.rollout, events);
    }
}

fn versions(listing: Option<&Listing>) -> String {
    match listing {
        None => "the publisher's root".to_owned(),
        Some(listing) => {
            let [root, timestamp, snapshot, targets] = listing.versions;
            format!(
                "the publisher's metadata (root {root}, timestamp {timestamp}, snapshot {snapshot}, targets {targets})"
            )
        }
    }
}

pub(crate) fn to_text(kept: &Kept) -> String {
    String::from_utf8(records::encode(kept)).expect("JSON is UTF-8")
}

fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// What the store holds, and keys of pieces that a crash left of an import that never was, or of the one before.
pub(crate) fn load(store: &Store) -> Result<(Option<Arc<Trusted>>, Vec<String>), LoadError> {
    let head = store.get(records::TRUST.as_bytes())?;
    let head: Option<Head> = head
        .map(|head| records::decode(records::TRUST.as_bytes(), &head.value))
        .transpose()?;
    let stored = load::pairs::<String>(store, records::TRUST_PIECES)?;
    let prefix = head.map(|head| records::trust_prefix(head.number));
    let counts = |key: &str| {
        prefix
            .as_ref()
            .is_some_and(|prefix| key.starts_with(prefix))
    };
    let strays: Vec<String> = stored
        .iter()
        .filter(|(key, _)| !counts(key))
        .map(|(key, _)| key.clone())
        .collect();
    let Some(head) = head else {
        return Ok((None, strays));
    };
    let damaged = |problem: String| LoadError::Record {
        key: records::TRUST.to_owned(),
        problem,
    };
    let own: Vec<String> = stored
        .into_iter()
        .filter(|(key, _)| counts(key))
        .map(|(_, piece)| piece)
        .collect();
    if own.len() != head.pieces {
        return Err(damaged(format!(
            "{} of {} pieces are there",
            own.len(),
            head.pieces
        )));
    }
    let text = own.concat();
    let kept: Kept = records::decode(records::TRUST.as_bytes(), text.as_bytes())?;
    let listing = comber_trust::kept(&kept.record());
    let listing = listing.map_err(|error| damaged(error.to_string()))?;
    let trusted = Trusted {
        kept,
        listing,
        head,
    };
    Ok((Some(Arc::new(trusted)), strays))
}
