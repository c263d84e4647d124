//! The tables: every record as it stands, in sled. The only file that knows sled.
//!
//! Touches one `tables-<n>` directory. sled is fast, but its flush does not survive a power cut and damage makes
//! it panic or open with records missing. So nothing here is trusted: every call catches panics, every value
//! carries its revision and checksum, the state record carries a hash of the whole set, and
//! [`Tables::open`] reads every record once. The invariant: what `open` returns held exactly the records of the
//! revision it names.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;

use super::contract::{Item, Key, Page, Versioned};
use super::disk;
use super::error::{DiskError, Fatal};
use super::record::{self, SetHash, State};

/// Key of the state record; records have the prefix below, so no key of a user is taken for it.
const STATE_KEY: [u8; 1] = [0];
const RECORD_PREFIX: u8 = 1;

/// sled's pool may hold its file for a moment after the last handle is gone. The store's own lock is held by then,
/// so no other process can have it.
const LOCK_TRIES: usize = 100;
const LOCK_WAIT: Duration = Duration::from_millis(20);

/// Name of a tables directory.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("tables-{number:08}"))
}

/// Records by key, each with its revision, and the state of the whole.
pub(super) struct Tables {
    tree: sled::Db,
    dir: PathBuf,
    /// Where they stand; held for writing while a group is applied, so a page never shows half a transaction.
    state: RwLock<State>,
}

impl Tables {
    /// Makes empty tables in a directory that does not exist yet.
    pub(super) fn create(dir: &Path, cache: u64) -> Result<Self, Fatal> {
        let tables = Self::open_unverified(dir, cache)?;
        tables.apply([], State::default())?;
        Ok(tables)
    }

    fn open_unverified(dir: &Path, cache: u64) -> Result<Self, Fatal> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache)
            // The journal is what makes commits durable; a timed flush would only compete with its syncs.
            .flush_every_ms(None);
        let mut tree = guarded(dir, || config.open());
        for _ in 0..LOCK_TRIES {
            match &tree {
                Err(Fatal::Tables { what, .. }) if what.contains("could not acquire lock") => {
                    thread::sleep(LOCK_WAIT);
                    tree = guarded(dir, || config.open());
                }
                Ok(_) | Err(_) => break,
            }
        }
        let tree = tree?;
        Ok(Self {
            tree,
            dir: dir.to_path_buf(),
            state: RwLock::new(State::default()),
        })
    }

    /// Opens tables and proves by reading all of them that they are whole; `visit` sees each record.
    pub(super) fn open(
        dir: &Path,
        cache: u64,
        visit: impl FnMut(Item),
    ) -> Result<(Self, State), Fatal> {
        if !dir.join("db").is_file() {
            return Err(failed(dir, "their file db is missing"));
        }
        let tables = Self::open_unverified(dir, cache)?;
        let state = tables.verify(visit)?;
        Ok((tables, state))
    }

    /// Reads every record and compares the set with what the state record says.
    pub(super) fn verify(&self, mut visit: impl FnMut(Item)) -> Result<State, Fatal> {
        let state = self.stored_state()?;
        let mut set = SetHash::default();
        self.scan(|item| {
            set.add(record::hash(&item.key, &item.record));
            visit(item);
            true
        })?;
        if set != state.set {
            return Err(self.failed("the records are not those of the revision they name"));
        }
        *self.state.write() = state;
        Ok(state)
    }

    fn stored_state(&self) -> Result<State, Fatal> {
        guarded(&self.dir, || self.tree.get(STATE_KEY))?
            .and_then(|bytes| State::decode(&bytes))
            .ok_or_else(|| self.failed("their state record is missing or damaged"))
    }

    /// What has been applied. Every record that a scan saw before this call is of this revision or an earlier one.
    pub(super) fn state(&self) -> State {
        *self.state.read()
    }

    /// One record.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Versioned>, Fatal> {
        let Some(bytes) = guarded(&self.dir, || self.tree.get(stored_key(key)))? else {
            return Ok(None);
        };
        match record::decode(key, &bytes) {
            Some(found) => Ok(Some(found)),
            None => Err(self.failed("a record is damaged")),
        }
    }

    /// Some records of a prefix, as of one revision.
    pub(super) fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page, Fatal> {
        let whole_groups_only = self.state.read();
        let revision = whole_groups_only.revision;
        let mut page = Page {
            items: Vec::new(),
            revision,
            more: false,
        };
        self.walk(prefix, after, |item| {
            page.more = page.items.len() == limit;
            if !page.more {
                page.items.push(item);
            }
            !page.more
        })?;
        Ok(page)
    }

    /// Every record, while commits go on: each appears as it stood at some instant of the scan. Ends early when
    /// `visit` says false.
    pub(super) fn scan(&self, visit: impl FnMut(Item) -> bool) -> Result<(), Fatal> {
        self.walk(&[], None, visit)
    }

    fn walk(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        mut visit: impl FnMut(Item) -> bool,
    ) -> Result<(), Fatal> {
        let prefix = stored_key(prefix);
        let start = match after.map(stored_key) {
            // The key behind `after` in byte order is `after` with a zero byte at its end.
            Some(mut after) if after >= prefix => {
                after.push(0);
                after
            }
            Some(_) | None => prefix.clone(),
        };
        let mut rows = guarded(&self.dir, || Ok(self.tree.range(start..)))?;
        while let Some((key, bytes)) = guarded(&self.dir, || rows.next().transpose())? {
            let Some(key) = key
                .strip_prefix(&[RECORD_PREFIX])
                .filter(|_| key.starts_with(&prefix))
            else {
                break;
            };
            let Some(found) = record::decode(key, &bytes) else {
                return Err(self.failed("a record is damaged"));
            };
            if !visit(Item {
                key: Bytes::copy_from_slice(key),
                record: found,
            }) {
                break;
            }
        }
        Ok(())
    }

    /// Applies what a group changed and the state it leads to, at once.
    pub(super) fn apply(
        &self,
        changes: impl IntoIterator<Item = (Key, Option<Versioned>)>,
        state: State,
    ) -> Result<(), Fatal> {
        let mut batch = sled::Batch::default();
        for (key, change) in changes {
            match change {
                Some(change) => batch.insert(stored_key(&key), record::encode(&key, &change)),
                None => batch.remove(stored_key(&key)),
            }
        }
        batch.insert(&STATE_KEY, state.encode());
        let mut current = self.state.write();
        guarded(&self.dir, || self.tree.apply_batch(batch))?;
        *current = state;
        Ok(())
    }

    /// Makes durable all that was applied before the call.
    pub(super) fn sync(&self) -> Result<(), Fatal> {
        guarded(&self.dir, || self.tree.flush())?;
        // flush() itself ends in sync_file_range, which no power cut respects.
        disk::sync_tree(&self.dir).map_err(Fatal::Disk)
    }

    /// A failure of these tables.
    pub(super) fn failed(&self, what: &str) -> Fatal {
        failed(&self.dir, what)
    }
}

fn stored_key(key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 2);
    stored.push(RECORD_PREFIX);
    stored.extend_from_slice(key);
    stored
}

fn failed(dir: &Path, what: &str) -> Fatal {
    Fatal::Tables {
        dir: dir.to_path_buf(),
        what: what.to_owned(),
    }
}

/// Calls into sled. It panics on damage and on some full disks, and a panic must not leave the store half alive.
fn guarded<T>(dir: &Path, call: impl FnOnce() -> sled::Result<T>) -> Result<T, Fatal> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if is_about_the_disk(&error) => Err(Fatal::Disk(
            DiskError::at("write the tables in", dir)(error),
        )),
        Ok(Err(error)) => Err(failed(dir, &error.to_string())),
        Err(panic) => Err(failed(dir, panic_message(&*panic))),
    }
}

/// Other errors of reading and writing may come from damage, which a rebuild mends; these do not.
fn is_about_the_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(
        error.kind(),
        PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
    )
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic without a message")
}
