//! Damage to every file of a store, one at a time: each opens with every acknowledged record, or is refused with
//! the remedy. Touches temporary directories only.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_controller::store::{OpenError, Options, Revision, Store, Txn, Versioned};

type Records = BTreeMap<Vec<u8>, Versioned>;

fn options() -> Options {
    Options {
        segment_bytes: 96 * 1024,
        cache_bytes: 1024 * 1024,
        ..Options::default()
    }
}

#[test]
fn damage_after_a_crash_is_repaired_or_refused() {
    let home = memory();
    let (store, dir) = filled(home.path());
    let records = all(&store);
    let crashed = home.path().join("crashed");
    copy(&dir, &crashed);
    let tally = Tally::of_every_case(&crashed, home.path(), &records);
    // Without an orderly close nothing proves the end of a last segment that was cut, so some must be refused.
    assert!(
        tally.refused > 0 && tally.repaired > tally.refused,
        "{tally:?}"
    );
}

#[test]
fn damage_after_an_orderly_close_is_always_repaired() {
    let home = memory();
    let (store, dir) = filled(home.path());
    let records = all(&store);
    store.close().expect("closes");
    drop(store);
    let tally = Tally::of_every_case(&dir, home.path(), &records);
    assert_eq!(tally.refused, 0, "{tally:?}");
}

/// Many pages, so that damage reaches every kind of thing sled keeps; its panics end in a rebuild.
#[test]
fn damage_to_large_tables_is_always_repaired() {
    let home = memory();
    let dir = home.path().join("db");
    let store = Store::open(&dir, options()).expect("a new store");
    for n in 0..60_u32 {
        let put = |txn: Txn, m: u32| txn.put(format!("/v1/h/{m:03}/{n:03}"), vec![b'x'; 200]);
        store
            .commit((0..100).fold(Txn::new(), put))
            .expect("commits");
    }
    store.checkpoint().wait().expect("a checkpoint");
    store
        .commit(Txn::new().put("last", "one"))
        .expect("commits");
    let records = all(&store);
    let crashed = home.path().join("crashed");
    copy(&dir, &crashed);
    drop(store);
    let tables = files(&crashed)
        .into_iter()
        .find(|file| name(file) == "db")
        .expect("tables");
    let used = used_offsets(&tables);
    let mut tally = Tally::default();
    let mut random = Random(0xb16);
    for n in 0..30 {
        let at = used[random.below(used.len())];
        let damage = match n % 3 {
            0 => Damage::CutAt(at),
            1 => Damage::Flip(at, 1 << random.below(8)),
            _ => Damage::Zeroed(at, used[used.len() - 1].min(at + 512)),
        };
        let case = home.path().join("case");
        copy(&crashed, &case);
        damage.apply(&case.join(tables.strip_prefix(&crashed).expect("below")));
        tally.add(&case, &records, &format!("{damage:?} of the tables"));
        fs::remove_dir_all(&case).expect("removable");
    }
    assert_eq!((tally.repaired, tally.refused), (30, 0));
}

#[test]
fn both_manifests_lost_is_refused_with_the_remedy() {
    let home = memory();
    let (store, dir) = filled(home.path());
    drop(store);
    for name in ["manifest-a", "manifest-b"] {
        fs::remove_file(dir.join(name)).expect("was there");
    }
    let error = Store::open(&dir, options()).expect_err("nothing says what must be there");
    assert_remedy(&error);
    assert!(
        dir.join("acknowledged").exists(),
        "a refusal destroys nothing"
    );
}

#[test]
fn zeros_over_acknowledged_frames_are_noticed_by_the_mark() {
    let home = memory();
    let (store, dir) = filled(home.path());
    let crashed = home.path().join("crashed");
    copy(&dir, &crashed);
    drop(store);
    let last = files(&crashed)
        .into_iter()
        .filter(|f| name(f).starts_with("journal-0"))
        .max();
    let last = last.expect("a journal");
    let mut bytes = fs::read(&last).expect("readable");
    let tail = bytes.len() - 8192;
    let used = bytes[8192..]
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("frames")
        + 8192;
    assert!(tail > used, "the last segment has room left");
    bytes[used - used % 4096 - 4096..].fill(0);
    fs::write(&last, bytes).expect("writable");
    let error = Store::open(&crashed, options()).expect_err("a commit is missing");
    assert!(matches!(error, OpenError::Lost { .. }), "{error}");
    assert_remedy(&error);
}

#[test]
fn a_last_segment_cut_after_a_power_cut_is_refused_although_nothing_else_tells() {
    let home = memory();
    let (store, dir) = filled(home.path());
    let crashed = home.path().join("crashed");
    copy(&dir, &crashed);
    drop(store);
    // After a power cut the mark may lag; without it only the length of the segment shows that it was cut.
    fs::remove_file(crashed.join("acknowledged")).expect("was there");
    let last = files(&crashed)
        .into_iter()
        .filter(|f| name(f).starts_with("journal-0"))
        .max();
    let last = last.expect("a journal");
    let bytes = fs::read(&last).expect("readable");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("frames") / 4096 * 4096;
    fs::write(&last, &bytes[..used - 4096]).expect("writable");
    let error = Store::open(&crashed, options()).expect_err("a commit may be missing");
    assert!(matches!(error, OpenError::Lost { .. }), "{error}");
    assert_remedy(&error);
}

#[test]
fn records_that_sled_lost_or_kept_are_noticed() {
    let home = memory();
    let (store, dir) = filled(home.path());
    let records = all(&store);
    drop(store);
    let lose = |tree: &sled::Db| drop(tree.remove(b"\x01/v1/h/001/23").expect("removes"));
    let stale = |tree: &sled::Db| {
        let (_, value) = tree
            .get_gt(b"\x01/v1/h/002")
            .expect("reads")
            .expect("a record");
        tree.insert(b"\x01/v1/h/003/29", value).expect("inserts");
    };
    let cases: [&dyn Fn(&sled::Db); 2] = [&lose, &stale];
    for change in cases {
        let tables = fs::read_dir(&dir)
            .expect("a directory")
            .filter_map(Result::ok);
        let tables = tables
            .map(|e| e.path())
            .find(|p| name(p).starts_with("tables-0"));
        let tree = bare(&tables.expect("tables"));
        let before = tree.checksum().expect("a checksum");
        change(&tree);
        assert_ne!(
            tree.checksum().expect("a checksum"),
            before,
            "nothing was changed"
        );
        drop(tree);
        let store = Store::open(&dir, options()).expect("rebuilt");
        assert!(
            store.repairs().iter().any(|text| text.contains("rebuilt")),
            "{:?}",
            store.repairs()
        );
        assert_eq!(all(&store), records);
    }
}

#[test]
fn tables_that_took_the_process_down_are_not_tried_again() {
    let home = memory();
    let (store, dir) = filled(home.path());
    let records = all(&store);
    drop(store);
    fs::write(dir.join("tables.opening"), b"").expect("writable");
    let store = Store::open(&dir, options()).expect("rebuilt");
    assert!(
        store.repairs().iter().any(|text| text.contains("rebuilt")),
        "{:?}",
        store.repairs()
    );
    assert_eq!(all(&store), records);
}

/// Opens tables past the store. Threads of sled hold its lock for a moment after the last handle was dropped; the
/// store itself waits for the same reason.
fn bare(tables: &Path) -> sled::Db {
    for _ in 0..1_500 {
        match sled::open(tables) {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => return opened.expect("opens"),
        }
    }
    panic!("{} stayed locked", tables.display());
}

/// A store with several segments, two checkpoints, and commits behind the newest.
fn filled(home: &Path) -> (Store, PathBuf) {
    let dir = home.join("db");
    let store = Store::open(&dir, options()).expect("a new store");
    for round in 0..4_u32 {
        for n in 0..40_u32 {
            let key = format!("/v1/h/{:03}/{n}", n * 7 % 40);
            store
                .commit(Txn::new().put(key, format!("{round}-{n}").repeat(30)))
                .expect("commits");
        }
        store
            .commit(Txn::new().delete(format!("/v1/h/{:03}/{round}", round * 7)))
            .expect("commits");
        if round < 3 {
            store.checkpoint().wait().expect("a checkpoint");
        }
    }
    (store, dir)
}

#[derive(Debug, Default)]
struct Tally {
    repaired: usize,
    refused: usize,
    cases: usize,
}

impl Tally {
    fn of_every_case(template: &Path, home: &Path, records: &Records) -> Self {
        let mut tally = Self::default();
        let mut random = Random(0x5eed);
        for file in files(template) {
            for damage in Damage::cases(&file, &mut random) {
                let dir = home.join(format!("case-{}", tally.cases));
                copy(template, &dir);
                damage.apply(&dir.join(file.strip_prefix(template).expect("below")));
                tally.add(&dir, records, &format!("{damage:?} of {}", file.display()));
                fs::remove_dir_all(&dir).expect("removable");
            }
        }
        println!("{tally:?}");
        assert!(tally.cases >= 200, "{tally:?}");
        tally
    }

    #[track_caller]
    fn add(&mut self, dir: &Path, records: &Records, case: &str) {
        self.cases += 1;
        let opened = catch_unwind(AssertUnwindSafe(|| Store::open(dir, options())));
        match opened.unwrap_or_else(|_| panic!("opening panicked after {case}")) {
            Ok(store) => {
                assert_eq!(
                    &all(&store),
                    records,
                    "silent loss after {case}: {:?}",
                    store.repairs()
                );
                store
                    .commit(Txn::new().put("after", "repair"))
                    .expect("the repaired store works");
                drop(store);
                // The time for all of them is better spent on more kinds of damage.
                if self.cases.is_multiple_of(3) {
                    assert_whole(dir, records.len() + 1, case);
                }
                self.repaired += 1;
            }
            Err(error) => {
                assert_remedy(&error);
                self.refused += 1;
            }
        }
    }
}

#[derive(Debug)]
enum Damage {
    Missing,
    CutAt(usize),
    Flip(usize, u8),
    Zeroed(usize, usize),
}

impl Damage {
    fn cases(file: &Path, random: &mut Random) -> Vec<Self> {
        let len = fs::metadata(file).expect("is there").len();
        let len = usize::try_from(len).expect("small");
        let mut cases = vec![Self::Missing];
        if len == 0 {
            return cases;
        }
        cases.extend([0, 1, len / 2, len - 1].map(Self::CutAt));
        cases.extend((0..4).map(|_| Self::CutAt(random.below(len))));
        cases.extend([0, 9, 30, len / 2, len - 1].map(|at| Self::Flip(at.min(len - 1), 1)));
        // Half of the flips go where bytes are, as most of some files is zeros.
        let used = used_offsets(file);
        for _ in 0..6 {
            cases.push(Self::Flip(random.below(len), 1 << random.below(8)));
            let at = used
                .get(random.below(used.len().max(1)))
                .copied()
                .unwrap_or_default();
            cases.push(Self::Flip(at, 1 << random.below(8)));
        }
        let block = random.below(len) / 4096 * 4096;
        cases.push(Self::Zeroed(block, len.min(block + 4096)));
        cases
    }

    fn apply(&self, file: &Path) {
        if let Self::Missing = self {
            return fs::remove_file(file).expect("removable");
        }
        let mut bytes = fs::read(file).expect("readable");
        match *self {
            Self::Missing => {}
            Self::CutAt(at) => bytes.truncate(at),
            Self::Flip(at, bit) => bytes[at] ^= bit,
            Self::Zeroed(from, to) => bytes[from..to].fill(0),
        }
        fs::write(file, bytes).expect("writable");
    }
}

/// What was repaired stays repaired.
#[track_caller]
fn assert_whole(dir: &Path, records: usize, case: &str) {
    let store = Store::open(dir, options()).expect("the repaired store opens");
    assert_eq!(
        store.repairs(),
        &[] as &[String],
        "still damaged after {case}"
    );
    assert_eq!(
        store.range(b"", None, 9_999).expect("reads").items.len(),
        records,
        "after {case}"
    );
}

fn used_offsets(file: &Path) -> Vec<usize> {
    let bytes = fs::read(file).expect("readable");
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte != 0)
        .map(|(at, _)| at)
        .collect()
}

#[track_caller]
fn assert_remedy(error: &OpenError) {
    let text = error.to_string();
    assert!(
        text.contains("comber-controller restore BACKUP"),
        "no remedy in: {text}"
    );
}

fn all(store: &Store) -> Records {
    let page = store.range(b"", None, 9_999).expect("reads");
    assert!(page.revision > Revision(0) && !page.more);
    page.items
        .into_iter()
        .map(|item| (item.key.to_vec(), item.record))
        .collect()
}

/// Every regular file below a directory, in a fixed order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if name(&path) != "LOCK" {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creatable");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(name(&path));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copies");
        }
    }
}

/// A fixed sequence, so that a failing case is the same one next time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).expect("below a usize")
    }
}

/// A directory in memory where there is one: nothing here is about durability, and syncs cost the most.
fn memory() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    dir.expect("a temporary directory")
}
