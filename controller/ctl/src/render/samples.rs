//! Messages that tests show: one fleet in the middle of things.

use std::collections::HashMap;

use comber_proto::agent::v1::{ActualState, AgentState, Disk, Facts, InstalledRelease};
use comber_proto::event::v1::Event;
use comber_proto::host::v1::{
    Host, HostExplanation, HostRollout, ListPackagesResponse, Package, PackageSummary,
};
use comber_proto::release::v1::Release;
use comber_proto::rollout::v1::{
    Halt, HeldHosts, Hold, Member, Outcomes, RollBack, Rollout, RolloutState, Wave, WaveHolds,
};

use super::View;

/// The present moment of every sample.
pub(crate) const NOW: &str = "2026-11-24T12:00:00Z";

/// `NOW` less so many seconds.
#[expect(clippy::unnecessary_wraps, reason = "fields of messages are optional")]
pub(crate) fn ago(seconds: i64) -> Option<prost_types::Timestamp> {
    let now: jiff::Timestamp = NOW.parse().unwrap();
    Some(prost_types::Timestamp {
        seconds: now.as_second() - seconds,
        nanos: 123_456_789,
    })
}

pub(crate) fn view(width: usize) -> View {
    View {
        width: Some(width),
        color: false,
        now: NOW.parse().unwrap(),
    }
}

pub(crate) fn outcomes(
    succeeded: u32,
    failed: u32,
    pending: u32,
    unreached: u32,
    excluded: u32,
) -> Outcomes {
    Outcomes {
        succeeded,
        failed,
        pending,
        unreached,
        excluded,
        total: succeeded + failed + pending + unreached + excluded,
    }
}

fn wave(
    number: u32,
    name: &str,
    counts: Outcomes,
    opened: Option<i64>,
    in_flight: (u32, u32),
) -> Wave {
    Wave {
        number,
        name: name.to_owned(),
        outcomes: Some(counts),
        opened_at: opened.and_then(ago),
        good_since: None,
        in_flight: in_flight.0,
        max_in_flight: in_flight.1,
        activity: HashMap::new(),
    }
}

pub(crate) fn running() -> Rollout {
    let mut early = wave(
        2,
        "early adopters",
        outcomes(11, 1, 6, 2, 0),
        Some(900),
        (4, 5),
    );
    early.activity = HashMap::from([
        ("awaiting_permit".to_owned(), 2),
        ("verifying".to_owned(), 4),
    ]);
    let mut rest = wave(3, "everyone", outcomes(0, 0, 78, 0, 2), None, (0, 20));
    rest.activity = HashMap::from([("waiting".to_owned(), 78)]);
    Rollout {
        id: "r7".to_owned(),
        release: "webapp@2.4.1".to_owned(),
        state: RolloutState::Running.into(),
        since: ago(4000),
        author: "anna".to_owned(),
        created_at: ago(4100),
        started_at: ago(4000),
        outcomes: Some(outcomes(16, 1, 84, 2, 2)),
        waves: vec![
            wave(1, "canary", outcomes(5, 0, 0, 0, 0), Some(4000), (0, 2)),
            early,
            rest,
        ],
        failed_by_class: HashMap::from([("health".to_owned(), 1)]),
        excluded_by_reason: HashMap::from([("not_applicable".to_owned(), 2)]),
        spec:
            "release = \"webapp@2.4.1\"\nselector = 'labels.role == \"web\"'\n[[wave]]\nhosts = 5\n"
                .to_owned(),
        selector: "labels.role == \"web\"".to_owned(),
        priority: "medium".to_owned(),
        ..Rollout::default()
    }
}

pub(crate) fn halted() -> Rollout {
    let mut rollout = running();
    rollout.set_state(RolloutState::Halted);
    rollout.since = ago(60);
    rollout.outcomes = Some(outcomes(9, 4, 88, 2, 2));
    rollout.failed_by_class = HashMap::from([("health".to_owned(), 3), ("fetch".to_owned(), 1)]);
    rollout.halt = Some(Halt {
        at: ago(60),
        wave: 2,
        rule: "failure_budget".to_owned(),
        text: "failure budget spent: 4 of 13 finished hosts failed, at most 5% may".to_owned(),
    });
    rollout.roll_back = Some(RollBack {
        total: 9,
        wanted: 4,
        done: 4,
        failed: 1,
        impossible: 0,
    });
    rollout
}

pub(crate) fn completed(failed: u32) -> Rollout {
    let mut rollout = running();
    rollout.set_state(RolloutState::Completed);
    rollout.since = ago(0);
    rollout.outcomes = Some(outcomes(103 - failed, failed, 0, 0, 2));
    rollout.failed_by_class = match failed {
        0 => HashMap::new(),
        failed => HashMap::from([("health".to_owned(), failed)]),
    };
    rollout
}

pub(crate) fn draft() -> Rollout {
    Rollout {
        id: "r8".to_owned(),
        release: "webapp@2.4.2".to_owned(),
        state: RolloutState::Draft.into(),
        since: ago(5),
        author: "ben".to_owned(),
        created_at: ago(5),
        ..Rollout::default()
    }
}

pub(crate) fn member(host: &str, outcome: &str, reason: &str, detail: &str) -> Member {
    Member {
        host: host.to_owned(),
        wave: 2,
        outcome: outcome.to_owned(),
        reason: reason.to_owned(),
        detail: detail.to_owned(),
        since: ago(130),
        attempts: 1,
        agent_state: "rolled_back".to_owned(),
        before: "2.4.0".to_owned(),
        roll_back: String::new(),
    }
}

pub(crate) fn failed_member() -> Member {
    member(
        "web-7.fra.example",
        "failed",
        "health",
        "check page: http://localhost:8080/ answered 500, expected 200, 5 times in a row",
    )
}

pub(crate) fn hold(rule: &str, text: &str, seconds_left: Option<i64>) -> Hold {
    Hold {
        rule: rule.to_owned(),
        text: text.to_owned(),
        until: seconds_left.and_then(|left| ago(-left)),
    }
}

pub(crate) fn wave_holds() -> Vec<WaveHolds> {
    let busy = hold(
        "in_flight",
        "4 hosts of the wave are in flight, at most 5 (25%) may be",
        None,
    );
    vec![
        WaveHolds {
            number: 2,
            holds: Vec::new(),
            hosts: vec![HeldHosts {
                hold: Some(busy),
                count: 2,
                example: "web-9.fra.example".to_owned(),
            }],
        },
        WaveHolds {
            number: 3,
            holds: vec![hold(
                "soaking",
                "wave 3 opens when wave 2 has stayed good for 30m, at 2026-11-24T12:22:10Z",
                Some(1330),
            )],
            hosts: Vec::new(),
        },
    ]
}

pub(crate) fn a_host(id: &str, connected: bool) -> Host {
    Host {
        id: id.to_owned(),
        labels: HashMap::from([
            ("role".to_owned(), "web".to_owned()),
            ("rack".to_owned(), "fra-12".to_owned()),
        ]),
        facts: Some(Facts {
            os_id: "debian".to_owned(),
            os_version: "12".to_owned(),
            kernel: "6.1.0-28-amd64".to_owned(),
            arch: "x86_64".to_owned(),
            cpu_count: 8,
            cpu_model: "EPYC 7402P".to_owned(),
            memory_bytes: 33_600_000_000,
            disk_bytes: 480_000_000_000,
            agent_version: "0.1.0".to_owned(),
            disks: vec![Disk {
                mount: "/".to_owned(),
                total_bytes: 480_000_000_000,
                free_bytes: 120_000_000_000,
            }],
            boot_id: "9f0c1a7e-6a1b-4d0e-9a53-0d6f2f1f4c11".to_owned(),
            booted_at: ago(864_000),
            failed_units: vec!["certbot.service".to_owned()],
            trust: "no_root".to_owned(),
            reboot_required: true,
            reboot_required_by: vec!["linux-image-amd64".to_owned(), "libc6".to_owned()],
            ..Facts::default()
        }),
        packages: Some(PackageSummary {
            digest: vec![0xab; 32],
            count: 482,
        }),
        connected,
        link_since: ago(7200),
        actual: Some(ActualState {
            state: AgentState::AwaitingPermit.into(),
            installed: vec![InstalledRelease {
                release: "webapp@2.4.0".to_owned(),
                ..InstalledRelease::default()
            }],
            ..ActualState::default()
        }),
        enrolled_at: ago(8_640_000),
        desired_generation: 41,
        desired_rollout: "r7".to_owned(),
        desired_release: "webapp@2.4.1".to_owned(),
        ..Host::default()
    }
}

pub(crate) fn package_list() -> ListPackagesResponse {
    let package = |purl: &str, name: &str, version: &str| Package {
        purl: purl.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        arch: "amd64".to_owned(),
    };
    let stdcpp = "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64";
    let openssl = "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64";
    ListPackagesResponse {
        packages: vec![
            package(stdcpp, "libstdc++6", "12.2.0-14"),
            package(openssl, "openssl", "3.0.11-1~deb12u2"),
        ],
        next_page_token: String::new(),
        summary: Some(PackageSummary {
            digest: vec![0xab; 32],
            count: 2,
        }),
    }
}

pub(crate) fn host_rollout() -> HostRollout {
    HostRollout {
        rollout: "r7".to_owned(),
        release: "webapp@2.4.1".to_owned(),
        member: Some(failed_member()),
    }
}

pub(crate) fn explanation(member: Member, holds: Vec<Hold>) -> HostExplanation {
    HostExplanation {
        rollout: "r7".to_owned(),
        release: "webapp@2.4.1".to_owned(),
        member: Some(member),
        holds,
    }
}

pub(crate) fn a_release() -> Release {
    Release {
        id: "webapp@2.4.1".to_owned(),
        digest: vec![0xab; 32],
        length: 48_000_000,
        carried_length: 12_345_678,
        published_at: ago(90_000),
        published_by: "anna".to_owned(),
        summary: "fixes the login page and closes an open redirect".to_owned(),
        severity: "important".to_owned(),
        category: "security".to_owned(),
        manifest: "name = \"webapp\"\nversion = \"2.4.1\"\n".to_owned(),
        rollouts: vec!["r7".to_owned()],
        listing: comber_proto::release::v1::Listing::Listed.into(),
        counter: 17,
        floor: 12,
    }
}

pub(crate) fn some_events() -> Vec<Event> {
    let event = |number, seconds, kind: &str, host: &str, actor: &str, text: &str| Event {
        number,
        at: ago(seconds),
        kind: kind.to_owned(),
        rollout: "r7".to_owned(),
        host: host.to_owned(),
        actor: actor.to_owned(),
        text: text.to_owned(),
        ..Event::default()
    };
    let mut changed = event(12, 130, "outcome_changed", "web-7.fra.example", "", "");
    changed.outcome_before = "pending".to_owned();
    changed.outcome_after = "failed(health)".to_owned();
    changed.outcomes = Some(outcomes(16, 1, 84, 2, 2));
    let mut opened = event(
        11,
        900,
        "wave_opened",
        "",
        "",
        "wave 2 (early adopters) opened: 20 hosts",
    );
    opened.wave = 2;
    vec![
        event(10, 4000, "rollout_started", "", "anna", "r7 started"),
        opened,
        changed,
    ]
}

/// What signing a list came to.
pub(crate) fn signed() -> comber_trust::publisher::Progress {
    let version = std::num::NonZeroU64::new(17).expect("not zero");
    vec![(comber_trust::RoleType::Targets, version, 1, 1)]
}
