//! Reads the whole state from the store when the controller starts.
//!
//! A crash can leave the members of a rollout whose record was not written yet: they are dropped, since the plan that
//! follows selects its hosts anew. Every host counts as down and as changed, and the life of every permit that may still
//! be in use is counted from now: the wall clock may have stepped while nobody watched.

use std::collections::BTreeMap;
use std::sync::Arc;

use comber_model::assignment::Desired;
use comber_model::release::Release;
use comber_model::rollout::{Member, Rollout};
use comber_model::{Host, HostId, HostStatus, Link, RolloutId};
use comber_planner::{HostView, RolloutView};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::meta::Meta;
use super::tokens::Token;
use super::{LoadError, World, records};
use crate::store::Store;

/// Records read at once.
const PAGE: usize = 5000;

/// The world as the store has it.
pub(crate) fn load(store: &Store, now: Timestamp) -> Result<World, LoadError> {
    let mut world = World::default();
    if let Some(meta) = store.get(records::META.as_bytes())? {
        world.meta = records::decode::<Meta>(records::META.as_bytes(), &meta.value)?;
    }
    world.input.generation = world.meta.generation;
    for host in all::<Host>(store, records::HOSTS)? {
        world.input.changed.insert(host.id.clone());
        let view = HostView::new(host.clone(), Link::Down { since: now });
        world.input.hosts.insert(host.id, view);
    }
    for (id, status) in by_host::<HostStatus>(store, records::STATUS)? {
        if let Some(view) = world.input.hosts.get_mut(&id) {
            view.status = Some(status);
        }
    }
    for (id, desired) in by_host::<Desired>(store, records::DESIRED)? {
        if let Some(view) = world.input.hosts.get_mut(&id) {
            view.desired = desired;
        }
    }
    for release in all::<Release>(store, records::RELEASES)? {
        world.input.releases.insert(release.id(), Arc::new(release));
    }
    for token in all::<Token>(store, records::TOKENS)? {
        world.tokens.insert(token.id(), token);
    }
    for rollout in all::<Rollout>(store, records::ROLLOUTS)? {
        let members = members(store, &rollout, now)?;
        world
            .input
            .rollouts
            .insert(rollout.id, RolloutView::new(rollout, members));
    }
    Ok(world)
}

fn members(
    store: &Store,
    rollout: &Rollout,
    now: Timestamp,
) -> Result<BTreeMap<HostId, Member>, LoadError> {
    if rollout.waves.is_empty() {
        return Ok(BTreeMap::new());
    }
    let RolloutId(number) = rollout.id;
    let prefix = format!("{}{number:08x}/", records::MEMBERS);
    let members = all::<Member>(store, &prefix)?
        .into_iter()
        .map(|mut member| {
            if let Some(grant) = &mut member.grant {
                grant.granted_at = grant.granted_at.max(now);
            }
            (member.host.clone(), member)
        });
    Ok(members.collect())
}

fn all<T: DeserializeOwned>(store: &Store, prefix: &str) -> Result<Vec<T>, LoadError> {
    Ok(pairs(store, prefix)?
        .into_iter()
        .map(|(_, record)| record)
        .collect())
}

/// Records whose key ends with the host's name.
fn by_host<T: DeserializeOwned>(
    store: &Store,
    prefix: &str,
) -> Result<Vec<(HostId, T)>, LoadError> {
    let mut named = Vec::new();
    for (key, record) in pairs::<T>(store, prefix)? {
        let name = key.rsplit('/').next().unwrap_or_default();
        let host = name
            .parse()
            .map_err(|error: comber_model::Invalid| LoadError::Record {
                key: key.clone(),
                problem: error.to_string(),
            })?;
        named.push((host, record));
    }
    Ok(named)
}

fn pairs<T: DeserializeOwned>(store: &Store, prefix: &str) -> Result<Vec<(String, T)>, LoadError> {
    let mut records = Vec::new();
    let mut after: Option<bytes::Bytes> = None;
    loop {
        let page = store.range(prefix.as_bytes(), after.as_deref(), PAGE)?;
        for item in &page.items {
            let key = String::from_utf8_lossy(&item.key).into_owned();
            records.push((key, records::decode(&item.key, &item.record.value)?));
        }
        match page.items.last() {
            Some(last) if page.more => after = Some(last.key.clone()),
            Some(_) | None => return Ok(records),
        }
    }
}
