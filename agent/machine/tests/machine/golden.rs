//! The ledger's form on disk, for ever: every agent must read what any older one wrote.
//!
//! `COMBER_ACCEPT=1` writes the file of a state that has none yet. A file that is there is never written again.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use comber_machine::{
    Bad, BootId, Ledger, LedgerError, Moment, Next, Product, Recipe, Request, State, Way, Work,
};
use comber_model::host::AttemptStatus;
use comber_model::release::RebootPolicy;
use comber_model::{
    Action, AgentState, Failure, FailureClass, Generation, Installed, Nonce, Report, ReportResult,
    RolloutId,
};
use jiff::Timestamp;

use crate::build;

const V1: &str = include_str!("golden/ledger-v1.json");

/// A ledger that uses every field.
fn full() -> Ledger {
    let at: Timestamp = "2026-11-24T08:00:00.5Z".parse().unwrap();
    let (one, two) = (build::release("webapp@1"), build::release("webapp@2"));
    let failure = Failure::new(FailureClass::Health, "the page is empty");
    let moment = Moment {
        boot_id: BootId("boot-1".to_owned()),
        at: Duration::from_millis(90_500),
    };
    let installed = Installed {
        version: one.version.clone(),
        digest: build::digest(&one),
        previous: Some("0.9".parse().unwrap()),
    };
    let work = Work {
        assignment: build::assignment(build::install(&two), two.clone()),
        generation: Generation(4),
        started_at: at,
        before: Some(installed.clone()),
        began_in: Some(BootId("boot-1".to_owned())),
    };
    let mut ledger = Ledger::new(at);
    ledger.epoch = Some(build::epoch(0xab));
    ledger.generation = Generation(5);
    ledger.state = State::Activating {
        work,
        recipe: build::recipe(RebootPolicy::Auto, false),
        leave: moment.clone(),
        deadline: moment,
        resumed: 1,
    };
    ledger.next = Some(Next {
        generation: Generation(5),
        assignment: Some(build::assignment(Action::Remove, two.clone())),
    });
    ledger.last = Some(AttemptStatus {
        generation: Generation(3),
        rollout: RolloutId(7),
        release: one.clone(),
        number: 2,
        nonce: Some(Nonce(9)),
    });
    let recipe = Recipe::default();
    ledger
        .installed
        .insert(one.name.clone(), Product { installed, recipe });
    ledger.locally_bad.push(Bad {
        release: two,
        failure: failure.clone(),
    });
    ledger
        .broken
        .insert("other".parse().unwrap(), failure.clone());
    ledger.reports.push(Report {
        number: 6,
        generation: Generation(3),
        rollout: RolloutId(7),
        release: one,
        attempt: 2,
        result: ReportResult::RolledBack { failure },
        started_at: at,
        finished_at: at,
    });
    ledger.next_report = 7;
    ledger.boot_id = BootId("boot-1".to_owned());
    ledger
}

/// The file is never edited: a change of shape is a new version with a file of its own.
#[test]
fn version_1_is_read_and_written_as_ever() {
    let written = String::from_utf8(full().to_json().unwrap()).unwrap();
    assert_eq!(written, V1.trim_end(), "the form on disk changed");
    assert_eq!(Ledger::from_json(V1.trim_end().as_bytes()).unwrap(), full());
}

#[test]
fn a_newer_version_is_refused_with_the_remedy() {
    let error = Ledger::from_json(br#"{"v":2,"ledger":{"anything":1}}"#).unwrap_err();
    assert!(matches!(error, LedgerError::TooNew { found: 2 }));
    assert!(error.to_string().contains("install an agent"), "{error}");
}

#[test]
fn a_torn_ledger_is_refused() {
    let whole = full().to_json().unwrap();
    for length in 0..whole.len() {
        assert!(
            Ledger::from_json(&whole[..length]).is_err(),
            "cut at {length}"
        );
    }
}

fn moment(seconds: u64) -> Moment {
    Moment {
        boot_id: BootId("boot-1".to_owned()),
        at: Duration::from_secs(seconds),
    }
}

fn work(began_in: Option<BootId>) -> Work {
    let release = build::release("webapp@2");
    Work {
        assignment: build::assignment(build::install(&release), release),
        generation: Generation(4),
        started_at: "2026-11-24T08:00:00Z".parse().unwrap(),
        before: None,
        began_in,
    }
}

/// Every state with all its fields, and both of its shapes where a field makes two.
fn states() -> Vec<(&'static str, State)> {
    let failure = Failure::new(FailureClass::Health, "the page is empty");
    let (recipe, deadline) = (build::recipe(RebootPolicy::Required, true), moment(700));
    let boot = BootId("boot-1".to_owned());
    let (fresh, begun) = (work(None), work(Some(boot.clone())));
    let rebooting = |way, again, refused: Option<&str>| State::Rebooting {
        work: begun.clone(),
        recipe: recipe.clone(),
        way,
        from: boot.clone(),
        deadline: deadline.clone(),
        again,
        refused: refused.map(str::to_owned),
    };
    let rolling_back = |lapsed, booted| State::RollingBack {
        work: begun.clone(),
        recipe: recipe.clone(),
        failure: failure.clone(),
        deadline: deadline.clone(),
        resumed: 2,
        lapsed,
        booted,
    };
    let awaiting = |request| State::AwaitingPermit {
        work: fresh.clone(),
        recipe: recipe.clone(),
        request,
    };
    let asked = Request {
        nonce: Nonce(u64::MAX),
        asked: moment(90),
    };
    let back = Way::Back {
        failure: failure.clone(),
    };
    vec![
        ("idle", State::Idle),
        (
            "fetching",
            State::Fetching {
                work: fresh.clone(),
            },
        ),
        (
            "staged",
            State::Staged {
                work: fresh.clone(),
                recipe: recipe.clone(),
                deadline: deadline.clone(),
            },
        ),
        ("awaiting_permit", awaiting(None)),
        ("awaiting_permit-asked", awaiting(Some(asked))),
        (
            "activating",
            State::Activating {
                work: begun.clone(),
                recipe: recipe.clone(),
                leave: moment(120),
                deadline: deadline.clone(),
                resumed: 1,
            },
        ),
        ("rebooting", rebooting(Way::Forward, None, None)),
        (
            "rebooting-refused",
            rebooting(back, Some(moment(95)), Some("busy")),
        ),
        (
            "verifying",
            State::Verifying {
                work: begun.clone(),
                recipe: recipe.clone(),
                activated: true,
                deadline: deadline.clone(),
                resumed: 1,
            },
        ),
        ("committed", State::Committed { report: 6 }),
        ("rolling_back", rolling_back(false, false)),
        ("rolling_back-lapsed", rolling_back(true, false)),
        ("rolling_back-booted", rolling_back(false, true)),
        ("rolled_back", State::RolledBack { report: 6 }),
        ("broken", State::Broken { failure }),
    ]
}

#[expect(
    clippy::disallowed_methods,
    reason = "accepting new files is asked for by environment"
)]
fn accepts() -> bool {
    std::env::var_os("COMBER_ACCEPT").is_some()
}

#[test]
fn a_host_is_taken_up_again_in_any_state_that_was_ever_written() {
    let place = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/machine/golden/ledger-v1");
    for (name, state) in states() {
        let mut ledger = Ledger::new("2026-11-24T08:00:00Z".parse().unwrap());
        ledger.state = state;
        let path = place.join(format!("{name}.json"));
        if !path.exists() && accepts() {
            fs::create_dir_all(&place).unwrap();
            fs::write(&path, ledger.to_json().unwrap()).unwrap();
        }
        let stored = fs::read(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; write it with COMBER_ACCEPT=1", path.display())
        });
        assert_eq!(Ledger::from_json(&stored).unwrap(), ledger, "{name}");
        let written = ledger.to_json().unwrap();
        let (written, stored) = (
            String::from_utf8_lossy(&written),
            String::from_utf8_lossy(&stored),
        );
        assert_eq!(written, stored, "the form of {name} on disk changed");
    }
}

#[test]
fn every_state_has_a_file() {
    let kinds: Vec<AgentState> = states().iter().map(|(_, state)| state.kind()).collect();
    for kind in AgentState::ALL {
        assert!(kinds.contains(&kind), "{kind:?} has no file");
    }
}
