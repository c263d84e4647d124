//! The rollout file: what is accepted, and what each mistake is told.

use super::*;

const SMALL: &str = r#"
release = "webapp@2"
selector = "true"
[[wave]]
hosts = "rest"
"#;

#[test]
fn the_smallest_file_has_careful_defaults() {
    let spec = RolloutSpec::parse(SMALL).unwrap();
    assert_eq!(spec.on_halt, OnHalt::Hold);
    assert_eq!(spec.pace.max_in_flight, Amount::Percent(Percent::whole(25)));
    assert_eq!(spec.waves[0].gate.success, Percent::whole(95));
    assert!(!spec.pace.disconnected);
}

#[test]
fn a_full_file_reads_and_survives_storage() {
    let source = r#"
release  = "webapp@2.4.1"
selector = 'labels.role == "web" && facts.os.id in ["debian", "ubuntu"]'
priority = "high"
on_halt  = "roll_back_wave"

[budget]
failures  = { max = "2%", min_sample = 20 }
per_class = { health = "1%", reboot = 1 }
unreached = { after = "2h", max = "10%" }
silent    = { after = "15m", counts_as = "failed" }

[pace]
max_in_flight = "20%"
permit = "2m"

[retry]
classes = { fetch = 3 }
backoff = "30s"

[[wave]]
name = "canary"
hosts = 5
soak = "30m"
max_in_flight = 1
[[wave]]
hosts = { selector = 'labels.tier == "early"' }
gate  = { success = "98%" }
[[wave]]
hosts = { percent = "10%" }
[[wave]]
hosts = "100%"
"#;
    let spec = RolloutSpec::parse(source).unwrap();
    let stored = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<RolloutSpec>(&stored).unwrap(), spec);
    let written = toml::to_string(&spec).unwrap();
    assert_eq!(RolloutSpec::parse(&written).unwrap(), spec);
}

#[track_caller]
fn problems(source: &str) -> String {
    let errors = RolloutSpec::parse(source).unwrap_err();
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let text = problems(&format!("realease = \"x\"\n{SMALL}"));
    assert!(
        text.contains("line 1") && text.contains("realease"),
        "{text}"
    );
}

#[test]
fn a_wrong_type_says_what_is_allowed() {
    let text = problems("release = \"a@1\"\nselector = \"true\"\n[[wave]]\nhosts = true");
    assert!(text.contains("must be a number such as 5"), "{text}");
    let text = problems("release = \"a\"\nselector = \"true\"\n[[wave]]\nhosts = 1");
    assert!(text.contains("must have the form name@version"), "{text}");
}

#[test]
fn every_problem_is_told_at_once() {
    let text = problems(
        r#"
release = "a@1"
selector = 'facts.kernal == "6"'
[pace]
permit = "2h"
max_in_flight = 0
[retry]
classes = { health = 11 }
[[wave]]
hosts = "rest"
[[wave]]
hosts = 0
"#,
    );
    let expected = [
        "selector: there is no fact facts.kernal; did you mean facts.kernel?",
        "pace.max_in_flight: is 0, so no host could ever move",
        "pace.permit: must be 1s to 1h",
        "retry.classes.health: is 11, at most 10 are allowed",
        "wave[1].hosts: an earlier wave takes all that are left, so this one would be empty",
        "wave[1].hosts: is 0, so the wave would be empty",
    ];
    assert_eq!(text, expected.join("\n"));
}

#[test]
fn the_last_wave_must_take_the_rest() {
    let text = problems("release = \"a@1\"\nselector = \"true\"\n[[wave]]\nhosts = 5");
    assert!(
        text.contains("wave[0].hosts: the last wave must take \"rest\""),
        "{text}"
    );
}

#[test]
fn pauses_double_up_to_an_hour() {
    let retry = Retry {
        backoff: Duration::from_mins(1),
        ..Retry::default()
    };
    assert_eq!(retry.pause_after(1), Duration::from_mins(1));
    assert_eq!(retry.pause_after(3), Duration::from_mins(4));
    assert_eq!(retry.pause_after(60), Duration::from_hours(1));
}

#[test]
fn times_are_read_and_what_cannot_be_meant_is_refused() {
    let file = |times: &str| {
        format!("release = \"a@1\"\nselector = \"true\"\n{times}\n[[wave]]\nhosts = \"rest\"")
    };
    let spec = RolloutSpec::parse(&file(
        "start_at = 2026-12-01T22:00:00\n[windows]\nzone = \"Europe/Berlin\"\nallow = [\"Mon..Fri 22:00-05:00\"]\nuntil = \"2026-12-24T12:00:00Z\"\nafter_deadline = \"ignore\"\nmust_end_within = \"30m\"",
    ))
    .unwrap();
    assert_eq!(
        spec.starts_at().unwrap().to_string(),
        "2026-12-01T21:00:00Z"
    );
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<RolloutSpec>(&json).unwrap(), spec);
    for (times, named) in [
        (
            "start_at = 2026-12-01T22:00:00",
            "start_at: needs an offset",
        ),
        ("[windows]\nallow = [\"Mo..Fri\"]", "not understood"),
        (
            "[windows]\nzone = \"Europe/Berlni\"",
            "did you mean Europe/Berlin",
        ),
        (
            "[windows]\nafter_deadline = \"ignore\"",
            "windows.after_deadline: is \"ignore\"",
        ),
        (
            "[windows]\nuntil = 2026-12-01T22:00:00Z",
            "windows.until: is a deadline of windows",
        ),
        (
            "[windows]\nmust_end_within = \"1h\"",
            "windows.must_end_within: needs windows.allow",
        ),
        (
            "[windows]\nallow = [\"Mon 22:00-23:00\"]\nmust_end_within = \"1h\"",
            "as long as every window",
        ),
        (
            "[windows]\nallow = [\"Mon\"]\nmust_end_within = \"25h\"",
            "is longer than 24h",
        ),
    ] {
        let text = problems(&file(times));
        assert!(text.contains(named), "{times:?}: {text}");
    }
}

#[test]
fn a_rollout_without_times_is_stored_as_before() {
    let spec =
        RolloutSpec::parse("release = \"a@1\"\nselector = \"true\"\n[[wave]]\nhosts = \"rest\"")
            .unwrap();
    let json = serde_json::to_string(&spec).unwrap();
    assert!(
        !json.contains("windows") && !json.contains("start_at"),
        "{json}"
    );
}
