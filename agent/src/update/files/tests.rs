use std::os::unix::fs::MetadataExt as _;

use super::*;

fn order(to: &str) -> Order {
    Order {
        form: FORM,
        release: format!("comber-agent@{to}").parse().unwrap(),
        from: Side {
            slot: None,
            version: "1.0".to_owned(),
        },
        to: Side {
            slot: Some(format!("{to}-0123456789ab")),
            version: to.to_owned(),
        },
        proof: Some(Proof {
            healthy_for: Duration::from_mins(5),
            deadline: Duration::from_mins(15),
        }),
        service: ServiceKind::Systemd {
            unit: "comber-agent.service".to_owned(),
        },
        boot_id_file: "/proc/sys/kernel/random/boot_id".into(),
        ordered_at: "2026-11-24T10:00:00Z".parse().unwrap(),
    }
}

fn restore(why: &str) -> Decision {
    Decision::Restore {
        why: why.to_owned(),
    }
}

#[test]
fn the_first_decision_holds_whoever_decides_later() {
    let dir = tempfile::tempdir().unwrap();
    let files = UpdateFiles::new(dir.path());
    files.begin(&order("2.0")).unwrap();
    assert_eq!(files.decision().unwrap(), None);
    assert_eq!(files.decide(&Decision::Kept).unwrap(), Decision::Kept);
    assert_eq!(files.decide(&restore("late")).unwrap(), Decision::Kept);
    assert_eq!(files.decision().unwrap(), Some(Decision::Kept));
    let left = fs::read_dir(files.dir()).unwrap().count();
    assert_eq!(left, 2, "the order and the decision");
}

#[test]
fn of_many_who_decide_at_once_all_read_the_same() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let files = UpdateFiles::new(dir.path());
        files.begin(&order("2.0")).unwrap();
        // Processes have each a file of their own; threads share it, so each takes another program's part.
        let own = |name: &str| {
            let path = files.dir().join(name);
            fs::write(&path, serde_json::to_vec(&restore(name)).unwrap()).unwrap();
            let _ = fs::hard_link(path, files.dir().join("decided.json"));
            files.decision().unwrap()
        };
        let read: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = ["a", "b", "c"]
                .map(|name| scope.spawn(move || own(name)))
                .into();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap());
            joined.collect()
        });
        assert!(read.iter().all(|one| *one == read[0]), "{read:?}");
        assert_eq!(
            files.decide(&Decision::Kept).unwrap(),
            read[0].clone().unwrap()
        );
    }
}

#[test]
fn a_new_order_has_nothing_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let files = UpdateFiles::new(dir.path());
    fs::write(dir.path().join("ledger.json"), "old").unwrap();
    files.begin(&order("2.0")).unwrap();
    files.keep_ledger().unwrap();
    files.decide(&restore("it hung")).unwrap();
    files.tell(Seen::default());
    let phase = Phase::Restored {
        why: "it hung".to_owned(),
    };
    let form = FORM;
    files.proceed(&Progress { form, phase }).unwrap();
    files.note_launched(Child { pid: 7, began: 9 }).unwrap();
    files.begin(&order("3.0")).unwrap();
    assert_eq!(files.order().unwrap(), Some(order("3.0")));
    assert_eq!(files.progress().unwrap().phase, Phase::Switching);
    assert_eq!((files.decision().unwrap(), files.seen()), (None, None));
    assert!(!files.put_ledger_back().unwrap());
    assert!(files.launched_names().is_empty());
    let mode = fs::metadata(files.dir().join("order.json")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_kept_ledger_comes_back_with_the_one_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = UpdateFiles::new(dir.path());
    files.begin(&order("2.0")).unwrap();
    for name in ["ledger.json", "ledger.prev"] {
        fs::write(dir.path().join(name), format!("old {name}")).unwrap();
    }
    files.keep_ledger().unwrap();
    for name in ["ledger.json", "ledger.prev"] {
        fs::write(dir.path().join(name), "of a newer agent").unwrap();
    }
    assert!(files.put_ledger_back().unwrap());
    for name in ["ledger.json", "ledger.prev"] {
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(text, format!("old {name}"));
    }
}

#[test]
fn a_file_of_a_newer_form_is_named_as_such_and_a_damaged_one_too() {
    let dir = tempfile::tempdir().unwrap();
    let files = UpdateFiles::new(dir.path());
    files.begin(&order("2.0")).unwrap();
    let path = files.dir().join("order.json");
    fs::write(&path, "{\"form\": 7, \"everything\": \"else\"}").unwrap();
    let error = files.order().unwrap_err();
    assert!(
        matches!(error, UpdateError::TooNew { found: 7, .. }),
        "{error}"
    );
    for damaged in ["", "{", "{\"form\": 1}", "[]"] {
        fs::write(&path, damaged).unwrap();
        let error = files.order().unwrap_err();
        assert!(matches!(error, UpdateError::Damaged { .. }), "{error}");
    }
}

/// What an older watcher reads must not change: these are the files as the first version writes them.
#[test]
fn the_files_of_the_first_form_are_read_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let files = UpdateFiles::new(dir.path());
    fs::create_dir(files.dir()).unwrap();
    let golden = include_str!("golden/order-v1.json");
    fs::write(files.dir().join("order.json"), golden).unwrap();
    assert_eq!(files.order().unwrap(), Some(order("2.0")));
    let written = serde_json::to_string_pretty(&order("2.0")).unwrap();
    assert_eq!(written.trim(), golden.trim());
    let golden = include_str!("golden/progress-v1.json");
    fs::write(files.dir().join("progress.json"), golden).unwrap();
    let progress = files.progress().unwrap();
    let phase = Phase::Watching {
        boot_id: "56e6".to_owned(),
        deadline_ms: 900_000,
        until: "2026-11-24T10:15:00Z".parse().unwrap(),
        resumed: 1,
    };
    assert_eq!(progress, Progress { form: 1, phase });
    let written = serde_json::to_string_pretty(&progress).unwrap();
    assert_eq!(written.trim(), golden.trim());
    fs::write(
        files.dir().join("decided.json"),
        "{\"decided\": \"restore\", \"why\": \"it hung\"}",
    )
    .unwrap();
    assert_eq!(files.decision().unwrap(), Some(restore("it hung")));
}
