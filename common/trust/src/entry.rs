//! What the signed metadata says of one release.
//!
//! Values and their names on disk; no I/O. Invariant: an entry read from metadata names its product, version and counter, and
//! its name is the one those give.

use std::collections::{BTreeMap, HashMap};

use comber_model::{ReleaseId, ReleaseName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tough::TargetName;
use tough::schema::{Hashes, Target, Targets};

/// The member of a target's `custom` that is ours.
const CUSTOM: &str = "release";
/// The member of the targets role that holds the lowest counters.
const FLOORS: &str = "x-floors";
/// The member that holds the highest counter ever listed: a release that replaces a withdrawn one must be above it, or the
/// hosts that run the withdrawn one would take it for older.
const HIGHEST: &str = "x-highest";

/// What a publisher signs of one release, beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The product.
    pub product: ReleaseName,
    /// Its version.
    pub version: comber_model::Version,
    /// Orders the releases of the product; a host never goes below what it runs, except back to a listed release that may
    /// be rolled back to.
    pub counter: u64,
    /// Selector over facts, as in the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platforms: Option<String>,
    /// Lowest version of the agent that can install it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_agent: Option<comber_model::Version>,
    /// Lowest counter that a host may come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_from: Option<u64>,
    /// Whether hosts may go back to it from a later one.
    #[serde(default)]
    pub rollback_ok: bool,
}

/// One listed release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Bytes of the bundle, decoded.
    pub length: u64,
    /// Their sha256.
    pub sha256: [u8; 32],
    /// What is signed of it.
    pub signed: Signed,
}

impl Signed {
    /// `name@version`.
    pub fn id(&self) -> ReleaseId {
        ReleaseId {
            name: self.product.clone(),
            version: self.version.clone(),
        }
    }

    /// The name of its target: flat, so that every client finds the same file.
    pub fn target(&self) -> String {
        format!("{}-{}.rel", self.product, self.version)
    }
}

/// The target that stands for an entry in the metadata.
pub(crate) fn to_target(entry: &Entry) -> Result<Target, serde_json::Error> {
    let custom = serde_json::to_value(&entry.signed)?;
    Ok(Target {
        length: entry.length,
        hashes: Hashes {
            sha256: entry.sha256.to_vec().into(),
            _extra: HashMap::new(),
        },
        custom: HashMap::from([(CUSTOM.to_owned(), custom)]),
        _extra: HashMap::new(),
    })
}

/// The listed releases. A target that is none of ours, or whose name is not the one that its content gives, is left out:
/// nobody can assign it.
pub(crate) fn listed(targets: &Targets) -> BTreeMap<ReleaseId, Entry> {
    let entries = targets
        .targets
        .iter()
        .filter_map(|(name, target)| entry(name, target));
    entries.map(|entry| (entry.signed.id(), entry)).collect()
}

fn entry(name: &TargetName, target: &Target) -> Option<Entry> {
    let signed: Signed = serde_json::from_value(target.custom.get(CUSTOM)?.clone()).ok()?;
    let sha256: &[u8] = &target.hashes.sha256;
    let entry = Entry {
        length: target.length,
        sha256: sha256.try_into().ok()?,
        signed,
    };
    (entry.signed.target() == name.raw()).then_some(entry)
}

/// Lowest counters by product.
pub(crate) fn floors(targets: &Targets) -> Result<BTreeMap<ReleaseName, u64>, serde_json::Error> {
    counters(targets, FLOORS)
}

/// The highest counter that the product ever had, listed now or withdrawn.
pub(crate) fn highest(
    targets: &Targets,
    product: &ReleaseName,
) -> Result<Option<u64>, serde_json::Error> {
    let listed = listed(targets);
    let same = listed
        .values()
        .filter(|entry| entry.signed.product == *product);
    let now = same.map(|entry| entry.signed.counter).max();
    Ok(now.max(counters(targets, HIGHEST)?.get(product).copied()))
}

/// Remembers a counter for good.
pub(crate) fn remember(targets: &mut Targets, signed: &Signed) -> Result<(), serde_json::Error> {
    let mut highest = counters(targets, HIGHEST)?;
    let known = highest.entry(signed.product.clone()).or_default();
    *known = signed.counter.max(*known);
    set_counters(targets, HIGHEST, &highest)
}

fn counters(
    targets: &Targets,
    member: &str,
) -> Result<BTreeMap<ReleaseName, u64>, serde_json::Error> {
    match targets._extra.get(member) {
        None => Ok(BTreeMap::new()),
        Some(value) => serde_json::from_value(value.clone()),
    }
}

pub(crate) fn set_floors(
    targets: &mut Targets,
    floors: &BTreeMap<ReleaseName, u64>,
) -> Result<(), serde_json::Error> {
    set_counters(targets, FLOORS, floors)
}

fn set_counters(
    targets: &mut Targets,
    member: &str,
    counters: &BTreeMap<ReleaseName, u64>,
) -> Result<(), serde_json::Error> {
    let value: Value = serde_json::to_value(counters)?;
    targets._extra.insert(member.to_owned(), value);
    Ok(())
}
