//! Calendars as programs write them, and what is refused.

use jiff::Timestamp;

use super::*;
use crate::calendar::Schedule;

fn calendar(event: &str) -> String {
    format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\n{event}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
}

#[track_caller]
fn one(event: &str) -> FreezeTime {
    let times = parse(&calendar(event)).unwrap_or_else(|error| panic!("{event}: {error}"));
    times.into_iter().next().unwrap()
}

#[track_caller]
fn refusal(event: &str) -> String {
    match parse(&calendar(event)) {
        Ok(times) => panic!("{event} was taken as {times:?}"),
        Err(error) => error.to_string(),
    }
}

/// The first spans after New Year 2026, by Berlin's clock where the event names none.
fn spans(event: &str, many: usize) -> Vec<String> {
    let zone: Zone = "Europe/Berlin".parse().unwrap();
    let stretches = [one(event).when];
    let schedule = Schedule::new(&stretches, &zone);
    let mut at: Timestamp = "2025-12-31T23:00:00Z".parse().unwrap();
    let mut found = Vec::new();
    while found.len() < many {
        let Some(span) = schedule.next(at) else { break };
        found.push(format!("{}..{}", span.from, span.until));
        at = span.until;
    }
    found
}

#[test]
fn a_whole_day_is_one_by_the_hosts_clock() {
    let time = one(
        "SUMMARY:Christmas\\, all\r\n  day\r\nDTSTART;VALUE=DATE:20261224\r\nDTEND;VALUE=DATE:20261227",
    );
    assert_eq!(time.title.as_deref(), Some("Christmas, all day"));
    assert_eq!(
        time.when.as_str(),
        "2026-12-24T00:00:00..2026-12-27T00:00:00"
    );
    let without_end = "DTSTART;VALUE=DATE:20261224";
    assert_eq!(
        spans(without_end, 9),
        ["2026-12-23T23:00:00Z..2026-12-24T23:00:00Z"]
    );
}

#[test]
fn times_have_the_zone_that_they_say() {
    let event = "DTSTART;TZID=\"America/New_York\":20260701T090000\r\nDURATION:PT1H30M";
    assert_eq!(
        spans(event, 9),
        ["2026-07-01T13:00:00Z..2026-07-01T14:30:00Z"]
    );
    let event = "DTSTART:20260701T090000Z\r\nDTEND:20260701T100000Z";
    assert_eq!(
        spans(event, 9),
        ["2026-07-01T09:00:00Z..2026-07-01T10:00:00Z"]
    );
    let event = "DTSTART:20260701T090000\r\nDTEND:20260701T100000";
    assert_eq!(
        spans(event, 9),
        ["2026-07-01T07:00:00Z..2026-07-01T08:00:00Z"]
    );
}

#[test]
fn rules_come_again_as_they_say() {
    let yearly = "DTSTART;VALUE=DATE:20201224\r\nDURATION:P3D\r\nRRULE:FREQ=YEARLY";
    assert_eq!(
        spans(yearly, 2),
        [
            "2026-12-23T23:00:00Z..2026-12-26T23:00:00Z",
            "2027-12-23T23:00:00Z..2027-12-26T23:00:00Z"
        ]
    );
    let thanksgiving = "DTSTART;VALUE=DATE:20251127\r\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH";
    assert_eq!(
        spans(thanksgiving, 1),
        ["2026-11-25T23:00:00Z..2026-11-26T23:00:00Z"]
    );
    let last_workday = "DTSTART;TZID=UTC:20260130T160000\r\nDURATION:PT8H\r\nRRULE:FREQ=MONTHLY;BYDAY=-1FR;COUNT=2";
    assert_eq!(
        spans(last_workday, 9),
        [
            "2026-01-30T16:00:00Z..2026-01-31T00:00:00Z",
            "2026-02-27T16:00:00Z..2026-02-28T00:00:00Z"
        ]
    );
    let every_second = "DTSTART;TZID=UTC:20260105T100000\r\nDURATION:PT1H\r\nRRULE:INTERVAL=2;FREQ=WEEKLY;BYDAY=MO,WE;UNTIL=20260121T095959Z";
    let found = spans(every_second, 9);
    let days: Vec<&str> = found.iter().map(|span| &span[..10]).collect();
    assert_eq!(days, ["2026-01-05", "2026-01-07", "2026-01-19"]);
}

#[test]
fn what_is_not_understood_is_refused_by_its_name() {
    let day = "DTSTART;VALUE=DATE:20261224";
    for (event, name) in [
        (format!("{day}\r\nEXDATE;VALUE=DATE:20271224"), "EXDATE"),
        (format!("{day}\r\nRDATE;VALUE=DATE:20271224"), "RDATE"),
        (
            format!("{day}\r\nRECURRENCE-ID:20271224T000000Z"),
            "RECURRENCE-ID",
        ),
        (format!("{day}\r\nSTATUS:CANCELLED"), "STATUS:CANCELLED"),
        (format!("{day}\r\nRRULE:FREQ=YEARLY;BYSETPOS=1"), "BYSETPOS"),
        (format!("{day}\r\nRRULE:FREQ=HOURLY"), "FREQ=HOURLY"),
        (
            format!("{day}\r\nRRULE:FREQ=YEARLY;BYDAY=MO"),
            "need BYMONTH",
        ),
        (
            format!("{day}\r\nRRULE:FREQ=WEEKLY;INTERVAL=2;WKST=SU"),
            "WKST",
        ),
        (
            format!("{day}\r\nRRULE:FREQ=WEEKLY;BYDAY=MO"),
            "DTSTART is none of the days",
        ),
        (format!("{day}\r\nRRULE:COUNT=2"), "FREQ"),
        (format!("{day}\r\nDTEND:20261225T000000Z"), "differ in kind"),
        (
            "DTSTART;TZID=W. Europe Standard Time:20261224T000000\r\nDURATION:PT1H".to_owned(),
            "TZID",
        ),
        (
            "DTSTART;RANGE=x:20261224T000000\r\nDURATION:PT1H".to_owned(),
            "RANGE=x",
        ),
        (
            "DTSTART:20261224T000000".to_owned(),
            "neither DTEND nor DURATION",
        ),
        (
            "DTSTART:20261224T000000\r\nDURATION:-PT1H".to_owned(),
            "DURATION:-PT1H",
        ),
        (
            "DTSTART:20261224T250000\r\nDURATION:PT1H".to_owned(),
            "DTSTART:20261224T250000",
        ),
        ("SUMMARY:x".to_owned(), "no DTSTART"),
        (format!("{day}\r\n{day}"), "stands twice"),
        (
            format!("{day}\r\nDTEND;VALUE=DATE:20261224"),
            "must end after it begins",
        ),
    ] {
        let error = refusal(&event);
        assert!(error.contains(name), "{event:?}: {error}");
        assert!(
            error.starts_with("line ") || name == "FREQ",
            "no line is named: {error}"
        );
    }
    let todo = calendar("DTSTART;VALUE=DATE:20261224").replace("VEVENT", "VTODO");
    assert!(parse(&todo).unwrap_err().to_string().contains("VTODO"));
}

#[test]
fn a_calendar_that_is_cut_or_huge_is_refused() {
    let whole = calendar("DTSTART;VALUE=DATE:20261224");
    for cut in 0..whole.len() - 2 {
        assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
    }
    assert!(parse(&"x".repeat(FILE_MAX + 1)).is_err());
    assert!(parse(&calendar(&format!("SUMMARY:{}", "x".repeat(LINE_MAX)))).is_err());
    assert!(parse("BEGIN:VCALENDAR\nVERSION:2.0\nEND:VCALENDAR\n").is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(BEGIN:VEVENT|DTSTART|RRULE|FREQ=|[A-Z0-9:;=,\" \\r\\n-]){0,40}") {
        let _ = parse(&text);
        let _ = parse(&calendar(&text));
    }
}
