//! Windows and freezes on real processes. No test depends on the time of day: a host is moved to a zone whose clock on
//! the wall shows what the test needs now.

use std::fs;

use comber_e2e::{LONG, all_at_once, assert_outcomes, is};
use comber_test_support::{Lab, Product, wait};
use rustix::time::{ClockId, clock_gettime};

const NIGHTS: &str = "[windows]\nallow = [\"daily 22:00-05:00\"]\n[[wave]]";

fn now() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// A zone whose clocks show 22:00:00 in so many seconds, which may be past, as a rule of the form `<WIN>-01:02:03`.
fn ten_at_night_in(seconds: i64) -> String {
    const DAY: i64 = 86_400;
    let at = (now() + seconds).rem_euclid(DAY);
    let mut ahead = (22 * 3600 - at).rem_euclid(DAY);
    if ahead > DAY / 2 {
        ahead -= DAY;
    }
    // Such rules count from the zone to UTC.
    let sign = if ahead > 0 { "-" } else { "" };
    let ahead = ahead.abs();
    let (hours, minutes, seconds) = (ahead / 3600, ahead / 60 % 60, ahead % 60);
    format!("<WIN>{sign}{hours:02}:{minutes:02}:{seconds:02}")
}

/// The rule that holds a host in its newest rollout, and its text.
fn hold(lab: &Lab, host: &str) -> Option<(String, String)> {
    let why = lab.comber().json(&["why", "host", host]).ok()?;
    let hold = &why["rollouts"][0]["holds"][0];
    let text = |field: &str| hold[field].as_str().map(ToOwned::to_owned);
    Some((text("rule")?, text("text")?))
}

/// Waits until that rule holds the host, and gives its text.
#[track_caller]
fn held_by(lab: &Lab, host: &str, rule: &str) -> String {
    let told = wait::until(LONG, || hold(lab, host).filter(|(held, _)| held == rule));
    match told {
        Some((_, text)) => text,
        None => panic!("{host} is held by {:?}, not by {rule}", hold(lab, host)),
    }
}

#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn label(lab: &Lab, host: &str, zone: &str) {
    let label = format!("timezone={zone}");
    lab.comber().ok(&["host", "label", host, &label]).unwrap();
}

#[track_caller]
fn wait_until_it_runs(lab: &Lab, host: &str, version: &str) {
    let runs = wait::until(LONG, || {
        (lab.running(host).as_deref() == Some(version)).then_some(())
    });
    assert!(runs.is_some(), "{host} is held by {:?}", hold(lab, host));
}

#[test]
fn hosts_stage_early_and_activate_when_their_own_window_opens() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 2, &[]).unwrap();
    let far = ten_at_night_in(6 * 3600);
    for host in ["h1", "h2"] {
        label(&lab, host, &far);
    }
    lab.publish(&Product::good("1")).unwrap();
    let spec = all_at_once("1").replace("[[wave]]", NIGHTS);
    let file = lab.directory().join("windows.toml");
    fs::write(&file, &spec).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let plan = lab.comber().ok(&["rollout", "plan", &file]).unwrap();
    assert!(
        plan.contains("22:00 to") && plan.contains("<WIN>"),
        "{plan}"
    );
    let id = lab.roll_out(&spec).unwrap();
    for host in ["h1", "h2"] {
        let text = held_by(&lab, host, "window");
        assert!(
            text.contains("it is staged") && text.contains("22:00 on"),
            "{text}"
        );
        let status = lab.agent_status(host).unwrap();
        assert_eq!(status["state"], "awaiting_permit", "{status:#}");
        assert_eq!(lab.running(host), None);
    }
    let opens = now() + 4;
    label(&lab, "h1", &ten_at_night_in(4));
    wait_until_it_runs(&lab, "h1", "1");
    assert!(now() >= opens, "h1 did not wait for its window");
    assert_eq!(lab.running("h2"), None, "h2 did not wait for its window");
    held_by(&lab, "h2", "window");
    label(&lab, "h2", &ten_at_night_in(-3600));
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 2)]);
}

#[test]
fn a_freeze_outlives_a_restart_and_only_an_emergency_passes_it() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let add = [
        "freeze",
        "add",
        "always",
        "01-01..12-31",
        "--reason",
        "a test",
    ];
    let added = lab.comber().ok(&add).unwrap();
    assert!(added.contains("is in force"), "{added}");
    let again = lab.comber().run(&add).unwrap();
    assert!(
        again.code != 0 && again.stderr.contains("--replace"),
        "{again:?}"
    );
    let id = lab.roll_out(&all_at_once("1")).unwrap();
    let text = held_by(&lab, "h1", "frozen");
    assert!(text.contains("frozen by always (a test)"), "{text}");
    lab.stop_controller().unwrap();
    lab.start_controller().unwrap();
    held_by(&lab, "h1", "frozen");
    let listed = lab.comber().json(&["freeze", "list"]).unwrap();
    assert_eq!(listed["freezes"][0]["name"], "always", "{listed:#}");

    lab.publish(&Product::good("2")).unwrap();
    let urgent = format!("priority = \"emergency\"\n{}", all_at_once("2"));
    let urgent = lab.roll_out(&urgent).unwrap();
    lab.wait_for(&urgent, LONG, is("completed")).unwrap();
    assert_eq!(lab.running("h1").as_deref(), Some("2"));
    let events = lab.comber().ok(&["events"]).unwrap();
    assert!(events.contains("freeze always was added by"), "{events}");
    drop(id);
}

#[test]
fn a_calendar_freezes_the_fleet_and_one_that_is_not_understood_does_not() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let file = lab.directory().join("holidays.ics");
    let calendar = |more: &str| {
        format!(
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Every day\r\nDTSTART;VALUE=DATE:20260101\r\nRRULE:FREQ=DAILY\r\n{more}END:VEVENT\r\nEND:VCALENDAR\r\n"
        )
    };
    let path = file.to_str().unwrap().to_owned();
    let import = [
        "freeze", "import", &path, "--name", "days", "--reason", "holidays",
    ];
    fs::write(&file, calendar("EXDATE;VALUE=DATE:20261225\r\n")).unwrap();
    let refused = lab.comber().run(&import).unwrap();
    assert!(
        refused.code != 0 && refused.stderr.contains("line 9"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("EXDATE"), "{refused:?}");
    let none = lab.comber().json(&["freeze", "list"]).unwrap();
    assert_eq!(none["freezes"].as_array().map(Vec::len), Some(0));

    fs::write(&file, calendar("")).unwrap();
    lab.comber().ok(&import).unwrap();
    let id = lab.roll_out(&all_at_once("1")).unwrap();
    held_by(&lab, "h1", "frozen");
    assert_eq!(lab.running("h1"), None);
    lab.comber()
        .ok(&["freeze", "remove", "days", "--yes"])
        .unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 1)]);
}
