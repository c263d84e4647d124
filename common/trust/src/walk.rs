//! One look at a repository, step by step as the specification's client workflow says (version 1.0, section 5).
//!
//! ```text
//!   root ─▶ N+1.root.json … ─▶ timestamp.json ─▶ V.snapshot.json ─▶ V.targets.json
//!   each one: within its bound, signed by the keys that the newest root names, as listed, never older, not over
//! ```
//!
//! Reads from the source and changes the record in memory; whoever called makes it durable. The library parses metadata and
//! verifies signatures; its own loader is not used, because it keeps files of its own that are neither atomic nor as they
//! were signed, reads the clock by itself, and fetches again what did not change. Invariant: the record only ever moves
//! forward, one verified role at a time, and also what is verified before an error stays: a new root counts at once.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp as Instant;
use serde::de::DeserializeOwned;
use tough::schema::{
    Metafile, Role, RoleType, Root, Signed as SignedRole, Snapshot, Targets, Timestamp,
};

use crate::record::Record;
use crate::verifier::{Broken, Source, VerifyError, limit_of};

/// Most roots followed in one look; the next look goes on from there.
const ROOTS_MAX: u32 = 256;
/// Most values in one file: a list of 10,000 releases has half of it. Parsed values take many times the space of their text.
const VALUES_MAX: usize = 400_000;
/// Names of the two roles by which the others are listed.
const SNAPSHOT: &str = "snapshot.json";
const TARGETS: &str = "targets.json";

/// What a look found, all of it in the record too.
pub(crate) struct Found {
    pub(crate) root: Root,
    pub(crate) timestamp: Timestamp,
    pub(crate) snapshot: Snapshot,
    pub(crate) targets: Targets,
}

/// Looks once; `by` is the time by which nothing may have ended.
pub(crate) async fn walk(
    record: &mut Record,
    source: &dyn Source,
    by: Instant,
) -> Result<Found, VerifyError> {
    let root = roots(record, source).await?;
    alive(&root, by)?;
    let timestamp = timestamp(record, source, &root, by).await?;
    let listed = entry(&timestamp.meta, "timestamp.json", SNAPSHOT)?;
    let snapshot = snapshot(record, source, (&root, listed), by).await?;
    let listed = entry(&snapshot.meta, SNAPSHOT, TARGETS)?;
    let targets = targets(record, source, (&root, listed), by).await?;
    Ok(Found {
        root,
        timestamp,
        snapshot,
        targets,
    })
}

/// What the record alone says, for a host that is offline: the same rules without a source, and without a look at the clock.
/// `None` where nothing but a root was ever trusted.
pub(crate) fn kept(record: &Record) -> Result<Option<Found>, VerifyError> {
    let root = pinned(record)?;
    let timestamp = held::<Timestamp>(record.timestamp.as_deref())?;
    let snapshot = held::<Snapshot>(record.snapshot.as_deref())?;
    let targets = held::<Targets>(record.targets.as_deref())?;
    let (Some(timestamp), Some(snapshot), Some(targets)) = (timestamp, snapshot, targets) else {
        return Ok(None);
    };
    let named = |meta: &std::collections::HashMap<String, Metafile>, name, version| {
        meta.get(name).is_some_and(|file| file.version == version)
    };
    let is_whole = root.verify_role(&timestamp).is_ok()
        && root.verify_role(&snapshot).is_ok()
        && root.verify_role(&targets).is_ok()
        && named(&timestamp.signed.meta, SNAPSHOT, snapshot.signed.version)
        && named(&snapshot.signed.meta, TARGETS, targets.signed.version);
    if !is_whole {
        return Err(VerifyError::Behind);
    }
    Ok(Some(Found {
        root,
        timestamp: timestamp.signed,
        snapshot: snapshot.signed,
        targets: targets.signed,
    }))
}

/// The root of the record, which must vouch for itself.
fn pinned(record: &Record) -> Result<Root, VerifyError> {
    let root: SignedRole<Root> =
        serde_json::from_str(&record.root).map_err(|_| VerifyError::Content("root"))?;
    let vouched = root.signed.verify_role(&root);
    vouched.map_err(|_| VerifyError::Root)?;
    Ok(root.signed)
}

/// Follows the roots, each signed by the one before and by itself, until there is no next one.
async fn roots(record: &mut Record, source: &dyn Source) -> Result<Root, VerifyError> {
    let mut root = pinned(record)?;
    for _ in 0..ROOTS_MAX {
        let expected = root.version.saturating_add(1);
        let name = format!("{expected}.root.json");
        let fetched = source.fetch(&name).await;
        let Some(bytes) = fetched.map_err(|_| VerifyError::Unwalked)? else {
            return Ok(root);
        };
        must_fit(&name, &bytes)?;
        let (text, next) = parse::<Root>(&name, bytes)?;
        signed(&name, &root, &next)?;
        signed(&name, &next.signed, &next)?;
        must_be(&name, expected.get(), next.signed.version.get())?;
        let next = next.signed;
        // A publisher whose online keys were stolen gives out new ones; versions that the thief inflated are then forgotten.
        let same = |role| root.keys(role).eq(next.keys(role));
        if !same(RoleType::Timestamp) || !same(RoleType::Snapshot) {
            (record.timestamp, record.snapshot) = (None, None);
        }
        record.root = text;
        root = next;
    }
    // There are more; the next look goes on from the newest of these.
    Err(VerifyError::Unwalked)
}

async fn timestamp(
    record: &mut Record,
    source: &dyn Source,
    root: &Root,
    by: Instant,
) -> Result<Timestamp, VerifyError> {
    let name = "timestamp.json";
    let known = held::<Timestamp>(record.timestamp.as_deref())?;
    let (text, found) = parse::<Timestamp>(name, fetch(source, name).await?)?;
    signed(name, root, &found)?;
    let listed = entry(&found.signed.meta, name, SNAPSHOT)?;
    if let Some(known) = known {
        let (before, now) = (known.signed.version.get(), found.signed.version.get());
        older(RoleType::Timestamp, before, now)?;
        // The same version is the same file; whatever else it says now is not believed.
        if before == now && root.verify_role(&known).is_ok() {
            alive(&known.signed, by)?;
            return Ok(known.signed);
        }
        let before = entry(&known.signed.meta, name, SNAPSHOT)?.version.get();
        older(RoleType::Snapshot, before, listed.version.get())?;
    }
    alive(&found.signed, by)?;
    record.timestamp = Some(text);
    Ok(found.signed)
}

async fn snapshot(
    record: &mut Record,
    source: &dyn Source,
    (root, listed): (&Root, &Metafile),
    by: Instant,
) -> Result<Snapshot, VerifyError> {
    let known = held::<Snapshot>(record.snapshot.as_deref())?;
    if let (Some(known), Some(text)) = (&known, &record.snapshot)
        && is_current(root, (known, text), listed, by)
    {
        return Ok(known.signed.clone());
    }
    let name = file_name(root, listed, SNAPSHOT);
    let (text, found) = fetch_listed::<Snapshot>(source, &name, root, listed).await?;
    entry(&found.signed.meta, &name, TARGETS)?;
    for (role, before) in known.iter().flat_map(|known| &known.signed.meta) {
        let now = entry(&found.signed.meta, &name, role)?;
        older(RoleType::Targets, before.version.get(), now.version.get())?;
    }
    alive(&found.signed, by)?;
    record.snapshot = Some(text);
    Ok(found.signed)
}

async fn targets(
    record: &mut Record,
    source: &dyn Source,
    (root, listed): (&Root, &Metafile),
    by: Instant,
) -> Result<Targets, VerifyError> {
    let known = held::<Targets>(record.targets.as_deref())?;
    if let (Some(known), Some(text)) = (known, &record.targets)
        && is_current(root, (&known, text), listed, by)
    {
        return Ok(known.signed);
    }
    let name = file_name(root, listed, TARGETS);
    let (text, found) = fetch_listed::<Targets>(source, &name, root, listed).await?;
    alive(&found.signed, by)?;
    record.targets = Some(text);
    Ok(found.signed)
}

/// A file that another role lists: it must be that one to the byte, where the bytes are listed, and of that version.
async fn fetch_listed<T: Role + DeserializeOwned>(
    source: &dyn Source,
    name: &str,
    root: &Root,
    listed: &Metafile,
) -> Result<(String, SignedRole<T>), VerifyError> {
    let bytes = fetch(source, name).await?;
    if !is_listed(&bytes, listed) {
        return Err(Broken::Other(name.to_owned()).into());
    }
    let (text, role) = parse::<T>(name, bytes)?;
    signed(name, root, &role)?;
    must_be(name, listed.version.get(), role.signed.version().get())?;
    Ok((text, role))
}

/// True where what is held needs no fetching: it is what is listed, and still counts.
fn is_current<T: Role>(
    root: &Root,
    (held, text): (&SignedRole<T>, &str),
    listed: &Metafile,
    by: Instant,
) -> bool {
    held.signed.version() == listed.version
        && is_listed(text.as_bytes(), listed)
        && root.verify_role(held).is_ok()
        && alive(&held.signed, by).is_ok()
}

fn is_listed(bytes: &[u8], listed: &Metafile) -> bool {
    let length = bytes.len() as u64;
    let hashes = listed.hashes.as_ref();
    listed.length.is_none_or(|listed| listed == length)
        && hashes.is_none_or(|hashes| *hashes.sha256 == *digest(&SHA256, bytes).as_ref())
}

fn file_name(root: &Root, listed: &Metafile, name: &str) -> String {
    if root.consistent_snapshot {
        format!("{}.{name}", listed.version)
    } else {
        name.to_owned()
    }
}

async fn fetch(source: &dyn Source, name: &str) -> Result<Vec<u8>, VerifyError> {
    let fetched = source.fetch(name).await.map_err(VerifyError::Away)?;
    let bytes = fetched.ok_or_else(|| Broken::Missing(name.to_owned()))?;
    must_fit(name, &bytes)?;
    Ok(bytes)
}

fn must_fit(name: &str, bytes: &[u8]) -> Result<(), VerifyError> {
    if bytes.len() as u64 > limit_of(name) {
        let name = name.to_owned();
        return Err(VerifyError::TooLong { name });
    }
    Ok(())
}

/// Reads a file that nobody vouched for yet, so within bounds.
fn parse<T: Role + DeserializeOwned>(
    name: &str,
    bytes: Vec<u8>,
) -> Result<(String, SignedRole<T>), Broken> {
    let owned = || name.to_owned();
    let text = String::from_utf8(bytes).map_err(|_| Broken::NoText(owned()))?;
    if values(&text) > VALUES_MAX {
        return Err(Broken::Values {
            name: owned(),
            limit: VALUES_MAX,
        });
    }
    let syntax = |source| Broken::Syntax {
        name: owned(),
        source,
    };
    let spec: Spec = serde_json::from_str(&text).map_err(syntax)?;
    let spec = spec.signed.spec_version;
    if !spec.starts_with("1.") {
        let found = spec.chars().take(20).collect();
        return Err(Broken::Spec {
            name: owned(),
            found,
        });
    }
    let role = serde_json::from_str(&text).map_err(syntax)?;
    Ok((text, role))
}

/// Only the version of the specification: the rest means something else in another one.
#[derive(serde::Deserialize)]
struct Spec {
    signed: SpecVersion,
}

#[derive(serde::Deserialize)]
struct SpecVersion {
    spec_version: String,
}

/// At least as many as there are values, counted without parsing: what separates and opens them, outside of strings.
fn values(text: &str) -> usize {
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

fn signed<T: Role>(name: &str, by: &Root, role: &SignedRole<T>) -> Result<(), Broken> {
    by.verify_role(role).map_err(|source| Broken::Signatures {
        name: name.to_owned(),
        source: Box::new(source),
    })
}

fn must_be(name: &str, expected: u64, found: u64) -> Result<(), Broken> {
    if found == expected {
        return Ok(());
    }
    Err(Broken::Version {
        name: name.to_owned(),
        expected,
        found,
    })
}

fn entry<'m>(
    meta: &'m std::collections::HashMap<String, Metafile>,
    name: &str,
    role: &str,
) -> Result<&'m Metafile, Broken> {
    meta.get(role).ok_or_else(|| Broken::Unlisted {
        name: name.to_owned(),
        role: role.chars().take(100).collect(),
    })
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

fn alive<T: Role>(role: &T, by: Instant) -> Result<(), VerifyError> {
    if role.expires().as_second() <= by.as_second() {
        return Err(VerifyError::Expired { role: T::TYPE });
    }
    Ok(())
}

/// What the record holds of a role. Its digest was checked, so what cannot be read there was never written by this code.
fn held<T: DeserializeOwned>(text: Option<&str>) -> Result<Option<SignedRole<T>>, VerifyError> {
    let parsed = text.map(serde_json::from_str::<SignedRole<T>>).transpose();
    parsed.map_err(|_| VerifyError::Content("record"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_of_strings() {
        for (text, count) in [
            ("", 0),
            ("[1,2]", 2),
            (r#"{"a,[{":[1,2,{}]}"#, 5),
            (r#""\",\\",1,2"#, 2),
            (r#"{"a":"\\"},1"#, 2),
        ] {
            assert_eq!(values(text), count, "{text}");
        }
    }

    #[test]
    fn a_small_file_of_many_values_is_refused_before_it_is_parsed() {
        let text = format!("[{}0]", "0,".repeat(VALUES_MAX));
        let refused = parse::<Targets>("1.targets.json", text.into_bytes());
        assert!(matches!(refused, Err(Broken::Values { .. })));
    }
}
