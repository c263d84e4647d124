//! A list in the store: 32 records per host, by a hash of the packages' names.
//!
//! Reads the store and makes operations; writes nothing itself. Invariant: an empty part has no record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comber_model::packages::{
    Difference, Package, PackageList, escaped_name, name_in, told_version,
};
use comber_model::{HostId, Invalid};
use serde::{Deserialize, Serialize};

use crate::core::changes::{delete, put};
use crate::core::{LoadError, load, records};
use crate::store::{MAX_VALUE_BYTES, Op, Store};

/// One part of a host's list. What the purls of one distribution have in common stands once.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackagePart {
    /// `name@version?arch=…` by `pkg:deb/debian/`.
    pub(crate) packages: BTreeMap<String, Vec<String>>,
}

impl PackagePart {
    fn purls(&self) -> impl Iterator<Item = String> {
        self.packages
            .iter()
            .flat_map(|(head, tails)| tails.iter().map(move |tail| format!("{head}{tail}")))
    }
}

/// A version of one asked package on one host.
pub(crate) struct Found {
    pub(crate) host: HostId,
    pub(crate) name: Arc<str>,
    pub(crate) version: String,
}

/// The whole list of a host; empty where there is none.
pub(super) fn read(store: &Store, host: &HostId) -> Result<PackageList, LoadError> {
    let mut packages: Vec<Package> = Vec::new();
    for part in 0..records::PACKAGE_PARTS {
        let key = records::packages_key(part, host);
        if let Some(record) = store.get(key.as_bytes())? {
            let part: PackagePart = records::decode(key.as_bytes(), &record.value)?;
            for purl in part.purls() {
                packages.push(purl.parse().map_err(|error| damaged(&key, &error))?);
            }
        }
    }
    PackageList::new(packages).map_err(|error| damaged(&records::packages_key(0, host), &error))
}

fn damaged(key: &str, error: &Invalid) -> LoadError {
    LoadError::Record {
        key: key.to_owned(),
        problem: error.to_string(),
    }
}

/// What all hosts have of some packages: reads only the parts that these fall in.
pub(super) fn scan(store: &Store, names: &BTreeSet<Arc<str>>) -> Result<Vec<Found>, LoadError> {
    let mut by_part: BTreeMap<u8, Vec<&Arc<str>>> = BTreeMap::new();
    for name in names {
        by_part
            .entry(records::package_part(name))
            .or_default()
            .push(name);
    }
    let mut found = Vec::new();
    for (part, names) in by_part {
        let prefix = records::packages_prefix(part);
        for (host, part) in load::by_host::<PackagePart>(store, &prefix)? {
            for name in &names {
                if let Some(version) = version_in(part.purls(), name) {
                    let (host, name) = (host.clone(), Arc::clone(name));
                    found.push(Found {
                        host,
                        name,
                        version,
                    });
                }
            }
        }
    }
    Ok(found)
}

/// The version of a package among purls, as selectors see it.
pub(super) fn version_in(
    purls: impl Iterator<Item = impl AsRef<str>>,
    name: &str,
) -> Option<String> {
    let spelled = escaped_name(name);
    let of_name = purls.filter(|purl| name_in(purl.as_ref()) == spelled);
    let parsed = of_name.filter_map(|purl| purl.as_ref().parse::<Package>().ok());
    let versions: Vec<String> = parsed.map(|package| package.version).collect();
    told_version(versions.iter().map(String::as_str))
}

/// What writes a list: all parts, or those that a difference touches.
pub(super) fn ops(
    host: &HostId,
    list: &PackageList,
    difference: Option<&Difference>,
) -> Result<Vec<Op>, Invalid> {
    let touched: BTreeSet<u8> = match difference {
        None => (0..records::PACKAGE_PARTS).collect(),
        Some(difference) => {
            let purls = difference.removed.iter().chain(&difference.added);
            purls.filter_map(|purl| part_of(purl)).collect()
        }
    };
    let mut parts: BTreeMap<u8, PackagePart> = BTreeMap::new();
    for purl in list.purls() {
        let (Some(part), Some(at)) = (part_of(purl), purl.rfind('/')) else {
            continue;
        };
        if touched.contains(&part) {
            let (head, tail) = purl.split_at(at + 1);
            let heads = &mut parts.entry(part).or_default().packages;
            heads
                .entry(head.to_owned())
                .or_default()
                .push(tail.to_owned());
        }
    }
    let op = |part: u8| {
        let key = records::packages_key(part, host);
        let Some(record) = parts.get(&part) else {
            return Ok(delete(key));
        };
        match put(key, record) {
            // Names chosen to fall into one part; no distribution's do.
            Op::Put { value, .. } if value.len() > MAX_VALUE_BYTES => Err(Invalid::new(
                "added",
                "names too many packages that fall into one part of the store",
            )),
            op => Ok(op),
        }
    };
    touched.into_iter().map(op).collect()
}

/// What removes a list.
pub(super) fn removal(host: &HostId) -> Vec<Op> {
    (0..records::PACKAGE_PARTS)
        .map(|part| delete(records::packages_key(part, host)))
        .collect()
}

fn part_of(purl: &str) -> Option<u8> {
    let package: Package = purl.parse().ok()?;
    Some(records::package_part(&package.name))
}
