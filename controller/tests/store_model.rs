//! Random transactions, reopenings, crashes and checkpoints against a map in memory.
//!
//! The invariant under test: the store and the map always hold the same records at the same revisions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use comber_controller::store::{Compare, Op, Options, Outcome, Revision, Store, Txn};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

#[derive(Clone, Debug)]
enum Step {
    Commit(Txn),
    /// Several at once, so that they share a group.
    Group(Vec<Txn>),
    Checkpoint,
    Reopen,
    /// The files as they are, opened as if the process had been killed.
    Crash,
}

#[derive(Default)]
struct Model {
    records: BTreeMap<Vec<u8>, (Vec<u8>, Revision)>,
    revision: Revision,
}

impl Model {
    fn commit(&mut self, txn: &Txn) -> Outcome {
        let found = |key: &[u8]| self.records.get(key).map(|(_, revision)| *revision);
        let holds = txn.compares.iter().all(|compare| match compare {
            Compare::Absent(key) => found(key).is_none(),
            Compare::Exists(key) => found(key).is_some(),
            Compare::ModRev(key, revision) => found(key) == Some(*revision),
        });
        if !holds {
            return Outcome::Conflict;
        }
        let next = self.revision.next();
        for op in &txn.ops {
            let changed = match op {
                Op::Put { key, value, .. } => {
                    self.records.insert(key.to_vec(), (value.to_vec(), next));
                    true
                }
                Op::Delete { key } => self.records.remove(&key[..]).is_some(),
            };
            if changed {
                self.revision = next;
            }
        }
        Outcome::Committed(self.revision)
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..6_u8).prop_map(|n| vec![b'k', n]),
        Just(b"k".to_vec()),
        Just(vec![0xff, 0xff])
    ]
}

fn txn() -> impl Strategy<Value = Txn> {
    let compare = (key(), 0..4_u8, 0..40_u64).prop_map(|(key, kind, revision)| match kind {
        0 => Compare::Absent(key.into()),
        1 | 2 => Compare::Exists(key.into()),
        _ => Compare::ModRev(key.into(), Revision(revision)),
    });
    let change = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..3_000));
    let ops = prop::collection::btree_map(key(), change, 0..5);
    (prop::collection::vec(compare, 0..2), ops).prop_map(|(compares, ops)| {
        let op = |(key, change): (Vec<u8>, Option<Vec<u8>>)| match change {
            Some(value) => Op::Put {
                key: key.into(),
                value: value.into(),
                lease: None,
            },
            None => Op::Delete { key: key.into() },
        };
        Txn {
            compares,
            ops: ops.into_iter().map(op).collect(),
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => txn().prop_map(Step::Commit),
        4 => prop::collection::vec(txn(), 1..12).prop_map(Step::Group),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Reopen),
        2 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        max_shrink_iters: 200,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_is_a_map_that_survives(steps in prop::collection::vec(step(), 1..40)) {
        let home = memory();
        let mut run = Run::new(home.path());
        for step in steps {
            run.step(step)?;
            run.compare()?;
        }
    }
}

struct Run {
    home: PathBuf,
    dir: PathBuf,
    crashes: u32,
    store: Option<Store>,
    model: Model,
}

impl Run {
    fn new(home: &Path) -> Self {
        let dir = home.join("db");
        let store = Some(open(&dir));
        Self {
            home: home.to_path_buf(),
            dir,
            crashes: 0,
            store,
            model: Model::default(),
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("open between steps")
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Commit(txn) => {
                let outcome = self.store().commit(txn.clone()).expect("commits");
                prop_assert_eq!(outcome, self.model.commit(&txn));
            }
            Step::Group(txns) => {
                let pending: Vec<_> = txns
                    .iter()
                    .map(|txn| self.store().submit(txn.clone()))
                    .collect();
                for (txn, pending) in txns.iter().zip(pending) {
                    prop_assert_eq!(pending.wait().expect("commits"), self.model.commit(txn));
                }
            }
            Step::Checkpoint => {
                let revision = self.store().checkpoint().wait().expect("a checkpoint");
                prop_assert_eq!(revision, self.model.revision);
            }
            Step::Reopen => {
                self.store = None;
                self.store = Some(open(&self.dir));
                prop_assert_eq!(self.store().repairs(), &[] as &[String]);
            }
            Step::Crash => {
                self.crashes += 1;
                // A copy is not taken at one instant, so nothing may move meanwhile: this waits for the jobs before.
                self.store()
                    .backup(&self.home.join("barrier"))
                    .wait()
                    .expect("a backup");
                let dir = self.home.join(format!("crash-{}", self.crashes));
                copy(&self.dir, &dir);
                self.store = Some(open(&dir));
                self.dir = dir;
            }
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let page = self.store().range(b"", None, 100).expect("reads");
        prop_assert_eq!(page.revision, self.model.revision);
        let items = page.items.into_iter();
        let found: BTreeMap<_, _> = items
            .map(|item| {
                (
                    item.key.to_vec(),
                    (item.record.value.to_vec(), item.record.mod_rev),
                )
            })
            .collect();
        prop_assert_eq!(&found, &self.model.records);
        Ok(())
    }
}

fn open(dir: &Path) -> Store {
    let options = Options {
        segment_bytes: 48 * 1024,
        checkpoint_bytes: 200 * 1024,
        cache_bytes: 1024 * 1024,
        ..Options::default()
    };
    Store::open(dir, options).expect("opens")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creatable");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copies");
        }
    }
}

/// A directory in memory where there is one: nothing here is about durability, and syncs cost the most.
fn memory() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    dir.expect("a temporary directory")
}
