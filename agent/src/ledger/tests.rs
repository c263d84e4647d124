//! What damage the ledger survives, and what it refuses.

use comber_machine::{BootId, Moment, Recipe, Request, Work};
use comber_model::{Action, Assignment, Generation, Nonce, RolloutId};

use super::*;

fn ledger(generation: u64) -> Ledger {
    let mut ledger = Ledger::new(Timestamp::UNIX_EPOCH);
    ledger.generation = Generation(generation);
    ledger
}

/// A ledger right before an activation.
fn awaiting(generation: u64) -> Ledger {
    let mut ledger = ledger(generation);
    ledger.state = State::AwaitingPermit {
        work: Work {
            assignment: Assignment {
                rollout: RolloutId(1),
                release: "webapp@1".parse().unwrap(),
                action: Action::Remove,
                rolls_back: false,
                attempt: 1,
                retry_bad: false,
                disconnected: false,
            },
            generation: Generation(generation),
            started_at: Timestamp::UNIX_EPOCH,
            before: None,
            began_in: None,
        },
        recipe: Recipe::default(),
        request: Some(Request {
            nonce: Nonce(1),
            asked: Moment {
                boot_id: BootId("a".to_owned()),
                at: std::time::Duration::from_secs(1),
            },
        }),
    };
    ledger
}

struct Case {
    dir: tempfile::TempDir,
    file: LedgerFile,
}

fn saved(ledgers: &[Ledger]) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let file = LedgerFile::new(dir.path());
    for ledger in ledgers {
        file.save(ledger).unwrap();
    }
    Case { dir, file }
}

impl Case {
    fn load(&self) -> Result<Loaded, LoadError> {
        self.file.load(Timestamp::UNIX_EPOCH)
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.file.current).unwrap()
    }
}

#[test]
fn a_host_without_a_ledger_gets_a_new_one() {
    let loaded = saved(&[]).load().unwrap();
    assert_eq!(loaded.source, Source::New);
    assert_eq!(loaded.ledger, ledger(0));
}

#[test]
fn the_ledger_saved_last_is_read_and_the_one_before_is_kept() {
    let case = saved(&[ledger(1), ledger(2), ledger(3)]);
    let loaded = case.load().unwrap();
    assert_eq!((loaded.ledger, loaded.source), (ledger(3), Source::Current));
    let Read::Whole(before) = read(&case.file.previous).unwrap() else {
        panic!("no ledger before");
    };
    assert_eq!(*before, ledger(2));
    let names = fs::read_dir(case.dir.path()).unwrap().count();
    assert_eq!(names, 2, "something else is left in the directory");
}

#[test]
fn every_cut_and_every_rotten_byte_is_noticed() {
    let case = saved(&[ledger(1), ledger(2)]);
    let whole = case.bytes();
    for length in 0..whole.len() {
        fs::write(&case.file.current, &whole[..length]).unwrap();
        let source = case.load().unwrap().source;
        assert!(matches!(source, Source::Previous { .. }), "cut at {length}");
    }
    for index in 0..whole.len() {
        let mut rotten = whole.clone();
        rotten[index] ^= 1;
        fs::write(&case.file.current, &rotten).unwrap();
        let source = case.load().unwrap().source;
        assert!(
            matches!(source, Source::Previous { .. }),
            "rotten at {index}"
        );
    }
}

#[test]
fn the_one_before_never_gives_a_known_number_to_another_report() {
    let mut second = ledger(2);
    second.next_report = 3;
    let case = saved(&[ledger(1), second]);
    fs::write(&case.file.current, b"").unwrap();
    let loaded = case.load().unwrap();
    assert_eq!(loaded.ledger.generation, Generation(1));
    assert!(
        loaded.ledger.next_report > 3,
        "{}",
        loaded.ledger.next_report
    );
}

#[test]
fn a_ledger_that_is_gone_is_a_damaged_one() {
    let case = saved(&[ledger(1), ledger(2)]);
    fs::remove_file(&case.file.current).unwrap();
    let source = case.load().unwrap().source;
    assert!(matches!(source, Source::Previous { .. }), "{source:?}");
}

#[test]
fn a_host_that_may_be_half_changed_is_left_to_a_person() {
    let case = saved(&[awaiting(1), ledger(2)]);
    fs::write(&case.file.current, b"{").unwrap();
    let error = case.load().unwrap_err().to_string();
    assert!(error.contains("right before an activation"), "{error}");
    assert!(error.contains("remove "), "no remedy in {error}");
}

#[test]
fn two_damaged_ledgers_are_refused_with_the_remedy() {
    let case = saved(&[ledger(1), ledger(2)]);
    fs::write(&case.file.current, b"").unwrap();
    fs::write(&case.file.previous, b"").unwrap();
    let error = case.load().unwrap_err().to_string();
    assert!(error.contains("so is the one before"), "{error}");
    assert!(error.contains("start the agent"), "no remedy in {error}");
}

#[test]
fn a_damaged_first_ledger_is_refused() {
    let case = saved(&[ledger(1)]);
    fs::write(&case.file.current, b"").unwrap();
    let error = case.load().unwrap_err().to_string();
    assert!(error.contains("there is none before it"), "{error}");
}

#[test]
fn a_newer_agents_ledger_is_not_replaced_by_an_older_one() {
    let case = saved(&[ledger(1), ledger(2)]);
    let json = br#"{"v":9,"ledger":{}}"#;
    let text = format!("{}\n{}\n", std::str::from_utf8(json).unwrap(), sum(json));
    fs::write(&case.file.current, text).unwrap();
    assert!(matches!(case.load(), Err(LoadError::TooNew(_))));
}

#[test]
fn a_file_that_grew_is_not_read_into_memory() {
    let case = saved(&[ledger(1), ledger(2)]);
    fs::write(&case.file.current, vec![b' '; 2 << 20]).unwrap();
    assert_eq!(case.load().unwrap().ledger.generation, Generation(1));
}

#[test]
fn what_a_crash_left_behind_is_overwritten() {
    let case = saved(&[ledger(1)]);
    // A crash after the link and before the new ledger leaves one file under two names.
    fs::hard_link(&case.file.current, &case.file.previous).unwrap();
    fs::write(&case.file.linked, b"half").unwrap();
    fs::write(case.dir.path().join(".ledger.json.tmp"), b"half").unwrap();
    case.file.save(&ledger(2)).unwrap();
    case.file.save(&ledger(3)).unwrap();
    assert_eq!(case.load().unwrap().ledger, ledger(3));
    let Read::Whole(before) = read(&case.file.previous).unwrap() else {
        panic!("no ledger before");
    };
    assert_eq!(*before, ledger(2));
}

#[test]
fn a_save_that_fails_leaves_the_ledger_as_it_was() {
    let case = saved(&[ledger(1), ledger(2)]);
    // A directory in the way of the temporary file stands for a full disk.
    fs::create_dir(case.dir.path().join(".ledger.json.tmp")).unwrap();
    let error = case.file.save(&ledger(3)).unwrap_err();
    assert_eq!(error.to_string(), "cannot save the ledger");
    assert_eq!(case.load().unwrap().ledger, ledger(2));
}
