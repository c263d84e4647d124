//! What is written reads back the same; what no agent or controller would write is refused by name.

use std::time::Duration;

use comber_proto::agent::v1 as wire;
use jiff::Timestamp;
use prost::Message as _;

use super::*;
use crate::assignment::Desired;
use crate::host::AttemptStatus;
use crate::{
    Action, AgentState, Artifact, Assignment, Failure, FailureClass, Generation, Grant, HostStatus,
    Installed, Nonce, Report, ReportResult,
};

fn desired(action: Action) -> Desired {
    Desired {
        generation: Generation(41),
        assignment: Some(Assignment {
            rollout: "r7".parse().unwrap(),
            release: "webapp@2.4.1".parse().unwrap(),
            action,
            rolls_back: false,
            attempt: 2,
            retry_bad: true,
            disconnected: false,
        }),
        grant: Some(Grant {
            nonce: Nonce(99),
            granted_at: Timestamp::UNIX_EPOCH,
            ttl: Duration::from_millis(61_500),
        }),
        acknowledged: 12,
    }
}

fn install() -> Action {
    let artifact = Artifact {
        digest: Digest([7; 32]),
        length: 1 << 40,
        carried_length: 1 << 39,
    };
    Action::Install { artifact }
}

fn report(number: u64, failure: Option<Failure>) -> Report {
    let result = match failure {
        Some(failure) => ReportResult::RolledBack { failure },
        None => ReportResult::Committed,
    };
    Report {
        number,
        generation: Generation(41),
        rollout: "r7".parse().unwrap(),
        release: "webapp@2.4.1".parse().unwrap(),
        attempt: 1,
        result,
        started_at: Timestamp::from_second(1_700_000_000).unwrap(),
        finished_at: Timestamp::from_second(1_700_000_060).unwrap(),
    }
}

fn status() -> HostStatus {
    let installed = Installed {
        version: "2.4.0".parse().unwrap(),
        digest: Digest([3; 32]),
        previous: Some("2.3".parse().unwrap()),
    };
    HostStatus {
        generation: Generation(41),
        state: AgentState::AwaitingPermit,
        since: Timestamp::from_second(1_700_000_000).unwrap(),
        attempt: Some(AttemptStatus {
            generation: Generation(41),
            rollout: "r7".parse().unwrap(),
            release: "webapp@2.4.1".parse().unwrap(),
            number: 1,
            nonce: Some(Nonce(99)),
        }),
        installed: [("webapp".parse().unwrap(), installed)].into(),
        locally_bad: vec!["webapp@2.3.9".parse().unwrap()],
        reports: vec![
            report(1, None),
            report(2, Some(Failure::new(FailureClass::Health, "no"))),
        ],
        boot_id: "b".into(),
        agent_version: "0.1.0".into(),
    }
}

#[test]
fn the_desired_state_reads_back_the_same() {
    for action in [install(), Action::Remove] {
        let desired = desired(action);
        let (epoch, read) = desired_from_wire(desired_to_wire([5; 16], &desired)).unwrap();
        assert_eq!((epoch, read), ([5; 16], desired));
    }
}

#[test]
fn the_actual_state_reads_back_the_same() {
    let status = status();
    assert_eq!(
        HostStatus::try_from(wire::ActualState::from(&status)).unwrap(),
        status
    );
    for state in AgentState::ALL {
        let status = HostStatus {
            state,
            ..status.clone()
        };
        assert_eq!(
            HostStatus::try_from(wire::ActualState::from(&status)).unwrap(),
            status
        );
    }
    for class in FailureClass::ALL {
        let failure = Failure::new(class, "why");
        assert_eq!(
            Failure::try_from(wire::Failure::from(failure.clone())).unwrap(),
            failure
        );
    }
}

#[test]
fn an_ordinary_message_stays_within_two_kilobytes() {
    let detail = "x".repeat(crate::failure::DETAIL_MAX);
    let failure = Failure::new(FailureClass::Health, detail);
    let status = HostStatus {
        reports: vec![report(9, Some(failure))],
        ..status()
    };
    assert!(wire::ActualState::from(&status).encoded_len() < 2000);
    assert!(desired_to_wire([5; 16], &desired(install())).encoded_len() < 2000);
}

#[track_caller]
fn refused(edit: impl FnOnce(&mut wire::ActualState), expected: &str) {
    let mut state = wire::ActualState::from(&status());
    edit(&mut state);
    assert_eq!(
        HostStatus::try_from(state).unwrap_err().to_string(),
        expected
    );
}

#[test]
fn a_bad_message_is_refused_by_the_name_of_its_field() {
    refused(|s| s.state = 0, "state: is missing");
    refused(|s| s.state = 77, "state: 77 is unknown");
    refused(|s| s.since = None, "since: is missing");
    refused(
        |s| s.boot_id = "x".repeat(65),
        "boot_id: must be at most 64 bytes without control characters",
    );
    refused(
        |s| s.installed.push(s.installed[0].clone()),
        "installed: webapp is there twice",
    );
    refused(
        |s| s.installed[0].digest = vec![1],
        "installed.digest: has 1 bytes, must be 32 (sha256)",
    );
    refused(
        |s| s.reports.reverse(),
        "reports: are not in the order of their numbers",
    );
    refused(
        |s| s.reports[1].failure = None,
        "reports[1].failure: is missing",
    );
    refused(
        |s| s.attempt.as_mut().unwrap().rollout = "7".into(),
        "attempt.rollout: \"7\" must be a rollout's number such as r7",
    );
    let many = |s: &mut wire::ActualState| s.locally_bad = vec!["a@1".into(); 17];
    refused(many, "locally_bad: has 17 entries, at most 16 are allowed");
}

#[test]
fn control_characters_in_a_detail_cannot_reach_a_terminal() {
    let wire = wire::Failure {
        class: wire::FailureClass::Health.into(),
        detail: "a\x1b[2Jb".into(),
    };
    assert_eq!(Failure::try_from(wire).unwrap().detail, "a [2Jb");
}

#[test]
fn a_duration_out_of_range_is_refused() {
    for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
        assert!(time::span("ttl", Some(prost_types::Duration { seconds, nanos })).is_err());
    }
    assert!(time::span("ttl", None).is_err());
}
