//! The embedded store keeps the contract, and what it promises beyond it: order, watchers, closing, backups.
//!
//! Touches temporary directories only.

mod conformance;

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use comber_controller::store::{
    BackupError, CommitError, Compacted, Event, GroupCommitted, LeaseId, Observer, OpenError,
    Options, Outcome, Page, Revision, Store, Txn, Versioned,
};
use conformance::Contract;
use tempfile::TempDir;

struct Embedded {
    store: Store,
    now: Cell<Duration>,
    home: TempDir,
}

impl Embedded {
    fn fresh() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&home.path().join("db"), options()).expect("a new store");
        Self {
            store,
            now: Cell::new(Duration::from_secs(1000)),
            home,
        }
    }
}

impl Contract for Embedded {
    fn get(&self, key: &str) -> Option<Versioned> {
        self.store.get(key.as_bytes()).expect("reads")
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page {
        let after = after.map(str::as_bytes);
        self.store
            .range(prefix.as_bytes(), after, limit)
            .expect("reads")
    }

    fn txn(&self, txn: Txn) -> Result<Outcome, CommitError> {
        self.store.commit(txn)
    }

    fn events(&self, prefix: &str, from: Revision, count: usize) -> Result<Vec<Event>, Compacted> {
        let mut watch = self.store.watch(prefix.to_owned(), from)?;
        runtime().block_on(async {
            let mut events = Vec::new();
            while events.len() < count {
                events.extend(watch.next().await.expect("the store is open")?.events);
            }
            Ok(events)
        })
    }

    fn grant(&self, ttl: Duration) -> LeaseId {
        self.store
            .lease_grant(ttl, self.now.get())
            .wait()
            .expect("granted")
    }

    fn keep_alive(&self, lease: LeaseId) -> Result<(), CommitError> {
        self.store.lease_keepalive(lease, self.now.get()).wait()
    }

    fn revoke(&self, lease: LeaseId) -> Result<(), CommitError> {
        self.store.lease_revoke(lease).wait()
    }

    fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
        self.store
            .lease_expire(self.now.get())
            .wait()
            .expect("the store is open");
    }
}

fn options() -> Options {
    Options {
        segment_bytes: 256 * 1024,
        cache_bytes: 4 * 1024 * 1024,
        ..Options::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn the_embedded_store_keeps_the_contract() {
    conformance::all(&Embedded::fresh);
}

#[test]
fn transactions_are_decided_in_the_order_of_submission() {
    let Embedded {
        store, home: _home, ..
    } = Embedded::fresh();
    let pending: Vec<_> = (0..500)
        .map(|n| store.submit(Txn::new().put("k", n.to_string())))
        .collect();
    let outcomes: Vec<_> = runtime().block_on(async {
        let mut outcomes = Vec::new();
        for pending in pending {
            outcomes.push(pending.await.expect("commits"));
        }
        outcomes
    });
    let expected: Vec<_> = (1..=500).map(|n| Outcome::Committed(Revision(n))).collect();
    assert_eq!(outcomes, expected);
    assert_eq!(
        store.get(b"k").expect("reads").map(|r| r.value),
        Some("499".into())
    );
}

#[test]
fn a_slow_watcher_is_told_and_holds_up_nobody() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let few = Options {
        watch_queue: 4,
        history: 8,
        ..options()
    };
    let store = Store::open(&home.path().join("db"), few).expect("a new store");
    let mut slow = store.watch("k", Revision(1)).expect("from the beginning");
    let mut other = store.watch("z", Revision(1)).expect("from the beginning");
    for n in 0..50 {
        store
            .commit(Txn::new().put(format!("k{n}"), ""))
            .expect("commits");
    }
    store.commit(Txn::new().put("z", "")).expect("commits");
    runtime().block_on(async {
        for n in 1..=4 {
            let change = slow
                .next()
                .await
                .expect("open")
                .expect("queued before it fell behind");
            assert_eq!(change.revision, Revision(n));
        }
        assert_eq!(
            slow.next().await,
            Some(Err(Compacted { from: Revision(5) }))
        );
        assert_eq!(slow.next().await, None);
        assert_eq!(
            other
                .next()
                .await
                .expect("open")
                .expect("not behind")
                .revision,
            Revision(51)
        );
    });
    assert_eq!(
        store.watch("k", Revision(5)).err(),
        Some(Compacted { from: Revision(5) })
    );
    assert!(
        store.watch("k", Revision(48)).is_ok(),
        "the last eight commits are kept"
    );
    store.close().expect("closes");
    assert_eq!(
        runtime().block_on(other.next()),
        None,
        "closing ends a watch"
    );
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_gone() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let dir = home.path().join("db");
    let store = Store::open(&dir, options()).expect("a new store");
    let error = Store::open(&dir, options()).expect_err("it is in use");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
    let epoch = store.epoch();
    store.commit(Txn::new().put("k", "v")).expect("commits");
    store.close().expect("closes");
    assert!(matches!(
        store.commit(Txn::new().put("k", "w")),
        Err(CommitError::Closed)
    ));
    drop(store);
    let store = Store::open(&dir, options()).expect("it is free");
    assert_eq!((store.epoch(), store.revision()), (epoch, Revision(1)));
    assert_eq!(store.repairs(), &[] as &[String]);
}

#[test]
fn a_missing_store_is_not_made_unless_asked_to() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let never = || Options {
        create: false,
        ..options()
    };
    for dir in [home.path().join("none"), home.path().to_path_buf()] {
        let error = Store::open(&dir, never()).expect_err("there is none");
        assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    }
}

#[test]
fn records_of_leases_end_with_the_process_that_held_them() {
    let Embedded { store, home, .. } = Embedded::fresh();
    let lease = store
        .lease_grant(Duration::MAX, Duration::ZERO)
        .wait()
        .expect("granted");
    store
        .commit(Txn::new().put_leased("leader", "me", lease).put("k", "v"))
        .expect("commits");
    drop(store);
    let store = Store::open(&home.path().join("db"), options()).expect("opens");
    assert_eq!(store.get(b"leader").expect("reads"), None);
    assert_eq!(
        store.revision(),
        Revision(2),
        "their removal is a commit like any other"
    );
    assert!(matches!(
        store.lease_revoke(lease).wait(),
        Err(CommitError::LeaseUnknown { .. })
    ));
}

#[test]
fn a_full_queue_refuses_and_says_so() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let none = Options {
        queue: 0,
        ..options()
    };
    let store = Store::open(&home.path().join("db"), none).expect("a new store");
    let error = store.commit(Txn::new().put("k", "v")).expect_err("no room");
    assert!(
        matches!(error, CommitError::Overloaded { .. }) && error.is_retryable(),
        "{error}"
    );
}

#[test]
fn a_backup_under_load_is_one_revision_and_restores_with_a_new_epoch() {
    let Embedded { store, home, .. } = Embedded::fresh();
    // Two keys that always change together show a backup of two revisions.
    let writer = {
        let store = store.clone();
        thread::spawn(move || {
            for n in 0..3_000_u32 {
                let filler = format!("f/{:04}", n % 1_000);
                let txn = Txn::new()
                    .put("a", n.to_string())
                    .put(filler, vec![b'x'; 100]);
                store.commit(txn.put("z", n.to_string())).expect("commits");
            }
        })
    };
    let mut backups = Vec::new();
    while !writer.is_finished() && backups.len() < 6 {
        let path = home.path().join(format!("backup-{}", backups.len()));
        backups.push((store.backup(&path).wait().expect("a backup"), path));
    }
    writer.join().expect("writes");
    assert!(backups.len() > 1);
    for (n, (revision, backup)) in backups.iter().enumerate() {
        let dir = home.path().join(format!("restored-{n}"));
        assert_eq!(
            Store::restore(backup, &dir, &options()).expect("restores"),
            *revision
        );
        let restored = Store::open(&dir, options()).expect("opens");
        let read = |key: &[u8]| {
            restored
                .get(key)
                .expect("reads")
                .map(|r| (r.value, r.mod_rev))
        };
        assert_eq!(read(b"a"), read(b"z"), "backup {n}");
        assert_eq!(read(b"a").map_or(Revision(0), |(_, at)| at), *revision);
        assert_ne!(restored.epoch(), store.epoch());
        let origin = restored.origin().expect("noted");
        assert_eq!((origin.epoch, origin.revision), (store.epoch(), *revision));
        let next = restored.commit(Txn::new().put("a", "on")).expect("commits");
        assert_eq!(next, Outcome::Committed(revision.next()), "revisions go on");
    }
}

#[test]
fn a_damaged_backup_is_refused_and_so_is_a_directory_in_use() {
    let Embedded { store, home, .. } = Embedded::fresh();
    for n in 0..50 {
        store
            .commit(Txn::new().put(format!("k{n}"), "some value"))
            .expect("commits");
    }
    let backup = home.path().join("backup");
    store.backup(&backup).wait().expect("a backup");
    let whole = fs::read(&backup).expect("readable");
    let target = home.path().join("restored");
    let refused = |bytes: &[u8], case: &str| {
        fs::write(&backup, bytes).expect("writable");
        match Store::restore(&backup, &target, &options()) {
            Err(BackupError::Damaged(damage)) => assert_eq!(damage.file, backup, "{case}"),
            other => panic!("{case}: {other:?}"),
        }
        assert!(
            !target.exists(),
            "{case}: nothing is made of a damaged backup"
        );
    };
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        refused(&bytes, &format!("bit flip at {at}"));
    }
    for len in (0..whole.len()).step_by(7) {
        refused(&whole[..len], &format!("cut at {len}"));
    }
    refused(&[&whole[..], b"x"].concat(), "a byte more");
    fs::write(&backup, &whole).expect("writable");
    let taken = Store::restore(&backup, &home.path().join("db"), &options());
    assert!(
        matches!(taken, Err(BackupError::Open(OpenError::Locked { .. }))),
        "{taken:?}"
    );
    drop(store);
    let full = Store::restore(&backup, &home.path().join("db"), &options());
    assert!(
        matches!(full, Err(BackupError::Open(OpenError::NotEmpty { .. }))),
        "{full:?}"
    );
    Store::restore(&backup, &target, &options()).expect("the whole one restores");
}

#[test]
fn checkpoints_keep_the_directory_small() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let dir = home.path().join("db");
    let small = || Options {
        segment_bytes: 128 * 1024,
        checkpoint_bytes: 512 * 1024,
        ..options()
    };
    let store = Store::open(&dir, small()).expect("a new store");
    for n in 0..1_000_u32 {
        store
            .commit(Txn::new().put(format!("k{}", n % 10), "v"))
            .expect("commits");
    }
    let revision = store.checkpoint().wait().expect("a checkpoint");
    assert_eq!(revision, Revision(1_000));
    store.checkpoint().wait().expect("a checkpoint");
    assert!(
        count(&dir, "checkpoint-") <= 2 && count(&dir, "journal-0") <= 2,
        "{:?}",
        names(&dir)
    );
    assert_eq!(store.range(b"", None, 100).expect("reads").items.len(), 10);
}

#[test]
fn reads_off_thread_and_the_observer_see_what_was_committed() {
    struct Count(AtomicUsize);
    impl Observer for Count {
        fn committed(&self, group: &GroupCommitted) {
            assert!(group.seconds >= 0.0 && group.journal_bytes > 0 || group.transactions == 0);
            self.0.fetch_add(group.transactions, Ordering::AcqRel);
        }
        fn checkpointed(&self, revision: Revision) {
            self.0.fetch_add(
                1000 * usize::try_from(revision.0).expect("small"),
                Ordering::AcqRel,
            );
        }
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let observed = Options {
        observer: Some(count.clone()),
        ..options()
    };
    let store = Store::open(&home.path().join("db"), observed).expect("a new store");
    let page = runtime().block_on(async {
        for n in 0..7 {
            store
                .submit(Txn::new().put(format!("k{n}"), "v"))
                .await
                .expect("commits");
        }
        store.checkpoint().await.expect("a checkpoint");
        store
            .read(|store| store.range(b"k", None, 100))
            .await
            .expect("reads")
    });
    assert_eq!((page.items.len(), page.revision), (7, Revision(7)));
    store.close().expect("closes");
    assert_eq!(count.0.load(Ordering::Acquire), 7_007);
}

/// Prints what group commit gives on this machine; nothing depends on the figure.
#[test]
fn sixty_four_submitters_share_syncs() {
    const EACH: u32 = 150;
    let Embedded { store, home, .. } = Embedded::fresh();
    let before = count(&home.path().join("db"), "journal-0");
    #[expect(
        clippy::disallowed_methods,
        reason = "a figure for the reader, not asserted"
    )]
    let start = std::time::Instant::now();
    thread::scope(|scope| {
        for thread in 0..64 {
            let store = store.clone();
            scope.spawn(move || {
                for n in 0..EACH {
                    let key = format!("/v1/s/{thread:03}/{n:04}");
                    store
                        .commit(Txn::new().put(key, vec![b'x'; 200]))
                        .expect("commits");
                }
            });
        }
    });
    let rate = f64::from(64 * EACH) / start.elapsed().as_secs_f64();
    println!("64 submitters: {rate:.0} durable commits/s ({before} segment at the start)");
    assert_eq!(store.revision(), Revision(u64::from(64 * EACH)));
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    entries
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

fn count(dir: &Path, prefix: &str) -> usize {
    names(dir)
        .iter()
        .filter(|name| name.starts_with(prefix))
        .count()
}
