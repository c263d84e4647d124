//! Notes that are kept, found again, of another attempt, or damaged.

use std::fs;
use std::time::Duration;

use comber_machine::BootId;
use comber_model::Action;

use super::*;

fn change(version: &str) -> Change {
    Change {
        release: format!("webapp@{version}").parse().unwrap(),
        action: Action::Remove,
        before: None,
        rolls_back: false,
    }
}

fn leave(seconds: u64) -> Moment {
    Moment {
        boot_id: BootId("boot-1".to_owned()),
        at: Duration::from_secs(seconds),
    }
}

fn noted() -> Before {
    Before {
        change: change("2"),
        leave: leave(60),
        boot_id: "boot-1".to_owned(),
        failed_units: Some(["bad.service".to_owned()].into()),
        reboot: Mark::default(),
    }
}

/// As version 1 is on disk, for ever.
const V1: &str = r#"{"v":1,"before":{"change":{"release":"webapp@2","action":{"type":"remove"},"before":null},"leave":{"boot_id":"boot-1","at":"1m"},"boot_id":"boot-1","failed_units":["bad.service"],"reboot":{"file":null,"restarting":null}}}"#;

#[test]
fn a_note_is_of_one_permit_of_one_change() {
    let dir = tempfile::tempdir().unwrap();
    let file = BeforeFile::new(dir.path());
    assert_eq!(file.of(&change("2")).unwrap(), None);
    assert!(!file.is_taken(&change("2"), &leave(60)));
    file.keep(&noted()).unwrap();
    assert_eq!(file.of(&change("2")).unwrap(), Some(noted()));
    assert!(file.is_taken(&change("2"), &leave(60)));
    assert!(!file.is_taken(&change("2"), &leave(61)), "another permit");
    assert_eq!(file.of(&change("3")).unwrap(), None);
    file.forget();
    file.forget();
    assert_eq!(file.of(&change("2")).unwrap(), None);
}

#[test]
fn version_1_is_read_and_written_as_ever() {
    let dir = tempfile::tempdir().unwrap();
    let file = BeforeFile::new(dir.path());
    file.keep(&noted()).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), V1);
    assert_eq!(file.of(&change("2")).unwrap(), Some(noted()));
}

#[test]
fn a_damaged_note_is_an_error_and_is_taken_anew_by_the_next_permit() {
    let dir = tempfile::tempdir().unwrap();
    let file = BeforeFile::new(dir.path());
    for text in ["", "{", "{\"v\":1}", &V1.replace("bad.service", "bad\u{1}")] {
        fs::write(dir.path().join(FILE), text).unwrap();
        let error = file.of(&change("2")).unwrap_err();
        assert!(matches!(error, BeforeError::Malformed { .. }), "{error}");
        assert!(!file.is_taken(&change("2"), &leave(60)));
    }
    fs::write(dir.path().join(FILE), "{\"v\":2}").unwrap();
    let error = file.of(&change("2")).unwrap_err();
    assert!(
        matches!(error, BeforeError::TooNew { found: 2, .. }),
        "{error}"
    );
    file.keep(&noted()).unwrap();
    assert_eq!(file.of(&change("2")).unwrap(), Some(noted()));
}
