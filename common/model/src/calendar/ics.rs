//! Calendars (iCalendar, RFC 5545) read as times of a freeze.
//!
//! A parser of our own, strict and bounded: the general ones bring a second library of dates into the program and leave
//! out silently what they do not know. Here whatever changes when an event is must be understood, or the whole file is
//! refused with the line and the name of what was not. What only describes an event is passed over.

use jiff::SignedDuration;
use jiff::civil::{DateTime, Time};

use super::freeze::FreezeTime;
use super::rule::{basic_date, basic_time};
use super::{Stretch, Zone};
use crate::Invalid;

/// Largest file in bytes.
pub const FILE_MAX: usize = 1 << 20;
/// Longest line in bytes, unfolded.
const LINE_MAX: usize = 16 << 10;
/// Most events.
const EVENTS_MAX: usize = 500;
/// Longest title that is kept, in bytes.
const TITLE_MAX: usize = 100;

/// Properties of an event that say nothing about when it is.
const DESCRIBES: [&str; 26] = [
    "ATTACH",
    "ATTENDEE",
    "CATEGORIES",
    "CLASS",
    "COLOR",
    "COMMENT",
    "CONFERENCE",
    "CONTACT",
    "CREATED",
    "DESCRIPTION",
    "DTSTAMP",
    "GEO",
    "IMAGE",
    "LAST-MODIFIED",
    "LOCATION",
    "ORGANIZER",
    "PRIORITY",
    "RELATED-TO",
    "REQUEST-STATUS",
    "RESOURCES",
    "SEQUENCE",
    "TRANSP",
    "UID",
    "URL",
    "STYLED-DESCRIPTION",
    "SOURCE",
];
/// Properties of a calendar that say nothing about when its events are.
const CALENDAR: [&str; 12] = [
    "PRODID",
    "METHOD",
    "NAME",
    "DESCRIPTION",
    "UID",
    "LAST-MODIFIED",
    "URL",
    "CATEGORIES",
    "REFRESH-INTERVAL",
    "SOURCE",
    "COLOR",
    "IMAGE",
];

/// One line: its name, parameters and value.
struct Line<'a> {
    number: usize,
    name: String,
    parameters: Vec<(String, &'a str)>,
    value: &'a str,
}

impl Line<'_> {
    fn wrong(&self, problem: impl std::fmt::Display) -> Invalid {
        wrong(self.number, problem)
    }
}

fn wrong(number: usize, problem: impl std::fmt::Display) -> Invalid {
    Invalid::new(format!("line {number}"), problem.to_string())
}

/// What an event says of itself.
#[derive(Default)]
struct Event {
    start: Option<(usize, When)>,
    end: Option<When>,
    duration: Option<SignedDuration>,
    rule: Option<String>,
    title: Option<String>,
}

/// A date or a time, and whose clock shows it.
#[derive(Clone, PartialEq)]
struct When {
    at: DateTime,
    is_date: bool,
    zone: Option<Zone>,
}

/// The times of all events of a calendar, in the order of the file.
pub fn parse(source: &str) -> Result<Vec<FreezeTime>, Invalid> {
    if source.len() > FILE_MAX {
        let problem = format!("has {} bytes, at most {FILE_MAX} are allowed", source.len());
        return Err(Invalid::new("", problem));
    }
    let unfolded = unfold(source)?;
    let mut lines = unfolded.iter().map(|(number, text)| read(*number, text));
    let first = lines.next().transpose()?;
    if first.is_none_or(|line| line.name != "BEGIN" || line.value != "VCALENDAR") {
        return Err(wrong(1, "is not BEGIN:VCALENDAR, so this is no calendar"));
    }
    let mut times = Vec::new();
    while let Some(line) = lines.next().transpose()? {
        match (line.name.as_str(), line.value) {
            ("BEGIN", "VEVENT") => {
                if times.len() == EVENTS_MAX {
                    return Err(line.wrong(format!("more than {EVENTS_MAX} events")));
                }
                times.push(event(&mut lines)?);
            }
            // Zones are known by their names; their definitions in the file are not needed.
            ("BEGIN", "VTIMEZONE") => skip(&mut lines, &line)?,
            ("BEGIN", other) => return Err(line.wrong(format!("{other} is not understood"))),
            ("END", "VCALENDAR") => {
                return match lines.next().transpose()? {
                    Some(line) => Err(line.wrong("stands after END:VCALENDAR")),
                    None if times.is_empty() => Err(Invalid::new("", "the calendar has no event")),
                    None => Ok(times),
                };
            }
            ("VERSION", "2.0") | ("CALSCALE", "GREGORIAN") => {}
            (name, _) if CALENDAR.contains(&name) || name.starts_with("X-") => {}
            (name, value) => {
                return Err(line.wrong(format!("{name}:{} is not understood", short(value))));
            }
        }
    }
    Err(Invalid::new("", "the calendar ends before END:VCALENDAR"))
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// Lines that begin with a blank continue the one before.
fn unfold(source: &str) -> Result<Vec<(usize, String)>, Invalid> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (index, line) in source.lines().enumerate() {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(more), Some((_, text))) => text.push_str(more),
            (Some(_), None) => return Err(wrong(1, "continues a line that is not there")),
            (None, _) if line.is_empty() => {}
            (None, _) => lines.push((index + 1, line.to_owned())),
        }
        if let Some((number, text)) = lines.last()
            && text.len() > LINE_MAX
        {
            return Err(wrong(*number, format!("is longer than {LINE_MAX} bytes")));
        }
    }
    Ok(lines)
}

/// `NAME;PARAMETER=value:value`.
fn read(number: usize, text: &str) -> Result<Line<'_>, Invalid> {
    let bad = || {
        wrong(
            number,
            format!("{:?} is not of the form NAME:VALUE", short(text)),
        )
    };
    let mut quoted = false;
    let colon = text.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == ':' && !quoted
    });
    let (colon, _) = colon.ok_or_else(bad)?;
    let mut parts = text[..colon].split(';');
    let name = parts.next().unwrap_or_default().to_ascii_uppercase();
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !is_name {
        return Err(bad());
    }
    let parameters = parts.map(|part| {
        let (key, value) = part.split_once('=').ok_or_else(bad)?;
        Ok((key.to_ascii_uppercase(), value.trim_matches('"')))
    });
    Ok(Line {
        number,
        name,
        parameters: parameters.collect::<Result<_, Invalid>>()?,
        value: &text[colon + 1..],
    })
}

/// Passes over a component whose begin was read.
fn skip<'a>(
    lines: &mut impl Iterator<Item = Result<Line<'a>, Invalid>>,
    begin: &Line<'_>,
) -> Result<(), Invalid> {
    while let Some(line) = lines.next().transpose()? {
        if line.name == "END" && line.value == begin.value {
            return Ok(());
        }
    }
    Err(begin.wrong(format!("{} does not end", begin.value)))
}

fn event<'a>(
    lines: &mut impl Iterator<Item = Result<Line<'a>, Invalid>>,
) -> Result<FreezeTime, Invalid> {
    let mut event = Event::default();
    while let Some(line) = lines.next().transpose()? {
        let twice = |is_there: bool| {
            let problem = format!("{} stands twice in one event", line.name);
            if is_there {
                Err(line.wrong(problem))
            } else {
                Ok(())
            }
        };
        match (line.name.as_str(), line.value) {
            ("END", "VEVENT") => return event.time(line.number),
            // An alarm rings before an event and moves nothing.
            ("BEGIN", "VALARM") => skip(lines, &line)?,
            ("DTSTART", _) => {
                twice(event.start.is_some())?;
                event.start = Some((line.number, when(&line)?));
            }
            ("DTEND", _) => {
                twice(event.end.is_some())?;
                event.end = Some(when(&line)?);
            }
            ("DURATION", text) => {
                twice(event.duration.is_some())?;
                event.duration = Some(duration(&line, text)?);
            }
            ("RRULE", text) => {
                twice(event.rule.is_some())?;
                event.rule = Some(text.to_owned());
            }
            ("SUMMARY", text) => event.title = Some(title(text)),
            ("STATUS", "CONFIRMED" | "TENTATIVE") => {}
            ("STATUS", other) => {
                let problem = format!(
                    "STATUS:{} is not understood; take the event out",
                    short(other)
                );
                return Err(line.wrong(problem));
            }
            (name, _) if DESCRIBES.contains(&name) || name.starts_with("X-") => {}
            (name, value) => {
                return Err(line.wrong(format!("{name}:{} is not understood", short(value))));
            }
        }
    }
    Err(Invalid::new("", "the calendar ends within an event"))
}

impl Event {
    /// As a time of a freeze, written in our own words.
    fn time(self, end_line: usize) -> Result<FreezeTime, Invalid> {
        let Some((number, start)) = self.start else {
            return Err(wrong(end_line, "the event has no DTSTART"));
        };
        let end = match (self.end, self.duration) {
            (Some(_), Some(_)) => {
                return Err(wrong(number, "the event has both DTEND and DURATION"));
            }
            (Some(end), None) => {
                if end.is_date != start.is_date || end.zone != start.zone {
                    let problem =
                        "DTSTART and DTEND differ in kind or zone, which is not understood";
                    return Err(wrong(number, problem));
                }
                end.at
            }
            (None, Some(length)) => start.at.saturating_add(length),
            (None, None) if start.is_date => {
                start.at.saturating_add(SignedDuration::from_hours(24))
            }
            (None, None) => return Err(wrong(number, "the event has neither DTEND nor DURATION")),
        };
        let minutes = |at: DateTime| at.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let mut text = format!("{}..{}", minutes(start.at), minutes(end));
        if let Some(rule) = &self.rule {
            // The rule's own order of parts does not matter; ours begins with how often.
            let (first, others): (Vec<&str>, Vec<&str>) =
                rule.split(';').partition(|part| part.starts_with("FREQ="));
            if first.len() != 1 {
                return Err(wrong(number, "the event's RRULE has no FREQ, or several"));
            }
            text = format!("{text} {}", [first, others].concat().join(";"));
        }
        if let Some(zone) = &start.zone {
            text = format!("{text} {zone}");
        }
        let when: Stretch = text
            .parse()
            .map_err(|error: Invalid| wrong(number, error))?;
        Ok(FreezeTime {
            when,
            title: self.title.filter(|title| !title.is_empty()),
        })
    }
}

fn when(line: &Line<'_>) -> Result<When, Invalid> {
    let (mut zone, mut is_date) = (None, false);
    for (key, value) in &line.parameters {
        match (key.as_str(), *value) {
            ("VALUE", "DATE") => is_date = true,
            ("VALUE", "DATE-TIME") => {}
            ("TZID", name) => {
                let known = name.trim_start_matches('/').parse::<Zone>();
                zone = Some(known.map_err(|error| line.wrong(format!("TZID: {}", error.problem)))?);
            }
            (key, _) if key.starts_with("X-") => {}
            (key, value) => {
                return Err(line.wrong(format!("{key}={} is not understood", short(value))));
            }
        }
    }
    let (bare, is_utc) = match line.value.strip_suffix('Z') {
        Some(bare) => (bare, true),
        None => (line.value, false),
    };
    let at = if is_date {
        basic_date(bare).map(|date| date.to_datetime(Time::midnight()))
    } else {
        basic_time(bare)
    };
    let is_right = !is_utc || (zone.is_none() && !is_date);
    let at = at.filter(|_| is_right).ok_or_else(|| {
        line.wrong(format!(
            "{}:{} is no date or time",
            line.name,
            short(line.value)
        ))
    })?;
    let zone = if is_utc { Some(Zone::utc()) } else { zone };
    Ok(When { at, is_date, zone })
}

/// `P15DT5H0M20S`, `P7W`.
fn duration(line: &Line<'_>, text: &str) -> Result<SignedDuration, Invalid> {
    let bad = || line.wrong(format!("DURATION:{} is not understood", short(text)));
    let body = text
        .strip_prefix('+')
        .unwrap_or(text)
        .strip_prefix('P')
        .ok_or_else(bad)?;
    let (mut seconds, mut number, mut in_time, mut parts) = (0_i64, String::new(), false, 0);
    for c in body.chars() {
        let unit = match (c, in_time) {
            ('0'..='9', _) if number.len() < 8 => {
                number.push(c);
                continue;
            }
            ('T', false) if number.is_empty() => {
                in_time = true;
                continue;
            }
            ('W', false) => 7 * 86_400,
            ('D', false) => 86_400,
            ('H', true) => 3600,
            ('M', true) => 60,
            ('S', true) => 1,
            _ => return Err(bad()),
        };
        let count: i64 = number.parse().map_err(|_| bad())?;
        seconds += count * unit;
        number.clear();
        parts += 1;
    }
    if parts == 0 || !number.is_empty() {
        return Err(bad());
    }
    Ok(SignedDuration::from_secs(seconds))
}

/// Text without its escapes, on one line, cut to what is kept.
fn title(text: &str) -> String {
    let plain = text
        .replace("\\n", " ")
        .replace("\\N", " ")
        .replace('\\', "");
    let mut title = String::new();
    for c in plain.trim().chars().filter(|c| !c.is_control()) {
        if title.len() + c.len_utf8() > TITLE_MAX {
            break;
        }
        title.push(c);
    }
    title
}

#[cfg(test)]
#[path = "ics_tests.rs"]
mod tests;
