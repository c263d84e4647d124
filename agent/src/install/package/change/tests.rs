//! Records of changes: their form for ever, and what is found of them after a crash.

use super::*;

fn key(name: &str) -> Key {
    Key {
        name: name.to_owned(),
        arch: "amd64".to_owned(),
    }
}

fn change() -> Change {
    let mut change = Change::new(
        Family::Deb,
        "amd64".to_owned(),
        None,
        Some("2-0123456789ab".to_owned()),
    );
    change.touched = vec![
        Touched {
            key: key("jq"),
            before: Was::Installed {
                version: "1.6-2.1+deb12u2".to_owned(),
                arch: "amd64".to_owned(),
                automatic: true,
                file: Some("changes/2-0123456789ab/kept/jq.deb".into()),
            },
            after: Will::Be {
                version: "1.6-2.1+deb12u3".to_owned(),
                arch: "amd64".to_owned(),
                automatic: true,
                file: "releases/2-0123456789ab/jq.deb".into(),
            },
        },
        Touched {
            key: key("old"),
            before: Was::ConfigFiles,
            after: Will::Go { purge: false },
        },
    ];
    change.edited = vec!["/etc/jq.conf".to_owned()];
    change.boot = "b1".to_owned();
    change.holds = vec![Held {
        key: key("jq"),
        version: "1.6-2.1+deb12u3".to_owned(),
    }];
    change
}

/// What version 1 of the record looks like, for ever.
const GOLDEN: &str = r#"{"format":1,"family":"deb","native":"amd64","from":null,"to":"2-0123456789ab","touched":[{"key":{"name":"jq","arch":"amd64"},"before":{"was":"installed","version":"1.6-2.1+deb12u2","arch":"amd64","automatic":true,"file":"changes/2-0123456789ab/kept/jq.deb"},"after":{"will":"be","version":"1.6-2.1+deb12u3","arch":"amd64","automatic":true,"file":"releases/2-0123456789ab/jq.deb"}},{"key":{"name":"old","arch":"amd64"},"before":{"was":"config_files"},"after":{"will":"go","purge":false}}],"holds":[{"key":{"name":"jq","arch":"amd64"},"version":"1.6-2.1+deb12u3"}],"newer_kept":false,"edited":["/etc/jq.conf"],"boot":"b1","ended":false}"#;

#[test]
fn a_record_of_version_1_is_read_and_written() {
    let read: Change = serde_json::from_str(GOLDEN).unwrap();
    assert_eq!(read, change());
    assert_eq!(serde_json::to_string(&read).unwrap(), GOLDEN);
}

#[test]
fn a_change_is_pending_from_its_record_until_it_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let changes = Changes::new(dir.path());
    assert_eq!(changes.pending().unwrap(), None);
    let mut change = change();
    changes.put(&change).unwrap();
    changes.put_origin(&change).unwrap();
    assert_eq!(changes.pending().unwrap(), Some(change.clone()));
    change.ended = true;
    changes.put(&change).unwrap();
    assert_eq!(changes.pending().unwrap(), None);
    assert_eq!(
        changes.to(change.to.as_deref()).unwrap(),
        Some(change.clone())
    );
    changes.sweep(&["3-0123456789ab".to_owned()]).unwrap();
    assert_eq!(changes.to(change.to.as_deref()).unwrap(), None);
    assert!(changes.origin().unwrap().is_some());
    changes.sweep(&[]).unwrap();
    assert_eq!(changes.origin().unwrap(), None);
}

#[test]
fn a_damaged_record_is_an_error_and_never_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let changes = Changes::new(dir.path());
    let change = change();
    changes.put(&change).unwrap();
    let file = dir.path().join("changes/2-0123456789ab/change.json");
    for damage in [
        "",
        "{\"format\":1",
        &GOLDEN.replace("\"format\":1", "\"format\":2"),
    ] {
        fs::write(&file, damage).unwrap();
        assert!(matches!(
            changes.pending(),
            Err(PackageError::Record { .. })
        ));
    }
}
