//! Keys and values in the store: every record is JSON in a versioned envelope, `{"v":1,"d":…}`.
//!
//! A field may be added with a default; anything else needs a new version with its own module and a conversion from the
//! version before. `tests/golden` keeps files of every record kind and version, for ever.

use comber_model::disruption::LockId;
use comber_model::event::Event;
use comber_model::{BudgetName, FreezeName, HostId, ReleaseId, RolloutId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{CoreError, LoadError};
use crate::store::{ReadError, Store};

/// Version of every record kind today.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    v: u32,
    d: T,
}

/// Counters of the database.
pub(crate) const META: &str = "/v1/meta/plan";
/// Prefix of hosts.
pub(crate) const HOSTS: &str = "/v1/h/";
/// Prefix of desired states.
pub(crate) const DESIRED: &str = "/v1/a/";
/// Prefix of what hosts last said.
pub(crate) const STATUS: &str = "/v1/s/";
/// Prefix of releases.
pub(crate) const RELEASES: &str = "/v1/r/";
/// Prefix of rollouts.
pub(crate) const ROLLOUTS: &str = "/v1/o/";
/// Prefix of members.
pub(crate) const MEMBERS: &str = "/v1/m/";
/// Prefix of events.
pub(crate) const EVENTS: &str = "/v1/e/";
/// Prefix of freezes.
pub(crate) const FREEZES: &str = "/v1/f/";
/// Prefix of disruption budgets.
pub(crate) const BUDGETS: &str = "/v1/b/";
/// Prefix of locks.
pub(crate) const LOCKS: &str = "/v1/l/";
/// Prefix of lists of packages.
pub(crate) const PACKAGES: &str = "/v1/p/";
/// The publisher's metadata: how many pieces it is in.
pub(crate) const TRUST: &str = "/v1/x/head";
/// Prefix of its pieces.
pub(crate) const TRUST_PIECES: &str = "/v1/x/set/";
/// Prefix of tokens.
pub(crate) const TOKENS: &str = "/v1/t/";

/// Prefix of revoked certificates.
pub(crate) const REVOKED: &str = "/v1/x/";

/// A host's record under one of the three host prefixes. The bucket, 12 bits of a hash of the name, is the unit in which
/// a large fleet is scanned and spread.
pub(crate) fn host_key(prefix: &str, host: &HostId) -> String {
    format!("{prefix}{:03x}/{host}", bucket(host))
}

fn bucket(host: &HostId) -> u64 {
    hash(host.as_str()) >> 52
}

/// FNV-1a, 64 bits: stable for ever, since it is part of stored keys.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Parts that a host's list of packages is stored in, each the packages whose names fall in it. A change of one package
/// then writes a thirty-second of the list, and a question about one package over all hosts reads as much.
pub(crate) const PACKAGE_PARTS: u8 = 32;

/// The part that a package is stored in, by its name.
pub(crate) fn package_part(name: &str) -> u8 {
    // The top bits of FNV-1a change little over short texts that differ at their ends.
    let mixed = hash(name).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    u8::try_from(mixed >> 59).unwrap_or(0)
}

/// Prefix of one part of all hosts' lists.
pub(crate) fn packages_prefix(part: u8) -> String {
    format!("{PACKAGES}{part:02x}/")
}

/// One part of a host's list.
pub(crate) fn packages_key(part: u8, host: &HostId) -> String {
    host_key(&packages_prefix(part), host)
}

/// A release's record.
pub(crate) fn release_key(id: &ReleaseId) -> String {
    format!("{RELEASES}{id}")
}

/// A rollout's record.
pub(crate) fn rollout_key(id: RolloutId) -> String {
    format!("{ROLLOUTS}{:08x}", id.0)
}

/// Prefix of the hosts of a rollout.
pub(crate) fn members_prefix(id: RolloutId) -> String {
    format!("{MEMBERS}{:08x}/", id.0)
}

/// A host's record in a rollout.
pub(crate) fn member_key(id: RolloutId, host: &HostId) -> String {
    format!("{}{host}", members_prefix(id))
}

/// Prefix of the pieces of one import of the publisher's metadata.
pub(crate) fn trust_prefix(number: u64) -> String {
    format!("{TRUST_PIECES}{number:016x}/")
}

/// One piece of it.
pub(crate) fn trust_key(number: u64, piece: usize) -> String {
    format!("{}{piece:06x}", trust_prefix(number))
}

/// A freeze's record.
pub(crate) fn freeze_key(name: &FreezeName) -> String {
    format!("{FREEZES}{name}")
}

/// A disruption budget's record.
pub(crate) fn budget_key(name: &BudgetName) -> String {
    format!("{BUDGETS}{name}")
}

/// A lock's record.
pub(crate) fn lock_key(id: &LockId) -> String {
    format!("{LOCKS}{id}")
}

/// An event's record.
pub(crate) fn event_key(number: u64) -> String {
    format!("{EVENTS}{number:016x}")
}

/// A token's record, by the hash of its secret.
pub(crate) fn token_key(hash: &[u8; 32]) -> String {
    format!("{TOKENS}{}", comber_model::Digest(*hash))
}

/// A revoked certificate's record, by its number.
pub(crate) fn revocation_key(serial: &str) -> String {
    format!("{REVOKED}{serial}")
}

/// A value for the store.
pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(&Envelope {
        v: VERSION,
        d: record,
    })
    .expect("records are plain data: maps with text keys, no failing serializers")
}

/// A value from the store.
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, LoadError> {
    let problem = |problem: String| LoadError::Record {
        key: String::from_utf8_lossy(key).into_owned(),
        problem,
    };
    let version: Version =
        serde_json::from_slice(value).map_err(|error| problem(error.to_string()))?;
    if version.v != VERSION {
        let text = format!(
            "its version is {}, this controller reads {VERSION}",
            version.v
        );
        return Err(problem(text));
    }
    let envelope: Envelope<T> =
        serde_json::from_slice(value).map_err(|error| problem(error.to_string()))?;
    Ok(envelope.d)
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// The number at the end of an event's key.
fn event_number(key: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(key).ok()?.strip_prefix(EVENTS)?;
    u64::from_str_radix(text, 16).ok()
}

/// Events after a number. The outer error is the store's, the inner one a record's.
pub(crate) fn events(
    store: &Store,
    after: u64,
    limit: usize,
) -> Result<Result<Vec<(u64, Event)>, CoreError>, ReadError> {
    let page = store.range(EVENTS.as_bytes(), Some(event_key(after).as_bytes()), limit)?;
    let read = page.items.iter().map(|item| {
        let event = decode(&item.key, &item.record.value);
        let event = event.map_err(|error| CoreError::Stopped(error.to_string()))?;
        Ok((event_number(&item.key).unwrap_or(0), event))
    });
    Ok(read.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers_do() {
        assert!(event_key(9) < event_key(10));
        assert!(rollout_key(RolloutId(9)) < rollout_key(RolloutId(10)));
        assert_eq!(event_number(event_key(77).as_bytes()), Some(77));
    }

    #[test]
    fn buckets_are_fixed_for_ever() {
        let key = |name: &str| host_key(HOSTS, &name.parse().unwrap());
        assert_eq!(key("web-01"), "/v1/h/6c0/web-01");
        assert_eq!(key("db-7.example.org"), "/v1/h/764/db-7.example.org");
        let parts = ["bash", "openssl", "linux-image-6.1.0-18-amd64"].map(package_part);
        assert_eq!(parts, [6, 24, 29]);
    }

    #[test]
    fn a_record_of_a_later_version_is_refused_by_name() {
        let error = decode::<u32>(b"/v1/x", br#"{"v":2,"d":5}"#)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/v1/x") && error.contains("its version is 2"),
            "{error}"
        );
        assert_eq!(decode::<u32>(b"/v1/x", &encode(&5)).unwrap(), 5);
    }
}
