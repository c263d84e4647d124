//! Reads the whole state from the store when the controller starts.
//!
//! A crash can leave members of a rollout whose hosts were being selected: their records are removed, since the plan
//! that follows selects anew. What a restart means for the rest is the planner's to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use comber_model::assignment::Desired;
use comber_model::calendar::Freeze;
use comber_model::disruption::{DisruptionBudget, Lock};
use comber_model::release::Release;
use comber_model::rollout::{Member, Rollout};
use comber_model::{Host, HostId, HostStatus, Link, RolloutId};
use comber_planner::{HostView, RolloutView};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::meta::Meta;
use super::revocations::Revocation;
use super::tokens::Token;
use super::{LoadError, World, records};
use crate::store::Store;

/// Records read at once.
const PAGE: usize = 5000;

/// The world as the store has it, and keys of records that are to be removed.
pub(crate) fn load(store: &Store, now: Timestamp) -> Result<(World, Vec<String>), LoadError> {
    let mut world = World::default();
    if let Some(meta) = store.get(records::META.as_bytes())? {
        world.meta = records::decode::<Meta>(records::META.as_bytes(), &meta.value)?;
    }
    world.input.generation = world.meta.generation;
    for host in all::<Host>(store, records::HOSTS)? {
        let view = HostView::new(host.clone(), Link::Down { since: now });
        world.input.hosts.insert(host.id, view);
    }
    for (id, status) in by_host::<HostStatus>(store, records::STATUS)? {
        if let Some(mut view) = world.input.hosts.get_mut(&id) {
            view.status = Some(status);
        }
    }
    for (id, desired) in by_host::<Desired>(store, records::DESIRED)? {
        if let Some(mut view) = world.input.hosts.get_mut(&id) {
            view.desired = desired;
        }
    }
    for release in all::<Release>(store, records::RELEASES)? {
        world.input.releases.insert(release.id(), Arc::new(release));
    }
    for freeze in all::<Freeze>(store, records::FREEZES)? {
        world.input.freezes.insert(freeze.name.clone(), freeze);
    }
    for budget in all::<DisruptionBudget>(store, records::BUDGETS)? {
        world.input.hosts.put_budget(budget);
    }
    for lock in all::<Lock>(store, records::LOCKS)? {
        world.input.hosts.put_lock(lock);
    }
    for token in all::<Token>(store, records::TOKENS)? {
        world.tokens.insert(token.id(), token);
    }
    for revocation in all::<Revocation>(store, records::REVOKED)? {
        let serial = revocation.serial.clone();
        world.revoked.insert(serial, revocation);
    }
    let mut strays = Vec::new();
    for rollout in all::<Rollout>(store, records::ROLLOUTS)? {
        let members = members(store, rollout.id)?;
        if rollout.waves.is_empty() {
            strays.extend(
                members
                    .keys()
                    .map(|host| records::member_key(rollout.id, host)),
            );
        }
        let view = RolloutView::new(rollout, members);
        world.input.rollouts.insert(view.rollout.id, view);
    }
    let (trust, old_pieces) = super::trust::load(store)?;
    world.trust = trust;
    strays.extend(old_pieces);
    super::packages::load(store, &mut world)?;
    world.input.restart(now);
    Ok((world, strays))
}

fn members(store: &Store, id: RolloutId) -> Result<BTreeMap<HostId, Member>, LoadError> {
    let members = all::<Member>(store, &records::members_prefix(id))?.into_iter();
    Ok(members
        .map(|member| (member.host.clone(), member))
        .collect())
}

pub(super) fn all<T: DeserializeOwned>(store: &Store, prefix: &str) -> Result<Vec<T>, LoadError> {
    Ok(pairs(store, prefix)?
        .into_iter()
        .map(|(_, record)| record)
        .collect())
}

/// Records whose key ends with the host's name.
pub(super) fn by_host<T: DeserializeOwned>(
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

pub(super) fn pairs<T: DeserializeOwned>(
    store: &Store,
    prefix: &str,
) -> Result<Vec<(String, T)>, LoadError> {
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
