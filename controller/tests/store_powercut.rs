//! Power cuts, kills, failing syncs and full disks under load: nothing acknowledged is lost.
//!
//! Each test starts this binary again as a writer (`child`), and ends only what it started.

mod powercut;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::Duration;

use comber_controller::store::{CommitError, Options, Outcome, Store, Txn};
use powercut::{Cut, Expected, Kill, Random, Run, WORK, copy_tree, shim};

const THREADS: u32 = 8;
const KEYS: u32 = 60;

fn options() -> Options {
    // Small, so that a run of a moment rotates segments and makes checkpoints.
    Options {
        segment_bytes: 256 * 1024,
        checkpoint_bytes: 1024 * 1024,
        cache_bytes: 4 * 1024 * 1024,
        ..Options::default()
    }
}

#[test]
fn fifty_power_cuts_lose_nothing_acknowledged() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let library = shim(home.path());
    let chains: Vec<_> = (0..2_u64)
        .map(|chain| {
            let (home, library) = (home.path().join(chain.to_string()), library.clone());
            thread::spawn(move || power_cuts(&home, &library, chain, 25))
        })
        .collect();
    let mut acknowledged = 0;
    for chain in chains {
        acknowledged += chain.join().expect("the chain holds");
    }
    println!("50 power cuts, {acknowledged} acknowledged commits, 0 lost");
    assert!(
        acknowledged > 1_000,
        "only {acknowledged} commits were acknowledged: no load"
    );
}

/// One database through many cuts, each child beginning on the disk that the cut before left.
fn power_cuts(home: &Path, library: &Path, chain: u64, cuts: u32) -> usize {
    let mut random = Random(0x00c0_ffee + chain);
    let mut expected = Expected::default();
    let mut acknowledged = 0;
    for round in 0..cuts {
        let live = home.join(format!("live-{round}"));
        let shadow = home.join(format!("shadow-{round}"));
        fs::create_dir_all(&live).expect("creatable");
        let shim = Some((library, shadow.as_path()));
        let cut = Cut {
            kind: "store",
            round,
            live: &live,
            shim,
            env: &[],
        };
        let kill = match round % 5 {
            4 => Kill::AfterStart(Duration::from_millis(random.below(120))),
            _ => Kill::AfterFirstAck(Duration::from_millis(30 + random.below(250))),
        };
        let run = cut.run(kill);
        let early = matches!(kill, Kill::AfterStart(_));
        assert!(early || run.acknowledged() > 0, "no commit: {}", run.stderr);
        acknowledged += run.acknowledged();
        expected.learn(&run);
        let next = home.join(format!("live-{}", round + 1));
        let torn = (round % 2 == 1).then_some(&mut random);
        cut.disk(&next, torn);
        check(
            &next,
            home,
            &mut expected,
            &format!("chain {chain}, cut {round}"),
        );
        fs::remove_dir_all(&live).expect("removable");
        // A child killed before it came to its work has made none.
        drop(fs::remove_dir_all(&shadow));
    }
    acknowledged
}

/// Opens a copy, so that the next child recovers by itself, under the next cut.
#[track_caller]
fn check(disk: &Path, home: &Path, expected: &mut Expected, when: &str) {
    let copy = home.join("check");
    copy_tree(disk, &copy);
    let store = Store::open(&copy, options())
        .unwrap_or_else(|error| panic!("{when}: does not open: {error}"));
    let wrong = expected.compare(&contents(&store));
    assert!(
        wrong.is_empty(),
        "{when}: {wrong:#?}\nrepairs: {:#?}",
        store.repairs()
    );
    drop(store);
    fs::remove_dir_all(&copy).expect("removable");
}

#[test]
fn a_disk_that_lies_about_syncs_is_caught_by_the_harness() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let library = shim(home.path());
    let live = home.path().join("live");
    fs::create_dir_all(&live).expect("creatable");
    let shadow = home.path().join("shadow");
    let shim = Some((library.as_path(), shadow.as_path()));
    let cut = Cut {
        kind: "store",
        round: 0,
        live: &live,
        shim,
        env: &[("POWERCUT_LIES", "1")],
    };
    let run = cut.run(Kill::AfterFirstAck(Duration::from_millis(100)));
    assert!(run.acknowledged() > 0, "no commit: {}", run.stderr);
    let mut expected = Expected::default();
    expected.learn(&run);
    let disk = home.path().join("disk");
    cut.disk(&disk, None);
    let found = Store::open(&disk, options())
        .map(|store| contents(&store))
        .unwrap_or_default();
    assert!(
        !expected.compare(&found).is_empty(),
        "nothing was synced, and nothing was missed"
    );
}

#[test]
fn sled_alone_with_flush_loses_acknowledged_records() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let library = shim(home.path());
    let mut lost = 0;
    for round in 0..3 {
        let live = home.path().join(format!("live-{round}"));
        fs::create_dir_all(&live).expect("creatable");
        let shadow = home.path().join(format!("shadow-{round}"));
        let shim = Some((library.as_path(), shadow.as_path()));
        let cut = Cut {
            kind: "sled",
            round,
            live: &live,
            shim,
            env: &[],
        };
        let run = cut.run(Kill::AfterFirstAck(Duration::from_millis(300)));
        let mut expected = Expected::default();
        expected.learn(&run);
        let disk = home.path().join(format!("disk-{round}"));
        cut.disk(&disk, None);
        let opened = catch_unwind(AssertUnwindSafe(|| sled::open(&disk)));
        let found = match opened {
            Ok(Ok(tree)) => tree
                .iter()
                .flatten()
                .map(|(key, value)| (text(&key), (text(&value), 0)))
                .collect::<BTreeMap<_, _>>(),
            Ok(Err(_)) | Err(_) => BTreeMap::new(),
        };
        lost += expected
            .sure
            .keys()
            .filter(|key| !found.contains_key(*key))
            .count();
    }
    println!("sled with flush() alone lost {lost} acknowledged records in 3 power cuts");
    assert!(
        lost > 0,
        "the harness does not see what flush() leaves behind"
    );
}

#[test]
fn kills_under_load_lose_nothing_acknowledged() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let live = home.path().join("live");
    let mut random = Random(0x0dd_ba11);
    let mut expected = Expected::default();
    let mut acknowledged = 0;
    for round in 0..12 {
        let cut = Cut {
            kind: "store",
            round,
            live: &live,
            shim: None,
            env: &[],
        };
        let run = cut.run(Kill::AfterFirstAck(Duration::from_millis(
            random.below(200),
        )));
        assert!(run.acknowledged() > 0, "no commit: {}", run.stderr);
        acknowledged += run.acknowledged();
        expected.learn(&run);
        check(&live, home.path(), &mut expected, &format!("kill {round}"));
    }
    println!("12 kills, {acknowledged} acknowledged commits, 0 lost");
}

#[test]
fn a_failed_sync_stops_the_store_and_acknowledges_nothing_more() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let library = shim(home.path());
    let live = home.path().join("live");
    drop(Store::open(&live, options()).expect("a new store"));
    let mut expected = Expected::default();
    for round in 0..3 {
        let shadow = home.path().join(format!("shadow-{round}"));
        let shim = Some((library.as_path(), shadow.as_path()));
        let env = [("POWERCUT_FAIL", ["60", "133", "208"][round as usize])];
        let cut = Cut {
            kind: "store",
            round,
            live: &live,
            shim,
            env: &env,
        };
        let run = cut.run(Kill::Never);
        assert_stopped(&run, "make durable");
        expected.learn(&run);
        let disk = home.path().join(format!("disk-{round}"));
        cut.disk(&disk, None);
        check(
            &disk,
            home.path(),
            &mut expected,
            &format!("failed sync {round}"),
        );
        fs::remove_dir_all(&live).expect("removable");
        copy_tree(&disk, &live);
    }
}

/// The kernel counts a page whose sync failed as written: a process started again reads it, and syncs nothing.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_made_durable_at_the_next_start() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let library = shim(home.path());
    for (round, fail) in (0..).zip(["61", "84", "107", "130"]) {
        let live = home.path().join(format!("live-{round}"));
        drop(Store::open(&live, options()).expect("a new store"));
        let shadow = home.path().join(format!("shadow-{round}"));
        let shim = Some((library.as_path(), shadow.as_path()));
        let env = [("POWERCUT_FAIL", fail)];
        let first = Cut {
            kind: "store",
            round,
            live: &live,
            shim,
            env: &env,
        }
        .run(Kill::Never);
        assert_stopped(&first, "make durable");
        let mut before = Expected::default();
        before.learn(&first);
        let env = [("POWERCUT_AGAIN", "1")];
        let cut = Cut {
            kind: "store",
            round: round + 10,
            live: &live,
            shim,
            env: &env,
        };
        let again = cut.run(Kill::AfterFirstAck(Duration::from_millis(20)));
        assert!(again.acknowledged() > 0, "no commit: {}", again.stderr);
        let mut expected = Expected::default();
        expected.learn(&again);
        // The group whose sync failed may have been found committed, or not.
        expected.also_possible(before);
        let disk = home.path().join(format!("disk-{round}"));
        cut.disk(&disk, None);
        check(
            &disk,
            home.path(),
            &mut expected,
            &format!("second start {round}"),
        );
    }
}

#[test]
fn a_full_disk_stops_the_store_and_names_the_directory_and_the_remedy() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let library = shim(home.path());
    let live = home.path().join("live");
    drop(Store::open(&live, options()).expect("a new store"));
    let shadow = home.path().join("shadow");
    let shim = Some((library.as_path(), shadow.as_path()));
    let env = [("POWERCUT_FULL", "2000000")];
    let cut = Cut {
        kind: "store",
        round: 0,
        live: &live,
        shim,
        env: &env,
    };
    let run = cut.run(Kill::Never);
    let stopped = assert_stopped(&run, "");
    assert!(stopped.contains(&*live.to_string_lossy()), "{stopped}");
    assert!(
        stopped.contains("free space") && stopped.contains("start the controller again"),
        "{stopped}"
    );
    let mut expected = Expected::default();
    expected.learn(&run);
    check(
        &live,
        home.path(),
        &mut expected,
        "after the disk had room again",
    );
}

/// The child heard of the failure in every thread, through `failed()` too, and acknowledged nothing after it.
#[track_caller]
fn assert_stopped(run: &Run, step: &str) -> String {
    assert!(run.acknowledged() > 0, "no commit: {}", run.stderr);
    let stopped = run
        .lines
        .iter()
        .position(|line| line.starts_with("STOPPED "));
    let Some(stopped) = stopped else {
        panic!("the store did not stop: {}", run.stderr)
    };
    let failed = run
        .lines
        .iter()
        .filter(|line| line.starts_with("FAILED "))
        .count();
    assert_eq!(failed, THREADS as usize, "every waiting commit fails");
    assert!(
        run.lines.iter().any(|line| line == "LATER fails"),
        "every later commit fails"
    );
    assert!(run.lines[stopped].contains(step), "{}", run.lines[stopped]);
    run.lines[stopped].clone()
}

/// The writer of the other tests; started by itself it writes a little and reads it back.
#[test]
fn child() {
    // The test runner has begun a line of its own.
    say("");
    #[expect(
        clippy::disallowed_methods,
        reason = "how a test tells a process of its own what to do"
    )]
    let work = std::env::var(WORK).unwrap_or_default();
    let work: Vec<&str> = work.splitn(3, ':').collect();
    match work.as_slice() {
        ["store", round, dir] => load(Path::new(dir), round, u32::MAX),
        ["sled", _, dir] => load_bare_sled(Path::new(dir)),
        _ => {
            let home = tempfile::tempdir().expect("a temporary directory");
            load(&home.path().join("db"), "0", 20);
            let store = Store::open(&home.path().join("db"), options()).expect("opens again");
            assert!(contents(&store).len() > 20, "{:?}", contents(&store));
        }
    }
}

/// Commits from several threads, each on keys of its own, telling what it tries and what was acknowledged.
fn load(dir: &Path, round: &str, limit: u32) {
    let store = Store::open(dir, options()).unwrap_or_else(|error| panic!("{error}"));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = store.clone();
            scope.spawn(move || write(&store, round, thread, limit));
        }
    });
    if limit < u32::MAX {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let cause = runtime.block_on(store.failed());
    say(&format!("STOPPED {cause}"));
    let later = store.commit(Txn::new().put("later", "-"));
    say(if matches!(later, Err(CommitError::Failed(_))) {
        "LATER fails"
    } else {
        "LATER ?"
    });
}

fn write(store: &Store, round: &str, thread: u32, limit: u32) {
    for n in 0..limit {
        let key = format!("k/{thread}/{}", n % KEYS);
        let delete = n % 7 == 3;
        let name = format!("{round}.{thread}.{n}");
        let value = format!("{name}~{}", "x".repeat((n as usize * 37) % 900));
        let (txn, told) = if delete {
            (Txn::new().delete(key.clone()), "-")
        } else {
            (Txn::new().put(key.clone(), value), name.as_str())
        };
        say(&format!("TRY {thread} {key} {told}"));
        match store.commit(txn) {
            Ok(Outcome::Committed(revision)) => say(&format!("ACK {thread} {key} {revision}")),
            Ok(Outcome::Conflict) => panic!("there was nothing to conflict with"),
            Err(error) => {
                say(&format!("FAILED {thread} {error}"));
                return;
            }
        }
    }
}

fn load_bare_sled(dir: &Path) {
    let tree = sled::open(dir).expect("opens");
    for n in 0.. {
        say(&format!("TRY 0 {n:06} v"));
        tree.insert(format!("{n:06}"), "v").expect("inserts");
        tree.flush().expect("flushes");
        say(&format!("ACK 0 {n:06} 0"));
    }
}

/// One line in one write: a killed child leaves whole lines but the last.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(format!("{line}\n").as_bytes()));
    drop(out.flush());
}

fn contents(store: &Store) -> BTreeMap<String, (String, u64)> {
    let page = store.range(b"", None, 9_999).expect("reads");
    let items = page.items.into_iter();
    items
        .map(|item| {
            let value = text(&item.record.value);
            let name = value.split('~').next().unwrap_or_default().to_owned();
            (text(&item.key), (name, item.record.mod_rev.0))
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
