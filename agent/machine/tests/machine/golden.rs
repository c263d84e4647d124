//! The ledger's form on disk, for ever: every agent must read what any older one wrote.

use std::time::Duration;

use comber_machine::{
    Bad, BootId, Ledger, LedgerError, Moment, Next, Product, Recipe, State, Work,
};
use comber_model::host::AttemptStatus;
use comber_model::release::RebootPolicy;
use comber_model::{
    Action, Failure, FailureClass, Generation, Installed, Nonce, Report, ReportResult, RolloutId,
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
