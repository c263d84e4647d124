//! Windows across clocks that are set, and the property that both ways of asking agree.

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn stretch(text: &str) -> Stretch {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// Spans from an instant on, as text.
fn spans(text: &str, name: &str, from: &str, many: usize) -> Vec<String> {
    let (zone, stretches) = (zone(name), [stretch(text)]);
    let schedule = Schedule::new(&stretches, &zone);
    let mut now = at(from);
    let mut found = Vec::new();
    while found.len() < many {
        let Some(span) = schedule.next(now) else {
            break;
        };
        found.push(format!("{} {}", span.from, span.until));
        now = span.until;
    }
    found
}

#[test]
fn a_night_window_follows_the_clock_on_the_wall() {
    assert_eq!(
        spans(
            "Mon..Fri 22:00-05:00",
            "Europe/Berlin",
            "2026-11-26T12:00:00Z",
            3
        ),
        [
            "2026-11-26T21:00:00Z 2026-11-27T04:00:00Z",
            "2026-11-27T21:00:00Z 2026-11-28T04:00:00Z",
            "2026-11-30T21:00:00Z 2026-12-01T04:00:00Z",
        ]
    );
}

#[test]
fn in_the_night_of_spring_a_window_is_an_hour_shorter() {
    // 02:00 becomes 03:00 on 2026-03-29.
    let night = |text: &str| spans(text, "Europe/Berlin", "2026-03-28T12:00:00Z", 1);
    assert_eq!(
        night("daily 22:00-05:00"),
        ["2026-03-28T21:00:00Z 2026-03-29T03:00:00Z"]
    );
    // A begin in the hour that is skipped is the end of the gap; an end in it as well.
    assert_eq!(
        night("daily 02:30-04:00"),
        ["2026-03-29T01:00:00Z 2026-03-29T02:00:00Z"]
    );
    assert_eq!(
        night("daily 01:00-02:30"),
        ["2026-03-29T00:00:00Z 2026-03-29T01:00:00Z"]
    );
    // A window that lies in that hour does not come on that day.
    assert_eq!(
        night("daily 02:10-02:50"),
        ["2026-03-30T00:10:00Z 2026-03-30T00:50:00Z"]
    );
}

#[test]
fn in_the_night_of_autumn_the_hour_that_comes_twice_counts_twice() {
    // 03:00 becomes 02:00 on 2026-10-25.
    let night = |text: &str, many| spans(text, "Europe/Berlin", "2026-10-24T12:00:00Z", many);
    assert_eq!(
        night("daily 22:00-05:00", 1),
        ["2026-10-24T20:00:00Z 2026-10-25T04:00:00Z"]
    );
    assert_eq!(
        night("daily 02:10-02:50", 2),
        [
            "2026-10-25T00:10:00Z 2026-10-25T00:50:00Z",
            "2026-10-25T01:10:00Z 2026-10-25T01:50:00Z"
        ]
    );
    assert_eq!(
        night("daily 01:00-02:30", 2),
        [
            "2026-10-24T23:00:00Z 2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z 2026-10-25T01:30:00Z"
        ]
    );
}

#[test]
fn a_day_that_a_zone_skipped_has_no_window() {
    // Samoa went over the date line: there was no 30 December 2011.
    let found = spans(
        "2011-12-30 10:00-12:00",
        "Pacific/Apia",
        "2011-12-01T00:00:00Z",
        1,
    );
    assert_eq!(found, Vec::<String>::new());
    let found = spans(
        "2011-12-29..2011-12-31",
        "Pacific/Apia",
        "2011-12-01T00:00:00Z",
        2,
    );
    assert_eq!(found, ["2011-12-29T10:00:00Z 2011-12-31T10:00:00Z"]);
}

#[test]
fn days_of_the_month_and_the_year() {
    let utc = |text: &str, many| -> Vec<String> {
        let found = spans(text, "UTC", "2026-11-24T00:00:00Z", many);
        found.iter().map(|span| span[..10].to_owned()).collect()
    };
    assert_eq!(
        utc("second Tuesday 20:00-23:00", 2),
        ["2026-12-08", "2027-01-12"]
    );
    assert_eq!(
        utc("first,third Sun 02:00-03:00", 3),
        ["2026-12-06", "2026-12-20", "2027-01-03"]
    );
    assert_eq!(utc("last Fri 02:00-03:00", 2), ["2026-11-27", "2026-12-25"]);
    assert_eq!(
        utc("day 1..2,last 02:00-03:00", 4),
        ["2026-11-30", "2026-12-01", "2026-12-02", "2026-12-31"]
    );
    assert_eq!(
        utc("Jan,Apr day 31 02:00-03:00", 2),
        ["2027-01-31", "2028-01-31"]
    );
    assert_eq!(utc("02-29", 2), ["2028-02-29", "2032-02-29"]);
    assert_eq!(utc("Nov..Jan Mon 02:00-03:00 ", 1), ["2026-11-30"]);
    let turn = spans("12-20..01-06", "UTC", "2026-11-24T00:00:00Z", 1);
    assert_eq!(turn, ["2026-12-20T00:00:00Z 2027-01-07T00:00:00Z"]);
    let once = spans(
        "2026-12-20T18:00..2027-01-06T06:00 Europe/Berlin",
        "UTC",
        "2026-11-24T00:00:00Z",
        2,
    );
    assert_eq!(once, ["2026-12-20T17:00:00Z 2027-01-06T05:00:00Z"]);
}

#[test]
fn what_never_ends_and_what_never_comes() {
    let utc = Zone::utc();
    let always = [stretch("daily")];
    let now = at("2026-11-24T12:00:00Z");
    let span = Schedule::new(&always, &utc).covering(now).unwrap();
    assert!(span.until > at("2027-01-01T00:00:00Z"), "{span:?}");
    let past = [stretch("2020-01-01..2020-02-01")];
    assert_eq!(Schedule::new(&past, &utc).next(now), None);
    assert_eq!(Schedule::new(&past, &utc).covering(now), None);
}

#[test]
fn a_margin_ends_a_window_earlier_and_swallows_short_ones() {
    let utc = Zone::utc();
    let windows = [stretch("daily 10:00-11:00"), stretch("daily 12:00-12:20")];
    let schedule = Schedule {
        margin: 1800,
        ..Schedule::new(&windows, &utc)
    };
    let span = schedule.next(at("2026-11-24T00:00:00Z")).unwrap();
    assert_eq!(
        span,
        Span {
            from: at("2026-11-24T10:00:00Z"),
            until: at("2026-11-24T10:30:00Z")
        }
    );
    assert_eq!(
        schedule.next(span.until).unwrap().from,
        at("2026-11-25T10:00:00Z")
    );
    assert_eq!(schedule.covering(at("2026-11-24T10:40:00Z")), None);
}

#[test]
fn what_could_be_misread_is_refused() {
    for (text, named) in [
        ("", "is empty"),
        ("Mon..Fri 22:00", "22:00"),
        ("22-05", "not understood"),
        ("Mon 22:00-22:00", "is empty"),
        ("Mon 24:00-02:00", "is empty"),
        ("Mon 25:00-26:00", "are no times"),
        ("Mon Tue", "one thing twice"),
        ("second 20:00-23:00", "day of the week"),
        ("second", "day of the week"),
        ("day 32", "32"),
        ("day 7..1", "must run forward"),
        ("day", "after day"),
        ("Feb day 30", "no day of any year"),
        ("Funday", "did you mean"),
        ("Mon Europe/Berlni", "did you mean Europe/Berlin"),
        ("2027-01-06..2026-12-20", "must run forward"),
        ("2026-02-30", "not understood"),
        ("2027-01-06T00:00..2026-12-20T00:00", "must end after"),
        ("2026-12-20T00:00..2026-12-21T00:00 Mon", "no days or times"),
        ("FREQ=YEARLY", "needs the first time"),
        ("Europe/Berlin", "says no time"),
        ("Mon\u{1b}[31m", "control"),
    ] {
        let error = text.parse::<Stretch>().unwrap_err().to_string();
        assert!(error.contains(named), "{text:?}: {error}");
    }
}

const TEXTS: [&str; 14] = [
    "Mon..Fri 22:00-05:00",
    "daily 02:10-02:50",
    "daily 01:30-03:30",
    "second Tuesday 20:00-23:00",
    "last Sun 00:00-24:00",
    "Sat,Sun",
    "day 1..7,last 23:00-01:00",
    "12-20..01-06",
    "2026-10-20..2026-11-03 12:00-11:59",
    "2026-10-24T18:00..2026-10-25T02:30",
    "2026-03-29T02:30..2026-03-31T06:00 FREQ=MONTHLY;INTERVAL=2",
    "2026-01-05T23:00..2026-01-06T03:00 FREQ=WEEKLY;BYDAY=MO,SU;UNTIL=20261231",
    "Mon..Thu 00:00-03:00 America/New_York",
    "Sun 02:00-03:00",
];
const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
    "America/St_Johns",
    "CET-1CEST,M3.5.0,M10.5.0/3",
];

proptest! {
    /// The spans, found from days and offsets, and the look at the clock on the wall say the same of every instant.
    #[test]
    fn an_instant_is_covered_where_the_clock_on_the_wall_reads_it(
        text in proptest::sample::select(&TEXTS[..]),
        name in proptest::sample::select(&ZONES[..]),
        // 2026 and a half, and often near the days on which clocks are set.
        second in prop_oneof![
            1_767_225_600_i64..1_814_400_000,
            1_774_740_000_i64..1_774_760_000,
            1_792_880_000_i64..1_792_910_000,
        ],
    ) {
        let (zone, stretches) = (zone(name), [stretch(text)]);
        let now = Timestamp::from_second(second).unwrap();
        let schedule = Schedule::new(&stretches, &zone);
        let wall = stretches[0].zone().unwrap_or(&zone).wall(now);
        let covered = schedule.covering(now);
        prop_assert_eq!(covered.is_some(), stretches[0].reads(wall), "{} reads {}", text, wall);
        let next = schedule.next(now);
        if let Some(span) = covered {
            prop_assert_eq!(next.map(|next| next.until), Some(span.until));
        } else if let Some(next) = next {
            prop_assert!(next.from > now);
            let before = Timestamp::from_second(next.from.as_second() - 1).unwrap();
            prop_assert!(schedule.covering(before).is_none() && schedule.covering(next.from).is_some());
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "([MTWFS][a-z]{2}|first|last|day|[0-9:.,-]| |FREQ=[A-Z=;]{3,9}|UTC){0,12}") {
        if let Ok(stretch) = text.parse::<Stretch>() {
            let again: Stretch = stretch.as_str().parse().unwrap();
            prop_assert_eq!(again, stretch);
        }
    }
}
