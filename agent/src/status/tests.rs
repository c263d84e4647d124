//! What people see, in whole.

use std::time::Duration;

use comber_machine::{BootId, Ledger, Moment, Now, Recipe, Request, State, Work};
use comber_model::{Action, Assignment, Failure, FailureClass, Generation, Nonce};
use comber_runtime::clock::Clock;
use jiff::Timestamp;

use super::*;

fn work() -> Work {
    let assignment = Assignment {
        rollout: "r7".parse().unwrap(),
        release: "webapp@2.4.1".parse().unwrap(),
        action: Action::Remove,
        rolls_back: false,
        attempt: 2,
        retry_bad: false,
        disconnected: false,
    };
    Work {
        assignment,
        generation: Generation(9),
        started_at: Timestamp::UNIX_EPOCH,
        before: None,
        began_in: None,
    }
}

fn now() -> Now {
    Now {
        wall: Timestamp::UNIX_EPOCH,
        boot: Duration::from_secs(100),
        boot_id: BootId("boot".into()),
        nonce: Nonce(1),
        connected: false,
    }
}

fn at(seconds: u64) -> Moment {
    Moment {
        boot_id: BootId("boot".into()),
        at: Duration::from_secs(seconds),
    }
}

fn told(state: State) -> String {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger {
        state,
        generation: Generation(9),
        ..Ledger::new(Timestamp::UNIX_EPOCH)
    };
    let controller = Some("https://c.example:7443/".to_owned());
    let report = Report::new(&ledger, dir.path(), controller, &Clock::system(), &now());
    let text = report.to_string();
    let text = text.replace(&dir.path().display().to_string(), "/state");
    serde_json::to_string(&report).unwrap();
    text
}

#[test]
fn a_host_that_verifies_says_until_when_and_what_then() {
    let state = State::Verifying {
        work: work(),
        recipe: Recipe::default(),
        activated: true,
        deadline: at(161),
        resumed: 0,
    };
    let expected = "\
host         not enrolled
controller   https://c.example:7443/
agent        not running
state        verifying, webapp@2.4.1 for r7, attempt 2
since        1970-01-01 00:00:00 UTC
waits for    the checks after activation, for 1m1s at most
next         keeps the release, or goes back
certificate  this host is not enrolled (/state/identity.toml does not exist); run comber-agent enroll --controller <url> --token <token>
trust        no_root: this host knows no publisher and installs nothing; hand it the publisher's root with: comber-agent trust init FILE
";
    assert_eq!(told(state), expected);
}

#[test]
fn a_host_without_a_permit_says_who_gives_it() {
    let awaiting = |request| State::AwaitingPermit {
        work: work(),
        recipe: Recipe::default(),
        request,
    };
    let request = Request {
        nonce: Nonce(5),
        asked: at(90),
    };
    assert!(told(awaiting(Some(request))).contains("waits for    a permit of the controller"));
    assert!(told(awaiting(None)).contains("waits for    the link to the controller"));
}

#[test]
fn a_broken_host_asks_for_a_person_and_says_why() {
    let failure = Failure::new(FailureClass::Rollback, "cannot start 2.4.0");
    let text = told(State::Broken { failure });
    assert!(
        text.contains("waits for    a person: rollback: cannot start 2.4.0\n"),
        "{text}"
    );
}

#[test]
fn a_deadline_of_another_boot_is_not_shown() {
    let deadline = Moment {
        boot_id: BootId("earlier".into()),
        at: Duration::from_secs(161),
    };
    let state = State::Staged {
        work: work(),
        recipe: Recipe::default(),
        deadline,
    };
    assert!(told(state).contains("waits for    the checks before activation\n"));
}
