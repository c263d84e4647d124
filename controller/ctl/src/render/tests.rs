//! What people and programs see, word for word. `INSTA_UPDATE=always cargo nextest run -p comber-ctl` writes the files
//! anew; the diff is the review.

use comber_proto::enrolment::v1::{IdentityKind, Token};
use comber_proto::freeze::v1::{AddFreezeResponse, Freeze, FreezeTime};
use comber_proto::host::v1::{ExplainHostResponse, GetHostResponse, ListPackagesResponse};
use comber_proto::rollout::v1::{
    AwaitFenceResponse, ExplainRolloutResponse, PreviewExcluded, PreviewRolloutResponse,
    PreviewSpan, PreviewTimes, PreviewWave, RolloutState,
};
use console::measure_text_width;
use insta::assert_snapshot;
use tonic::{Code, Status};

use super::samples::*;
use super::*;
use crate::error::CliError;
use crate::exit::Exit;
use crate::status;

/// The text at 80 and at 120 columns, one above the other; no line is wider.
fn both(name: &str, text: impl Fn(&View) -> String) {
    let mut shown = String::new();
    for width in [80, 120] {
        let text = text(&view(width));
        for line in text.lines() {
            assert!(measure_text_width(line) <= width, "{width}: {line}");
        }
        shown.extend([format!("--- {width} columns\n"), text]);
    }
    assert_snapshot!(name, shown);
}

fn shape(name: &str, value: &impl serde::Serialize) {
    assert_snapshot!(name, serde_json::to_string_pretty(value).unwrap());
}

#[test]
fn rollout_tables() {
    let all = [draft(), running(), halted(), completed(0)];
    both("rollout_list", |view| rollouts(view, &all));
    both("rollout_list_empty", |view| rollouts(view, &[]));
    shape("rollout_list_json", &json::Rollouts::new(&all[1..2]));
    both("rollout_show", |view| rollout(view, &running()));
}

#[test]
fn rollout_status() {
    let holds: Vec<_> = wave_holds()
        .into_iter()
        .flat_map(|wave| wave.holds)
        .collect();
    let commands = ["comber rollout watch r7".to_owned()];
    both("rollout_status", |view| {
        status(view, &running(), &holds, &commands)
    });
    both("rollout_status_halted", |view| {
        status(view, &halted(), &[], &[])
    });
    shape(
        "rollout_status_json",
        &json::Status::new(&halted(), &holds, &commands),
    );
}

#[test]
fn outcomes_in_json_are_exactly_six() {
    let json = serde_json::to_value(json::Rollout::from(&running())).unwrap();
    let keys: Vec<&String> = json["outcomes"].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "excluded",
            "failed",
            "pending",
            "succeeded",
            "total",
            "unreached"
        ]
    );
    let counted: u64 = ["succeeded", "failed", "pending", "unreached", "excluded"]
        .iter()
        .map(|key| json["outcomes"][key].as_u64().unwrap())
        .sum();
    assert_eq!(json["outcomes"]["total"], counted);
}

#[test]
fn steering() {
    both("rollout_created", |view| {
        steered(
            view,
            &draft(),
            "created",
            &["comber rollout start r8".to_owned()],
        )
    });
    let mut open = AwaitFenceResponse {
        open: (1..=7).map(|n| format!("web-{n}")).collect(),
        open_count: 7,
        until: ago(-42),
        closed: false,
    };
    assert_snapshot!(fence(&view(80), "r7", &open), @"the fence is open: 7 hosts are able to activate (web-1, web-2, web-3, web-4, web-5, …); closed at the latest in 42s");
    open.closed = true;
    assert_snapshot!(fence(&view(80), "r7", &open), @"the fence is closed: no host can begin to activate on behalf of r7 any more");
    shape("fence_json", &json::Fence::new("r7", &open));
}

#[test]
fn plans() {
    let wave = |number: u32, name: &str, hosts: usize| PreviewWave {
        number,
        name: name.to_owned(),
        hosts: (1..=hosts)
            .map(|n| format!("web-{n}.fra.example"))
            .collect(),
        max_in_flight: u32::try_from(hosts.div_ceil(4)).unwrap(),
    };
    let preview = PreviewRolloutResponse {
        waves: vec![wave(1, "canary", 5), wave(2, "everyone", 20)],
        excluded: vec![PreviewExcluded {
            host: "db-1".to_owned(),
            reason: "not_applicable".to_owned(),
        }],
        exposed: 3,
        total: 25,
        bytes: 308_000_000,
        already: 2,
        disconnected: 1,
        starts_at: ago(-7200),
        times: vec![
            PreviewTimes {
                zone: "Europe/Berlin".to_owned(),
                hosts: 20,
                known: true,
                spans: vec![
                    PreviewSpan {
                        from: ago(-7200),
                        until: ago(-32_400),
                        text: "Tue 24 Nov 2026 22:00 to Wed 25 Nov 2026 05:00".to_owned(),
                    },
                    PreviewSpan {
                        from: ago(-90_000),
                        until: None,
                        text: "from Wed 25 Nov 2026 22:00 on".to_owned(),
                    },
                ],
            },
            PreviewTimes {
                zone: "Mars/Base".to_owned(),
                hosts: 1,
                known: false,
                spans: Vec::new(),
            },
            PreviewTimes {
                zone: "UTC".to_owned(),
                hosts: 4,
                known: true,
                spans: Vec::new(),
            },
        ],
    };
    both("plan", |view| plan(view, "webapp.toml", &preview, false));
    both("plan_all", |view| plan(view, "webapp.toml", &preview, true));
    both("plan_of_no_host", |view| {
        plan(
            view,
            "webapp.toml",
            &PreviewRolloutResponse::default(),
            false,
        )
    });
    shape("plan_json", &json::Plan::from(&preview));
}

#[test]
fn freeze_tables() {
    let freeze = |name: &str, whens: &[&str], next: Option<(i64, i64)>| Freeze {
        name: name.to_owned(),
        reason: "nobody is there".to_owned(),
        zone: "host".to_owned(),
        times: whens
            .iter()
            .map(|when| FreezeTime {
                when: (*when).to_owned(),
                title: String::new(),
            })
            .collect(),
        created_by: "anna".to_owned(),
        created_at: ago(60),
        next_from: next.and_then(|(from, _)| ago(from)),
        next_until: next.and_then(|(_, until)| ago(until)),
    };
    let all = [
        freeze("incident", &["2026-11-24"], Some((7200, -7200))),
        freeze("past", &["2020-01-01"], None),
        freeze(
            "year-end",
            &["12-20..01-06", "Sat", "Sun", "Fri"],
            Some((-864_000, -1_728_000)),
        ),
    ];
    both("freeze_list", |view| freezes(view, &all));
    both("freeze_list_empty", |view| freezes(view, &[]));
    let answer = AddFreezeResponse {
        freeze: None,
        open_permits: 3,
        fenced_at: ago(-65),
    };
    both("freeze_added", |view| freeze_added(view, &all[0], &answer));
    both("freeze_added_for_later", |view| {
        freeze_added(view, &all[2], &AddFreezeResponse::default())
    });
    shape(
        "freeze_added_json",
        &json::AddedFreeze::new(&all[2], &answer),
    );
}

#[test]
fn host_tables() {
    let mut never = a_host("db-1.fra.example", false);
    (never.link_since, never.actual, never.labels) = (None, None, std::collections::HashMap::new());
    let all = [
        a_host("web-1.fra.example", true),
        a_host("web-2.fra.example", false),
        never,
    ];
    both("host_list", |view| hosts(view, &all, 1200));
    both("host_list_empty", |view| hosts(view, &[], 0));
    shape("host_list_json", &json::Hosts::new(&all[..1], 1200));
    let detail = GetHostResponse {
        host: Some(a_host("web-7.fra.example", true)),
        rollouts: vec![host_rollout()],
    };
    both("host_show", |view| host(view, &detail));
    shape("host_show_json", &json::HostDetail::from(&detail));
    let (list, none) = (package_list(), ListPackagesResponse::default());
    both("host_packages", |view| packages(view, "web-7", &list));
    both("host_packages_none", |view| packages(view, "web-7", &none));
    shape(
        "host_packages_json",
        &json::HostPackages::new("web-7", &list),
    );
    shape(
        "host_packages_none_json",
        &json::HostPackages::new("web-7", &none),
    );
    let both_members = [
        failed_member(),
        member("web-9.fra.example", "pending", "", "waits for a permit"),
    ];
    both("rollout_hosts", |view| members(view, &both_members, true));
    shape(
        "rollout_hosts_json",
        &json::Members::new(&both_members, true),
    );
}

#[test]
fn release_tables() {
    both("release_list", |view| releases(view, &[a_release()]));
    both("release_show", |view| release(view, &a_release()));
    both("release_published", |view| {
        published(view, &a_release(), false, &signed())
    });
    both("release_published_before", |view| {
        published(view, &a_release(), true, &Vec::new())
    });
    shape(
        "release_published_json",
        &json::Published::new(&a_release(), false),
    );
}

#[test]
fn token_tables() {
    let token = Token {
        id: "3f2a9c01b7de".to_owned(),
        kind: IdentityKind::Host.into(),
        uses_left: 10,
        expires_at: ago(-7200),
        name_pattern: "web-*".to_owned(),
        created_by: "anna".to_owned(),
        created_at: ago(60),
        ..Token::default()
    };
    both("token_list", |view| {
        tokens(view, std::slice::from_ref(&token))
    });
    shape(
        "token_json",
        &json::NewToken::new(Some("cmb1_x".to_owned()), &token),
    );
    let note = token_note(&view(80), "https://c:7443", &token);
    assert_snapshot!(note, @"token 3f2a9c01b7de enrols a host under names like web-* 10 times, ends in 2h; it is not shown again");
}

#[test]
fn event_lines() {
    both("events", |view| events(view, &some_events()));
    shape("event_json", &json::Event::from(&some_events()[2]));
}

#[test]
fn live_frames() {
    let frame = |rollout, lost: Option<&str>| Frame {
        rollout,
        holds: wave_holds(),
        events: some_events(),
        lost: lost.map(str::to_owned),
    };
    let lines = |frame: &Frame, view: &View| super::frame(view, frame).join("\n") + "\n";
    both("watch_frame", |view| lines(&frame(running(), None), view));
    both("watch_frame_halted", |view| {
        lines(&frame(halted(), None), view)
    });
    both("watch_frame_lost", |view| {
        lines(
            &frame(
                running(),
                Some("cannot reach localhost:7443: Connection refused"),
            ),
            view,
        )
    });
    assert_snapshot!(outcome_line(&view(80), &running()), @"2026-11-24T12:00:00Z r7 running, wave 2/3: 16 succeeded, 1 failed, 84 pending, 2 unreached, 2 excluded of 105 hosts");
}

#[test]
fn summaries_and_their_exit_codes() {
    let summary_of = |rollout| Summary {
        rollout,
        failed: vec![failed_member()],
        next: vec!["comber why rollout r7".to_owned()],
    };
    both("summary_completed", |view| {
        summary(view, &summary_of(completed(0)))
    });
    both("summary_failed_hosts", |view| {
        summary(view, &summary_of(completed(2)))
    });
    both("summary_halted", |view| {
        summary(view, &summary_of(halted()))
    });
    shape(
        "summary_json",
        &json::Summary::new(&summary_of(completed(2)), Exit::HostsFailed),
    );
    let mut unreached = completed(0);
    unreached.outcomes = Some(outcomes(5, 0, 0, 1, 0));
    let mut aborted = completed(0);
    aborted.set_state(RolloutState::Aborted);
    let cases = [
        (completed(0), Exit::Ok),
        (completed(1), Exit::HostsFailed),
        (unreached, Exit::HostsFailed),
        (halted(), Exit::Halted),
        (aborted, Exit::Aborted),
        (running(), Exit::Interrupted),
    ];
    for (rollout, exit) in cases {
        assert_eq!(summary_of(rollout).exit(), exit);
    }
}

#[test]
fn why_a_host() {
    let permit = hold(
        "in_flight",
        "4 hosts of the wave are in flight, at most 5 (25%) may be",
        None,
    );
    let silent = hold(
        "host_silent",
        "the host is not connected since 2026-11-24T10:00:00Z; that has consequences at 2026-11-24T13:00:00Z",
        Some(3600),
    );
    let answer = |connected, rollouts| ExplainHostResponse {
        host: Some(a_host("web-9", connected)),
        rollouts,
    };
    let waiting = answer(
        true,
        vec![explanation(
            member("web-9", "pending", "", "waits for a permit"),
            vec![permit],
        )],
    );
    let unreached = answer(
        false,
        vec![explanation(
            member("web-9", "unreached", "", ""),
            vec![silent],
        )],
    );
    let failed = answer(true, vec![explanation(failed_member(), Vec::new())]);
    let none = answer(true, Vec::new());
    both("why_host_waiting", |view| why_host(view, &waiting));
    both("why_host_unreached", |view| why_host(view, &unreached));
    both("why_host_failed", |view| why_host(view, &failed));
    both("why_host_in_no_rollout", |view| why_host(view, &none));
    shape("why_host_json", &json::HostExplanation::from(&waiting));
}

#[test]
fn why_a_rollout() {
    let answer = |rollout| ExplainRolloutResponse {
        rollout: Some(rollout),
        holds: Vec::new(),
        waves: wave_holds(),
        failed: vec![failed_member()],
        next: vec![
            "comber rollout pause r7".to_owned(),
            "comber events --rollout r7".to_owned(),
        ],
    };
    both("why_rollout_running", |view| {
        why_rollout(view, &answer(running()))
    });
    both("why_rollout_halted", |view| {
        why_rollout(view, &answer(halted()))
    });
    shape(
        "why_rollout_json",
        &json::RolloutExplanation::from(&answer(halted())),
    );
}

#[test]
fn errors_in_words() {
    let spec =
        comber_model::rollout::RolloutSpec::parse("release = \"webapp@1\"\nselektor = \"true\"\n")
            .unwrap_err();
    both("error_file", |view| {
        error(
            view,
            &CliError::invalid("webapp.toml is not a valid rollout file", &spec),
        )
    });
    let address = "https://comber.example:7443";
    let of = |status: Status| status::in_words("start the rollout", address, &status);
    let cases = [
        (
            "invalid",
            Status::invalid_argument(
                "selector: unknown field lables\nwave[1].soak: must be shorter than 7d",
            ),
        ),
        (
            "precondition",
            Status::failed_precondition("r7 is completed; only a draft can be started"),
        ),
        (
            "unauthenticated",
            Status::unauthenticated("no certificate was presented"),
        ),
        (
            "permission",
            Status::permission_denied("hosts may not start rollouts"),
        ),
        ("unavailable", Status::unavailable("the store has stopped")),
        ("internal", Status::internal("")),
        ("unimplemented", Status::new(Code::Unimplemented, "")),
    ];
    for (name, status) in cases {
        both(&format!("error_{name}"), |view| {
            error(view, &of(status.clone()))
        });
    }
    let refused = status::unreachable(
        "connect",
        address,
        "no gRPC channel: cannot reach localhost:7443: Connection refused (os error 111); nothing listens there: is the controller running, and is the port right?",
    );
    both("error_refused", |view| error(view, &refused));
    assert_eq!(of(Status::invalid_argument("x")).exit, Exit::Refused);
    assert_eq!(of(Status::unauthenticated("x")).exit, Exit::NotPermitted);
    assert_eq!(of(Status::unavailable("x")).exit, Exit::Unavailable);
}

#[test]
fn colour_changes_nothing_but_colour() {
    let plain = view(100);
    let colour = View {
        color: true,
        ..plain
    };
    let holds = wave_holds();
    let texts = |view: &View| {
        vec![
            rollouts(view, &[running(), halted()]),
            status(view, &halted(), &holds[1].holds, &[]),
            error(view, &CliError::usage("no").hint("yes")),
            summary(
                view,
                &Summary {
                    rollout: halted(),
                    failed: vec![failed_member()],
                    next: Vec::new(),
                },
            ),
        ]
    };
    for (plain, colour) in texts(&plain).iter().zip(texts(&colour)) {
        assert!(colour.contains("\u{1b}["), "{colour}");
        assert_eq!(*plain, console::strip_ansi_codes(&colour));
    }
}
