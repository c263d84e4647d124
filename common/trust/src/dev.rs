//! The development preset: a whole repository of one person, made and signed at once.
//!
//! One key without a passphrase signs every role. That proves to hosts that bytes come from whoever has this directory, and
//! is no protection of the key itself. Invariant: a repository made here changes into one of several people by nothing but
//! its own chain of roots.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp as Instant};

use crate::key::{Signer, SigningKey};
use crate::publisher::{Lives, Progress, PublishError, Publisher, ROLES};

/// The directory of the keys that stand beside a repository.
pub const KEYS_DIR: &str = "keys";
const KEY: &str = "development.key";

/// Nobody renews a timestamp on the day after a first try.
pub fn lives() -> Lives {
    let year = SignedDuration::from_hours(24 * 365);
    Lives {
        root: year,
        targets: year,
        snapshot: year,
        timestamp: year,
    }
}

/// Makes a repository with an empty list, signed and published.
pub fn create(dir: &Path, now: Instant) -> Result<Publisher, PublishError> {
    let key = SigningKey::generate()?;
    let roles = ROLES.map(|role| (role.to_string(), (vec![key.public()], 1)));
    let named: BTreeMap<&str, _> = roles
        .iter()
        .map(|(role, keys)| (role.as_str(), keys.clone()))
        .collect();
    let publisher = Publisher::init(dir, &named, lives(), now)?;
    publisher.make_dir(KEYS_DIR)?;
    key.save(&key_path(dir), None)?;
    publisher.sign(&[&key])?;
    publisher.finish()?;
    Ok(publisher)
}

/// Signs and publishes what is prepared in such a repository.
pub fn publish(dir: &Path, now: Instant) -> Result<Progress, PublishError> {
    let key = SigningKey::load(&key_path(dir), None)?;
    let publisher = Publisher::open(dir, lives(), now)?;
    publisher.sign(&[&key])?;
    publisher.finish()
}

fn key_path(dir: &Path) -> PathBuf {
    dir.join(KEYS_DIR).join(KEY)
}
