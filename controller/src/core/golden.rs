//! Every record kind as this version writes it, against a file that stays for ever: what was written once must be read
//! by every later version, to the same value.
//!
//! `COMBER_ACCEPT=1` writes the file of a kind that has none yet. A file that is there is never written again.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use comber_model::assignment::Desired;
use comber_model::calendar::{Freeze, FreezeTime};
use comber_model::disruption::{DisruptionBudget, Lock};
use comber_model::event::{Event, EventKind};
use comber_model::facts::DiskFacts;
use comber_model::host::AttemptStatus;
use comber_model::packages::PackageSummary;
use comber_model::release::{Manifest, Release};
use comber_model::rollout::{
    AttemptClock, ExcludedReason, Halt, HaltReason, Member, MemberState, Outcome, Outcomes,
    RollBack, RollBackScope, Rollout, RolloutSpec, RolloutState, WaveProgress,
};
use comber_model::{
    Action, AgentState, Amount, Artifact, Assignment, BarReason, Barred, Digest, Facts, Failure,
    FailureClass, Generation, Grant, Host, HostStatus, Installed, IssuedCertificate, Labels, Nonce,
    Report, ReportResult, RolloutId,
};
use comber_runtime::token::SecretHash;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::meta::Meta;
use super::packages::PackagePart;
use super::records::{decode, encode};
use super::revocations::Revocation;
use super::tokens::Token;
use super::trust::{Head, Kept};
use crate::pki::tokens::{TokenKind, TokenRecord};

#[expect(
    clippy::disallowed_methods,
    reason = "accepting new files is asked for by environment"
)]
fn accepts() -> bool {
    std::env::var_os("COMBER_ACCEPT").is_some()
}

#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, record: &T) {
    let place = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let path = place.join(format!("{name}.json"));
    if !path.exists() && accepts() {
        fs::create_dir_all(&place).unwrap();
        fs::write(&path, encode(record)).unwrap();
    }
    let stored = fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; write it with COMBER_ACCEPT=1", path.display())
    });
    let read: T = decode(name.as_bytes(), &stored).unwrap();
    assert_eq!(
        &read, record,
        "{name} is read as something else than it was"
    );
    let (old, new) = (json(&stored), json(&encode(record)));
    assert_eq!(old["v"], new["v"], "{name} is written in another version");
    // A version before this one, started again after an upgrade that went wrong, finds what it knows.
    kept(name, &old["d"], &new["d"]);
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

/// What was written is still written, at the same place; a field may be added.
#[track_caller]
fn kept(place: &str, old: &serde_json::Value, new: &serde_json::Value) {
    let (Some(fields), Some(_)) = (old.as_object(), new.as_object()) else {
        assert_eq!(old, new, "{place} is written in another form");
        return;
    };
    for (field, value) in fields {
        kept(&format!("{place}.{field}"), value, &new[field]);
    }
}

/// Each word is read, and written again as it was.
#[track_caller]
fn words<T: Serialize + DeserializeOwned>(words: &str) {
    for word in words.split_whitespace() {
        let written = serde_json::Value::from(word);
        let read: T = serde_json::from_value(written.clone())
            .unwrap_or_else(|error| panic!("{word} is not read any more: {error}"));
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn artifact() -> Artifact {
    Artifact {
        digest: Digest([0xab; 32]),
        length: 4096,
        carried_length: 1024,
    }
}

fn grant() -> Grant {
    Grant {
        nonce: Nonce(u64::MAX),
        granted_at: at(5),
        ttl: Duration::from_secs(61),
    }
}

fn failure() -> Failure {
    Failure::new(FailureClass::Health, "check page: status 500, expected 200")
}

#[test]
fn counters() {
    let meta = Meta {
        generation: Generation(9),
        next_rollout: 4,
        next_event: 77,
        oldest_event: 3,
    };
    golden("meta", &meta);
}

#[test]
fn trust() {
    golden(
        "trust_head",
        &Head {
            number: 3,
            pieces: 7,
        },
    );
    let text = |name: &str| Some(format!("{{\"signed\":\"{name}\"}}"));
    let kept = Kept {
        pinned: Digest([0xcd; 32]),
        roots: BTreeMap::from([(1, "{}".to_owned()), (2, "{\"signed\":2}".to_owned())]),
        timestamp: text("timestamp"),
        snapshot: text("snapshot"),
        targets: text("targets"),
        trusted_at: Some(at(9)),
        once: BTreeMap::from([("webapp@2.4.0".parse().unwrap(), 12)]),
        imported_at: at(10),
        imported_by: "ada".to_owned(),
    };
    golden("trust", &kept);
}

#[test]
fn hosts() {
    let labels = [("role".to_owned(), "web".to_owned())];
    let facts = Facts {
        kernel: "6.1".into(),
        memory_bytes: 8 << 30,
        ..Facts::default()
    };
    let host = Host {
        id: "web-1".parse().unwrap(),
        labels: Labels::default().edited(labels, []).unwrap(),
        facts,
        packages: None,
        enrolled_at: at(0),
        retired_at: Some(at(9)),
        certificate: Digest([1; 32]),
        certificates_since: at(0),
        barred: None,
        issued: Vec::new(),
    };
    golden("host", &host);
    let disk = DiskFacts {
        total_bytes: 2000,
        free_bytes: 900,
    };
    let facts = Facts {
        disks: [("/var".to_owned(), disk)].into(),
        boot_id: "56e6".into(),
        booted_at: Some(at(60)),
        failed_units: vec!["cron.service".into()],
        reboot_required: true,
        reboot_required_by: vec!["linux-image-amd64".into()],
        ..host.facts.clone()
    };
    let packages = Some(PackageSummary {
        digest: Digest([0xcd; 32]),
        count: 480,
    });
    let host = Host {
        facts,
        packages,
        retired_at: None,
        ..host
    };
    golden("host_with_packages", &host);
}

#[test]
fn hosts_with_certificates_and_bars() {
    let issued = IssuedCertificate {
        serial: "4a0fb1".into(),
        not_after: at(99),
        ca: Digest([0xca; 32]),
    };
    let barred = Barred {
        since: at(9),
        reason: BarReason::Cloned,
        detail: "two machines".into(),
    };
    let host = Host {
        id: "web-1".parse().unwrap(),
        labels: Labels::default(),
        facts: Facts::default(),
        packages: None,
        enrolled_at: at(0),
        retired_at: None,
        certificate: Digest([1; 32]),
        certificates_since: at(0),
        barred: Some(barred),
        issued: vec![issued],
    };
    let written: Host = decode(b"host", &encode(&host)).unwrap();
    assert_eq!(written, host);
    words::<BarReason>("revoked cloned");
    let revocation = Revocation {
        serial: "4a0fb1".into(),
        subject: Some("spiffe://comber/host/web-1".into()),
        not_after: Some(at(99)),
        at: at(9),
        by: Some("ada".into()),
    };
    golden("revocation", &revocation);
}

#[test]
fn parts_of_packages() {
    let tails = ["openssl@3.0.11-1?arch=amd64", "libc%2B%2B@1?arch=i386"];
    let packages = tails.map(str::to_owned).to_vec();
    let part = PackagePart {
        packages: [("pkg:deb/debian/".to_owned(), packages)].into(),
    };
    golden("package_part", &part);
}

#[test]
fn desired_states() {
    let assignment = Assignment {
        rollout: RolloutId(7),
        release: "webapp@2.4.1".parse().unwrap(),
        action: Action::Install {
            artifact: artifact(),
        },
        rolls_back: false,
        attempt: 2,
        retry_bad: true,
        disconnected: false,
    };
    let desired = Desired {
        generation: Generation(41),
        assignment: Some(assignment.clone()),
        grant: Some(grant()),
        acknowledged: 3,
    };
    golden("desired", &desired);
    let removal = Assignment {
        action: Action::Remove,
        rolls_back: true,
        ..assignment
    };
    let desired = Desired {
        assignment: Some(removal),
        grant: None,
        ..desired
    };
    golden("desired_removal", &desired);
}

#[test]
fn what_hosts_say() {
    let report = |number, result| Report {
        number,
        generation: Generation(41),
        rollout: RolloutId(7),
        release: "webapp@2.4.1".parse().unwrap(),
        attempt: 1,
        result,
        started_at: at(1),
        finished_at: at(2),
    };
    let installed = Installed {
        version: "2.4.0".parse().unwrap(),
        digest: Digest([3; 32]),
        previous: Some("2.3".parse().unwrap()),
    };
    let status = HostStatus {
        generation: Generation(41),
        state: AgentState::AwaitingPermit,
        since: at(3),
        attempt: Some(AttemptStatus {
            generation: Generation(41),
            rollout: RolloutId(7),
            release: "webapp@2.4.1".parse().unwrap(),
            number: 1,
            nonce: Some(Nonce(9)),
        }),
        installed: [("webapp".parse().unwrap(), installed)].into(),
        locally_bad: vec!["webapp@2.3.9".parse().unwrap()],
        reports: vec![
            report(1, ReportResult::Committed),
            report(2, ReportResult::NotActivated { failure: failure() }),
            report(3, ReportResult::RolledBack { failure: failure() }),
            report(4, ReportResult::Broken { failure: failure() }),
        ],
        boot_id: "b".into(),
        agent_version: "0.1.0".into(),
    };
    golden("status", &status);
}

#[test]
fn releases() {
    let source = "name = \"webapp\"\nversion = \"2.4.1\"\nrequires = [\"base@1\"]\nreboot = \"auto\"\n[installer]\ntype = \"archive\"\npath = \"/opt/webapp\"\nstart = [\"bin/x\"]\n[[check]]\nname = \"a\"\ntcp = { address = \"localhost:1\" }\n[[check]]\nname = \"b\"\nwhen = \"before\"\nexec = { command = [\"true\"] }\n";
    let release = Release {
        manifest: Manifest::parse(source).unwrap(),
        artifact: artifact(),
        published_at: at(1),
        published_by: "ada".into(),
    };
    golden("release", &release);
}

#[test]
fn rollouts() {
    let source = "release = \"webapp@2.4.1\"\nselector = \"true\"\non_halt = \"roll_back_all\"\n[budget]\nper_class = { health = \"1%\", reboot = 1 }\n[[wave]]\nname = \"canary\"\nhosts = 2\nsoak = \"30m\"\n[[wave]]\nhosts = { selector = 'host == \"a\"' }\n[[wave]]\nhosts = \"10%\"\n[[wave]]\nhosts = \"rest\"\n";
    let mut rollout = Rollout::draft(
        RolloutId(7),
        Arc::new(RolloutSpec::parse(source).unwrap()),
        "ada",
        at(0),
    );
    golden("rollout_draft", &rollout);
    rollout.state = RolloutState::RollingBack;
    rollout.started_at = Some(at(1));
    rollout.resumed_at = Some(at(2));
    rollout.waves = vec![
        WaveProgress {
            opened_at: Some(at(1)),
            good_since: Some(at(2))
        };
        4
    ];
    let max = Amount::Percent("0.5%".parse().unwrap());
    let reason = HaltReason::FailureBudget {
        failed: 1,
        finished: 2,
        max,
    };
    rollout.halt = Some(Halt {
        at: at(3),
        wave: 1,
        reason,
    });
    rollout.roll_back = Some(RollBackScope::WavesFrom {
        wave: 0,
        then: RolloutState::Halted,
    });
    golden("rollout_rolling_back", &rollout);
}

#[test]
fn members() {
    let states = BTreeMap::from([
        ("waiting", MemberState::Waiting),
        ("unreached", MemberState::Unreached { overdue: true }),
        ("received", MemberState::Received),
        ("activating", MemberState::Activating),
        ("backoff", MemberState::Backoff { until: at(9) }),
        ("succeeded", MemberState::Succeeded { already: false }),
        ("failed", MemberState::Failed { failure: failure() }),
        (
            "excluded",
            MemberState::Excluded {
                reason: ExcludedReason::Cancelled,
            },
        ),
    ]);
    for (name, state) in states {
        let member = Member {
            host: "web-1".parse().unwrap(),
            wave: 1,
            order: 5,
            state,
            since: at(1),
            attempts: 2,
            generation: Generation(41),
            before: Some(Some("2.3".parse().unwrap())),
            clock: Some(AttemptClock::Stopped {
                left: Duration::from_mins(3),
            }),
            grant: Some(grant()),
            last_failure: Some(failure()),
            roll_back: Some(RollBack::Failed { failure: failure() }),
        };
        golden(&format!("member_{name}"), &member);
    }
}

#[test]
fn events() {
    let event = Event {
        at: at(1),
        kind: EventKind::OutcomeChanged,
        rollout: Some(RolloutId(7)),
        wave: Some(1),
        host: Some("web-1".parse().unwrap()),
        actor: Some("ada".into()),
        text: "web-1 failed".into(),
        change: Some((
            Outcome::Pending,
            Outcome::Failed {
                class: FailureClass::Health,
            },
        )),
        outcomes: Some(Outcomes {
            failed: 1,
            total: 1,
            ..Outcomes::default()
        }),
    };
    golden("event", &event);
}

#[test]
fn tokens() {
    let record = TokenRecord {
        hash: SecretHash::from_bytes([7; 32]),
        kind: TokenKind::Host,
        uses_left: 3,
        expires: at(9),
        names: "web-*".parse().unwrap(),
    };
    let labels = [("role".to_owned(), "web".to_owned())];
    let token = Token {
        record,
        labels: Labels::default().edited(labels, []).unwrap(),
        created_by: "ada".into(),
        created_at: at(0),
    };
    golden("token", &token);
}

/// Words may be added here; one that stands here is in somebody's store.
#[test]
fn words_that_were_ever_stored() {
    words::<AgentState>(
        "idle fetching staged awaiting_permit activating rebooting verifying committed rolling_back rolled_back broken",
    );
    words::<RolloutState>("draft running paused halted rolling_back completed aborted");
    words::<FailureClass>(
        "fetch trust preflight install reboot health rollback timeout silent rejected",
    );
    words::<ExcludedReason>("not_applicable superseded cancelled retired no_longer_selected");
    words::<EventKind>(
        "host_enrolled host_labelled host_retired host_revoked host_cloned host_resolved enrolment_refused \
         enrolment_requested enrolment_rejected certificate_revoked ca_rotation_begun ca_rotation_switched \
         ca_rotation_finished operator_enrolled token_created token_revoked release_published \
         release_deleted rollout_created rollout_started rollout_paused rollout_resumed rollout_halted \
         rollout_rolling_back rollout_rolled_back rollout_completed rollout_aborted rollout_fenced wave_opened \
         wave_passed outcome_changed host_rolled_back freeze_added freeze_removed budget_set budget_deleted \
         lock_taken lock_released rollout_overdue repository_imported",
    );
    words::<TokenKind>("host operator");
}

#[test]
fn reasons_of_halts() {
    let (failed, finished, max) = (3, 20, Amount::Count(2));
    let success = "98%".parse().unwrap();
    let reasons = [
        HaltReason::ClassBudget {
            class: FailureClass::Reboot,
            failed,
            finished,
            max,
        },
        HaltReason::UnreachedBudget {
            unreached: 3,
            asked: 20,
            max,
        },
        HaltReason::GateImpossible {
            succeeded: 1,
            failed,
            counted: 20,
            success,
        },
        HaltReason::PlanRefused {
            finding: "a wave opens too early".into(),
        },
    ];
    for reason in reasons {
        let name = format!("halt_{}", reason.rule());
        let (at, wave) = (at(3), 1);
        golden(&name, &Halt { at, wave, reason });
    }
}

#[test]
fn freezes_and_times() {
    let when = |text: &str, title: Option<&str>| FreezeTime {
        when: text.parse().unwrap(),
        title: title.map(ToOwned::to_owned),
    };
    golden(
        "freeze",
        &Freeze {
            name: "year-end".parse().unwrap(),
            reason: "nobody is there".into(),
            zone: "Europe/Berlin".to_owned().try_into().unwrap(),
            times: vec![
                when("12-20..01-06", None),
                when(
                    "2026-11-26T00:00:00..2026-11-27T00:00:00 FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
                    Some("Thanksgiving"),
                ),
                when("2026-12-01T18:00..2026-12-02T06:00 UTC", None),
            ],
            author: "anna".into(),
            created_at: at(1),
        },
    );
    let spec = RolloutSpec::parse(
        r#"
release = "webapp@2.4.1"
selector = "true"
start_at = 2026-12-01T22:00:00
[windows]
allow = ["Mon..Fri 22:00-05:00", "second Tuesday 20:00-23:00"]
freeze = ["12-24..12-26"]
zone = "Europe/Berlin"
must_end_within = "30m"
until = "2026-12-24T12:00:00Z"
after_deadline = "ignore"
roll_back = "hold"
[[wave]]
hosts = "rest"
"#,
    );
    golden("rollout_spec_windows", &spec.unwrap());
}

#[test]
fn budgets_and_locks() {
    let budget = DisruptionBudget {
        name: "racks".parse().unwrap(),
        by: Some("labels.rack".parse().unwrap()),
        max: Amount::Percent("10%".parse().unwrap()),
        selector: Some("labels.role == \"web\"".into()),
        fleet_lock: true,
        reason: "two copies of everything".into(),
        author: "anna".into(),
        set_at: at(1),
    };
    golden("disruption_budget", &budget);
    let lock = Lock {
        id: "c988d2509fdf5cdcbed39037c56406fb".parse().unwrap(),
        group: "r1".parse().unwrap(),
        since: at(2),
    };
    golden("lock", &lock);
    let spec = RolloutSpec::parse(
        r#"
release = "webapp@2.4.1"
selector = "true"
priority = "high"
due = "minimum"
after = ["r1"]
[[wave]]
hosts = "rest"
spread = { by = "labels.rack", max = 1 }
"#,
    );
    golden("rollout_spec_order", &spec.unwrap());
}

#[test]
fn ways_back_and_clocks() {
    let ways = [
        ("wanted", RollBack::Wanted),
        ("done", RollBack::Done),
        (
            "impossible",
            RollBack::Impossible {
                why: "webapp@1 is not published any more".into(),
            },
        ),
    ];
    for (name, way) in ways {
        golden(&format!("roll_back_{name}"), &way);
    }
    golden("clock_running", &AttemptClock::Running { deadline: at(60) });
}
