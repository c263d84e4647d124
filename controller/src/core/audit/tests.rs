//! The scribe alone: what it tells of records, and what goes by age.

use super::*;
use crate::core::changes::{Changes, delete};
use crate::store::{Options, Txn};

struct Bench {
    store: Store,
    head: Head,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        Self {
            store,
            head: Head::START,
            _dir: dir,
        }
    }

    /// Commits a batch as the task does; gives the entries of each transaction.
    fn write(&mut self, changes: Changes) -> Vec<Vec<Entry>> {
        let mut scribe = Scribe::new(self.head, Timestamp::UNIX_EPOCH, &self.store);
        let txns = changes.into_txns(&mut scribe);
        self.head = scribe.head;
        txns.into_iter().map(|txn| self.commit(txn)).collect()
    }

    fn commit(&self, txn: Txn) -> Vec<Entry> {
        txn.check().unwrap();
        let entries = txn.ops.iter().filter_map(|op| {
            records::audit_number(op.key())?;
            let sealed: Sealed = records::decode(op.key(), value(op)?).unwrap();
            Some(serde_json::from_str(&sealed.body).unwrap())
        });
        let entries = entries.collect();
        self.store.commit(txn).unwrap();
        entries
    }
}

fn by(source: Source) -> Changes {
    let mut changes = Changes::default();
    changes.attribute(source);
    changes
}

#[test]
fn an_entry_stands_in_the_transaction_of_its_record() {
    let mut bench = Bench::new();
    let mut changes = by(Source::Controller);
    for number in 0..200 {
        changes.group(vec![put(format!("/v1/f/freeze-{number}"), &number)]);
    }
    let entries = bench.write(changes);
    assert!(entries.len() > 3);
    let mut told = 0;
    for entries in &entries {
        assert!(!entries.is_empty(), "a transaction has no entry");
        for entry in entries {
            assert_eq!(entry.object, Some(format!("freeze freeze-{told}")));
            told += 1;
        }
    }
    assert_eq!(told, 200);
}

#[test]
fn the_planner_has_one_entry_for_each_transaction() {
    let mut bench = Bench::new();
    let mut changes = by(Source::Plan(Generation(7)));
    for number in 0..500 {
        let host = format!("host-{number:03}");
        changes.group(vec![
            put(format!("/v1/m/00000001/{host}"), &number),
            put(format!("/v1/a/000/{host}"), &number),
            put(format!("/v1/e/{number:016x}"), &number),
        ]);
    }
    let entries = bench.write(changes);
    assert!(
        entries.iter().all(|entries| entries.len() == 1),
        "{entries:#?}"
    );
    let first = &entries[0][0];
    assert_eq!(
        (first.actor.kind.as_str(), first.object.as_deref()),
        ("planner", Some("plan 7"))
    );
    assert!(
        first.after.as_deref().unwrap().contains("\"assignment\":"),
        "{first:?}"
    );
    assert_ne!(entries[0][0].records, entries[1][0].records);
}

#[test]
fn what_hosts_say_is_no_entry_and_a_deletion_is() {
    let mut bench = Bench::new();
    let mut changes = by(Source::Controller);
    changes.group(vec![put("/v1/s/000/web-1".to_owned(), &1)]);
    changes.group(vec![put(
        "/v1/f/weekend".to_owned(),
        &serde_json::json!({"a": 1}),
    )]);
    changes.group(vec![delete("/v1/f/weekend".to_owned())]);
    let entries: Vec<Entry> = bench.write(changes).into_iter().flatten().collect();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry.before.as_deref(), entry.after.as_deref()))
        .collect();
    assert_eq!(told, [(None, Some("{\"a\":1}")), (Some("{\"a\":1}"), None)]);
}

#[test]
fn sides_are_bounded_and_hold_no_secret() {
    let long = "é".repeat(5000);
    let record =
        serde_json::json!({"hash": "abc", "inner": [{"secret": "def", "x": 1}], "text": long});
    let value = records::encode(&record);
    let (before, after) = words::difference(None, Some(&value));
    let after = after.unwrap();
    assert_eq!(before, None);
    assert!(
        after.len() < 1200 && after.contains("sha256 of the whole"),
        "{after}"
    );
    assert!(!after.contains("abc") && !after.contains("def"), "{after}");
    let same = words::difference(Some(&value), Some(&value));
    assert_eq!(same, (Some("{}".to_owned()), Some("{}".to_owned())));
}

#[test]
fn the_oldest_go_and_the_rest_still_verifies() {
    let mut bench = Bench::new();
    for number in 0..300 {
        let mut changes = by(Source::Controller);
        changes.group(vec![put("/v1/f/weekend".to_owned(), &number)]);
        bench.write(changes);
    }
    assert!(
        outdated(&bench.store, 1, bench.head, 300).is_none(),
        "too early"
    );
    let (keys, last) = outdated(&bench.store, 1, bench.head, 100).unwrap();
    let mut changes = by(Source::Silent);
    changes.note(Note::trimmed(last));
    changes.group(keys.into_iter().map(delete).collect());
    bench.write(changes);
    let page = bench
        .store
        .range(records::AUDIT.as_bytes(), None, 1000)
        .unwrap();
    let mut verifier = comber_model::audit::Verifier::default();
    for item in &page.items {
        let sealed: Sealed = records::decode(&item.key, &item.record.value).unwrap();
        let number = records::audit_number(&item.key).unwrap();
        verifier.take(number, &sealed).unwrap();
    }
    assert_eq!(verifier.finish(), Ok(bench.head));
    assert_eq!(page.items.len() as u64, 301 - CUT);
    assert_eq!(head(&bench.store, 200).unwrap(), bench.head);
    assert_eq!(head(&bench.store, 0).unwrap(), bench.head);
}
