//! A time zone as a value: its name, and the rules that came with this program.
//!
//! The rules are compiled in, so that every controller makes the same plan of the same file, with or without a
//! database of its own. Where a country changes its rules before this program does, the rule itself can be written.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, tz};
use serde::{Deserialize, Serialize};

use crate::Invalid;
use crate::invalid::nearest;

/// Longest name in bytes: the longest of the database has 30, a rule with both ends a few more.
const NAME_MAX: usize = 100;

/// A zone that is known. Cheap to clone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: Arc<str>,
    rules: TimeZone,
}

impl Zone {
    /// What a host keeps that says nothing of its zone: without `/etc/localtime` the C library shows UTC.
    pub fn utc() -> Self {
        Self {
            name: "UTC".into(),
            rules: TimeZone::UTC,
        }
    }

    /// The name, as it is written in the database, or the rule.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a clock on the wall reads at that instant.
    pub fn wall(&self, at: Timestamp) -> DateTime {
        self.rules.to_datetime(at)
    }

    /// The instant at which a clock on the wall reads that: the first where it does so twice; where it never does,
    /// the clock having been set forward, so much later.
    pub fn instant(&self, wall: DateTime) -> Timestamp {
        let instant = self.rules.to_timestamp(wall);
        instant.unwrap_or(Timestamp::MAX)
    }

    /// Stretches of time in which the clock is not set, from `from` to `until`, in seconds since 1970.
    pub(super) fn even(&self, from: i64, until: i64) -> Even {
        let first = timestamp(from);
        let seconds = |offset: Offset| i64::from(offset.seconds());
        let mut parts = Vec::with_capacity(2);
        let (mut begin, mut offset) = (from, seconds(self.rules.to_offset(first)));
        for change in self.rules.following(first) {
            let at = change.timestamp().as_second();
            if at >= until {
                break;
            }
            parts.push((begin, at, offset));
            (begin, offset) = (at, seconds(change.offset()));
        }
        parts.push((begin, until, offset));
        Even { from, until, parts }
    }

    /// `22:00 on Tue 24 Nov in Europe/Berlin`: a time for people.
    pub fn local(&self, at: Timestamp) -> String {
        let wall = self.wall(at);
        format!("{} in {}", wall.strftime("%H:%M on %a %d %b %Y"), self.name)
    }
}

/// Stretches of time in which a clock is not set; together they cover everything between two times.
#[derive(Debug)]
pub(super) struct Even {
    pub(super) from: i64,
    pub(super) until: i64,
    /// Begin, end, and offset in seconds.
    pub(super) parts: Vec<(i64, i64, i64)>,
}

/// A time in seconds, or the nearest end of time.
pub(super) fn timestamp(seconds: i64) -> Timestamp {
    let clamped = seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(clamped).unwrap_or(Timestamp::MAX)
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl FromStr for Zone {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |problem: String| Err(Invalid::new("zone", problem));
        if text.len() > NAME_MAX || text.chars().any(|c| !c.is_ascii_graphic()) {
            return bad(format!(
                "must be a name such as Europe/Berlin, at most {NAME_MAX} bytes without spaces"
            ));
        }
        if text.eq_ignore_ascii_case("utc") {
            return Ok(Self::utc());
        }
        let known = TimeZone::get(text).ok().filter(|zone| !zone.is_unknown());
        if let Some(rules) = known {
            let name = rules.iana_name().unwrap_or(text).into();
            return Ok(Self { name, rules });
        }
        // A rule has an offset in digits; a name that only looks like one is a slip of the pen.
        if text.contains(|c: char| c.is_ascii_digit())
            && let Ok(rules) = TimeZone::posix(text)
        {
            let name = text.into();
            return Ok(Self { name, rules });
        }
        let names: Vec<String> = tz::db().available().map(|name| name.to_string()).collect();
        match nearest(text, names.iter().map(String::as_str)) {
            Some(near) => bad(format!("{text:?} is no time zone; did you mean {near}")),
            None => bad(format!(
                "{text:?} is no time zone; write a name such as Europe/Berlin, UTC, or a rule such as CET-1CEST,M3.5.0,M10.5.0/3"
            )),
        }
    }
}

impl TryFrom<String> for Zone {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name.as_ref().to_owned()
    }
}

/// Whose clock on the wall counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ZoneChoice {
    /// That of each host: its label `timezone`, else its fact `timezone`, else UTC.
    #[default]
    Host,
    /// One for all.
    Named(Zone),
}

impl fmt::Display for ZoneChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.pad("host"),
            Self::Named(zone) => zone.fmt(f),
        }
    }
}

impl TryFrom<String> for ZoneChoice {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        match text.as_str() {
            "host" => Ok(Self::Host),
            name => name.parse().map(Self::Named),
        }
    }
}

impl From<ZoneChoice> for String {
    fn from(choice: ZoneChoice) -> Self {
        choice.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_without_a_database_on_the_machine() {
        let berlin: Zone = "europe/berlin".parse().unwrap();
        assert_eq!(berlin.name(), "Europe/Berlin");
        let summer: Timestamp = "2026-07-01T12:00:00Z".parse().unwrap();
        assert_eq!(berlin.wall(summer).to_string(), "2026-07-01T14:00:00");
        assert_eq!(
            berlin.local(summer),
            "14:00 on Wed 01 Jul 2026 in Europe/Berlin"
        );
        assert_eq!("Utc".parse::<Zone>().unwrap(), Zone::utc());
    }

    #[test]
    fn a_rule_stands_for_a_zone() {
        let rule: Zone = "CET-1CEST,M3.5.0,M10.5.0/3".parse().unwrap();
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        for at in [
            "2026-03-29T00:59:59Z",
            "2026-03-29T01:00:00Z",
            "2026-10-25T01:00:00Z",
        ] {
            let at: Timestamp = at.parse().unwrap();
            assert_eq!(rule.wall(at), berlin.wall(at));
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_answered_with_the_name_meant() {
        let error = "Europe/Berlni".parse::<Zone>().unwrap_err().to_string();
        assert!(error.contains("did you mean Europe/Berlin"), "{error}");
        for bad in [
            "",
            "Mars/Olympus Mons",
            "Etc/Unknown",
            "host",
            "22:00-05:00",
            "\u{1b}[31m",
        ] {
            assert!(bad.parse::<Zone>().is_err(), "{bad:?} was taken");
        }
    }
}
