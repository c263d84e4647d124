//! What every store must do, whatever is below it: one function for each promise of the contract.
//!
//! Written against [`Contract`]; a backend implements that and calls [`all`] with a way to make an empty store.
//! The invariant: nothing here knows which backend runs.

use std::time::Duration;

use comber_controller::store::{
    CommitError, Compacted, Event, LeaseId, LimitError, MAX_OPS, MAX_TXN_BYTES, MAX_VALUE_BYTES,
    Outcome, Page, Revision, Txn, Versioned,
};

/// The contract, in blocking calls.
pub(crate) trait Contract {
    fn get(&self, key: &str) -> Option<Versioned>;
    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page;
    fn txn(&self, txn: Txn) -> Result<Outcome, CommitError>;
    /// Waits for `count` changes under a prefix, from a revision on.
    fn events(&self, prefix: &str, from: Revision, count: usize) -> Result<Vec<Event>, Compacted>;
    fn grant(&self, ttl: Duration) -> LeaseId;
    fn keep_alive(&self, lease: LeaseId) -> Result<(), CommitError>;
    fn revoke(&self, lease: LeaseId) -> Result<(), CommitError>;
    /// Lets time go by, and ends what is over.
    fn pass(&self, time: Duration);
}

/// Every promise, each on a store of its own.
pub(crate) fn all<C: Contract>(fresh: &dyn Fn() -> C) {
    a_record_is_read_as_written(&fresh());
    revisions_grow_by_commits_that_change_something(&fresh());
    compares_decide_over_the_whole_transaction(&fresh());
    a_leader_is_elected_once_and_fences_its_writes(&fresh());
    pages_go_through_a_prefix_in_order(&fresh());
    limits_refuse_the_whole_transaction(&fresh());
    a_watch_sees_every_change_in_order(&fresh());
    a_watch_of_the_future_waits_for_it(&fresh());
    leased_records_go_with_their_lease(&fresh());
    a_lease_that_is_kept_alive_does_not_end(&fresh());
    a_put_without_lease_detaches_the_record(&fresh());
    a_lease_that_is_not_held_is_refused(&fresh());
}

fn a_record_is_read_as_written(store: &impl Contract) {
    assert_eq!(store.get("/v1/h/1"), None);
    let first = put(store, "/v1/h/1", "one");
    let binary = vec![0, 255, 10, 0];
    let second = committed(store.txn(Txn::new().put("/v1/h/2", binary.clone()).put("/v1/h/3", "")));
    assert_eq!(value(store, "/v1/h/1"), Some("one".into()));
    assert_eq!(store.get("/v1/h/1").map(|r| r.mod_rev), Some(first));
    assert_eq!(
        store.get("/v1/h/2").map(|r| (r.value.to_vec(), r.mod_rev)),
        Some((binary, second))
    );
    assert_eq!(value(store, "/v1/h/3"), Some(String::new()));
    let third = put(store, "/v1/h/1", "uno");
    assert_eq!(store.get("/v1/h/1").map(|r| r.mod_rev), Some(third));
    committed(store.txn(Txn::new().delete("/v1/h/1")));
    assert_eq!(store.get("/v1/h/1"), None);
}

fn revisions_grow_by_commits_that_change_something(store: &impl Contract) {
    let first = put(store, "a", "1");
    assert_eq!(
        put(store, "a", "1"),
        first.next(),
        "a put of the same value is a change"
    );
    let same = committed(store.txn(Txn::new().exists("a")));
    assert_eq!(
        same,
        first.next(),
        "a transaction without operations changes nothing"
    );
    let same = committed(store.txn(Txn::new().delete("none")));
    assert_eq!(same, first.next(), "removing nothing changes nothing");
    assert_eq!(
        store.txn(Txn::new().absent("a").put("b", "")).ok(),
        Some(Outcome::Conflict)
    );
    assert_eq!(
        put(store, "a", "2"),
        first.next().next(),
        "a conflict changes nothing"
    );
    assert_eq!(store.range("", None, 10).revision, first.next().next());
}

fn compares_decide_over_the_whole_transaction(store: &impl Contract) {
    let revision = put(store, "a", "1");
    let conflicts = [
        Txn::new().absent("a"),
        Txn::new().exists("b"),
        Txn::new().mod_rev("a", revision.next()),
        Txn::new().mod_rev("b", Revision(0)),
        Txn::new()
            .exists("a")
            .mod_rev("a", revision)
            .absent("b")
            .exists("c"),
    ];
    for txn in conflicts {
        let txn = txn.put("x", "").delete("a");
        assert_eq!(
            store.txn(txn.clone()).ok(),
            Some(Outcome::Conflict),
            "{txn:?}"
        );
        assert_eq!(
            (store.get("x"), value(store, "a")),
            (None, Some("1".into())),
            "{txn:?}"
        );
    }
    let all = Txn::new()
        .exists("a")
        .mod_rev("a", revision)
        .absent("b")
        .put("x", "")
        .delete("a");
    committed(store.txn(all));
    assert_eq!(
        (value(store, "x"), store.get("a")),
        (Some(String::new()), None)
    );
}

fn a_leader_is_elected_once_and_fences_its_writes(store: &impl Contract) {
    let (one, two) = (
        store.grant(Duration::from_secs(10)),
        store.grant(Duration::from_secs(20)),
    );
    let run = |me: &str, lease| {
        store.txn(
            Txn::new()
                .absent("leader")
                .put_leased("leader", me.to_owned(), lease),
        )
    };
    let term = committed(run("one", one));
    assert_eq!(run("two", two).ok(), Some(Outcome::Conflict));
    let write = || store.txn(Txn::new().mod_rev("leader", term).put("plan", "by one"));
    committed(write());
    store.pass(Duration::from_secs(11));
    assert_eq!(
        write().ok(),
        Some(Outcome::Conflict),
        "the leader of before is fenced"
    );
    committed(run("two", two));
    assert_eq!(
        write().ok(),
        Some(Outcome::Conflict),
        "a new term is another revision"
    );
    assert_eq!(value(store, "leader"), Some("two".into()));
}

fn pages_go_through_a_prefix_in_order(store: &impl Contract) {
    for key in ["p/3", "p/1", "p", "p/2", "q/1", "o/9", "p/10", "p/1\0"] {
        put(store, key, key);
    }
    let page = store.range("p/", None, 2);
    assert_eq!(
        (keys(&page), page.more),
        (vec!["p/1".into(), "p/1\0".into()], true)
    );
    let page = store.range("p/", Some("p/1\0"), 2);
    assert_eq!(
        (keys(&page), page.more),
        (vec!["p/10".into(), "p/2".to_owned()], true)
    );
    let page = store.range("p/", Some("p/2"), 2);
    assert_eq!((keys(&page), page.more), (vec!["p/3".to_owned()], false));
    let page = store.range("p/", Some("p/9"), 2);
    assert_eq!((keys(&page), page.more), (vec![], false));
    let page = store.range("p/", Some("a"), 1);
    assert_eq!(
        (keys(&page), page.more),
        (vec!["p/1".to_owned()], true),
        "after lies before all"
    );
    let page = store.range("p/", None, 5);
    assert_eq!(
        (page.items.len(), page.more),
        (5, false),
        "exactly the last one is no more"
    );
    assert_eq!(store.range("", None, 100).items.len(), 8);
    assert_eq!(store.range("z", None, 100).items, vec![]);
}

/// Whether a refusal is for the reason it should be.
type Right = fn(&LimitError) -> bool;

fn limits_refuse_the_whole_transaction(store: &impl Contract) {
    let many = |count: usize| (0..count).fold(Txn::new(), |txn, n| txn.put(format!("k{n}"), "v"));
    committed(store.txn(many(MAX_OPS)));
    let full = |bytes: usize| {
        let whole = bytes / MAX_VALUE_BYTES;
        (0..whole).fold(Txn::new(), |txn, n| {
            txn.put(format!("l{n:02}"), vec![7; MAX_VALUE_BYTES - 3])
        })
    };
    committed(store.txn(full(MAX_TXN_BYTES)));
    let large = full(MAX_TXN_BYTES).put("l", "");
    let refused: [(Txn, Right); 6] = [
        (many(MAX_OPS + 1), |e| {
            matches!(e, LimitError::TooManyOps { got: 101 })
        }),
        (large, |e| matches!(e, LimitError::TxnTooLarge { .. })),
        (Txn::new().put("x", vec![0; MAX_VALUE_BYTES + 1]), |e| {
            matches!(e, LimitError::ValueTooLarge { .. })
        }),
        (Txn::new().put("x", "1").delete("x"), |e| {
            matches!(e, LimitError::KeyTwice { .. })
        }),
        (Txn::new().put("x", "").put("", "v"), |e| {
            matches!(e, LimitError::EmptyKey)
        }),
        (Txn::new().put("x", "").exists(vec![b'k'; 2000]), |e| {
            matches!(e, LimitError::KeyTooLarge { .. })
        }),
    ];
    for (n, (txn, is_right)) in refused.into_iter().enumerate() {
        match store.txn(txn) {
            Err(CommitError::Limit(error)) => assert!(is_right(&error), "{n}: {error}"),
            other => panic!("{n}: {other:?}"),
        }
        assert_eq!(store.get("x"), None, "{n}");
    }
}

fn a_watch_sees_every_change_in_order(store: &impl Contract) {
    let first = put(store, "w/a", "1");
    put(store, "other", "-");
    committed(store.txn(Txn::new().put("w/b", "2").delete("other").put("w/a", "3")));
    committed(store.txn(Txn::new().delete("w/b")));
    let events = store.events("w/", first, 4).expect("kept");
    let seen: Vec<(String, Option<String>)> = events.iter().map(shown).collect();
    let some = |text: &str| Some(text.to_owned());
    let expected = [
        ("w/a", some("1")),
        ("w/b", some("2")),
        ("w/a", some("3")),
        ("w/b", None),
    ];
    assert_eq!(seen, expected.map(|(key, value)| (key.to_owned(), value)));
    let later = store.events("w/", first.next(), 3).expect("kept");
    assert_eq!(
        later[..],
        events[1..],
        "a watch begins at the revision asked for"
    );
}

fn a_watch_of_the_future_waits_for_it(store: &impl Contract) {
    let page = store.range("w/", None, 10);
    let revision = put(store, "w/a", "1");
    let events = store.events("w/", page.revision.next(), 1).expect("kept");
    assert_eq!(events.len(), 1);
    assert!(matches!(&events[0], Event::Put(item) if item.record.mod_rev == revision));
}

fn leased_records_go_with_their_lease(store: &impl Contract) {
    let (short, long) = (
        store.grant(Duration::from_secs(5)),
        store.grant(Duration::from_secs(50)),
    );
    let txn = Txn::new()
        .put_leased("l/a", "", short)
        .put_leased("l/b", "", short);
    let revision = committed(store.txn(txn.put_leased("l/c", "", long).put("l/d", "")));
    assert_eq!(store.get("l/a").and_then(|r| r.lease), Some(short));
    store.pass(Duration::from_secs(4));
    assert_eq!(store.range("l/", None, 9).items.len(), 4);
    store.pass(Duration::from_secs(2));
    assert_eq!(keys(&store.range("l/", None, 9)), ["l/c", "l/d"]);
    let events = store.events("l/", revision.next(), 2).expect("kept");
    let gone: Vec<String> = events.iter().map(|event| shown(event).0).collect();
    assert_eq!(gone, ["l/a", "l/b"], "watchers see it as removals");
    store.revoke(long).expect("held");
    assert_eq!(keys(&store.range("l/", None, 9)), ["l/d"]);
}

fn a_lease_that_is_kept_alive_does_not_end(store: &impl Contract) {
    let lease = store.grant(Duration::from_secs(5));
    committed(store.txn(Txn::new().put_leased("l", "", lease)));
    for _ in 0..4 {
        store.pass(Duration::from_secs(4));
        store.keep_alive(lease).expect("held");
    }
    assert!(store.get("l").is_some());
    store.pass(Duration::from_secs(6));
    assert_eq!(store.get("l"), None);
}

fn a_put_without_lease_detaches_the_record(store: &impl Contract) {
    let (one, two) = (
        store.grant(Duration::from_secs(5)),
        store.grant(Duration::from_secs(5)),
    );
    committed(
        store.txn(
            Txn::new()
                .put_leased("l/a", "", one)
                .put_leased("l/b", "", one),
        ),
    );
    put(store, "l/a", "free");
    committed(store.txn(Txn::new().put_leased("l/b", "moved", two)));
    store.revoke(one).expect("held");
    assert_eq!(keys(&store.range("l/", None, 9)), ["l/a", "l/b"]);
    store.revoke(two).expect("held");
    assert_eq!(keys(&store.range("l/", None, 9)), ["l/a"]);
}

fn a_lease_that_is_not_held_is_refused(store: &impl Contract) {
    let lease = store.grant(Duration::from_secs(5));
    store.revoke(lease).expect("held");
    let unknown = |result: Result<(), CommitError>| {
        assert!(
            matches!(result, Err(CommitError::LeaseUnknown { id }) if id == lease),
            "{result:?}"
        );
    };
    unknown(store.keep_alive(lease));
    unknown(store.revoke(lease));
    unknown(
        store
            .txn(Txn::new().put("x", "").put_leased("y", "", lease))
            .map(|_| ()),
    );
    assert_eq!(store.get("x"), None, "nothing of it was applied");
}

fn put(store: &impl Contract, key: &str, value: &str) -> Revision {
    committed(store.txn(Txn::new().put(key.to_owned(), value.to_owned())))
}

#[track_caller]
fn committed(result: Result<Outcome, CommitError>) -> Revision {
    match result {
        Ok(Outcome::Committed(revision)) => revision,
        other => panic!("not committed: {other:?}"),
    }
}

fn value(store: &impl Contract, key: &str) -> Option<String> {
    store
        .get(key)
        .map(|found| String::from_utf8_lossy(&found.value).into_owned())
}

fn keys(page: &Page) -> Vec<String> {
    page.items
        .iter()
        .map(|item| String::from_utf8_lossy(&item.key).into_owned())
        .collect()
}

fn shown(event: &Event) -> (String, Option<String>) {
    let key = String::from_utf8_lossy(event.key()).into_owned();
    match event {
        Event::Put(item) => (
            key,
            Some(String::from_utf8_lossy(&item.record.value).into_owned()),
        ),
        Event::Delete { .. } => (key, None),
    }
}
