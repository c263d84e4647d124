//! One stretch of time, once or again and again: the days on which it begins, when, and how long it lasts by the clock
//! on the wall.
//!
//! Keeps the text that it was read from, so that what is stored and shown is what was written. The invariant: it
//! covers an instant exactly where the clock on the wall reads a time in it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::civil::{Date, DateTime};
use serde::{Deserialize, Serialize};

use super::grammar::{self, Days};
use super::rule::Recurrence;
use super::schedule::Span;
use super::zone::{Even, timestamp};
use super::{Zone, date_of, day_number, wall_seconds};
use crate::Invalid;

/// Seconds of a day without any clock being set.
pub(super) const DAY: i64 = 86_400;
/// No two places of the earth are further apart, in seconds, with room to spare.
const OFFSETS: i64 = 27 * 3600;

/// See the module. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Stretch(Arc<Parts>);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// As written.
    pub(super) text: String,
    pub(super) begins: Begins,
    /// Seconds after midnight at which it begins.
    pub(super) from: i64,
    /// Seconds that it lasts by the clock on the wall; more than none.
    pub(super) length: i64,
    /// Its own zone, whoever asks.
    pub(super) zone: Option<Zone>,
}

/// On which days it begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begins {
    On(Date),
    Days(Days),
    Rule(Recurrence),
}

impl Begins {
    pub(super) fn on(&self, date: Date) -> bool {
        match self {
            Self::On(day) => *day == date,
            Self::Days(days) => days.contain(date),
            Self::Rule(rule) => rule.contains(date),
        }
    }

    /// The first and last day that can be one, where there are such.
    fn bounds(&self) -> (i64, i64) {
        let (first, last) = match self {
            Self::On(day) => (Some(*day), Some(*day)),
            Self::Days(days) => days.bounds(),
            Self::Rule(rule) => rule.bounds(),
        };
        (
            first.map_or(i64::MIN, day_number),
            last.map_or(i64::MAX, day_number),
        )
    }
}

impl Stretch {
    pub(super) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Its own zone, where it says one; otherwise whoever asks says whose clock counts.
    pub fn zone(&self) -> Option<&Zone> {
        self.0.zone.as_ref()
    }

    /// How long it lasts by the clock on the wall.
    pub fn seconds(&self) -> i64 {
        self.0.length
    }

    /// True where a clock that reads this is in it.
    pub fn reads(&self, wall: DateTime) -> bool {
        let at = wall_seconds(wall);
        let reach = (self.0.from + self.0.length) / DAY;
        let today = day_number(wall.date());
        let (first, last) = self.0.begins.bounds();
        let days = (today - reach).max(first)..=today.min(last);
        days.into_iter().any(|day| {
            let begin = day * DAY + self.0.from;
            begin <= at && at < begin + self.0.length && self.0.begins.on(date_of(day))
        })
    }

    /// The instants that it covers, of those that begin before `until` and end after `from`; neither cut nor merged.
    /// Times in seconds since 1970. The zone is for those that have none of their own; `near` is what it says of the
    /// time asked about, found once for all stretches.
    pub(super) fn pieces(
        &self,
        (zone, near): (&Zone, &Even),
        (from, until): (i64, i64),
        found: &mut Vec<Span>,
    ) {
        let parts = &self.0;
        let (first, last) = parts.begins.bounds();
        let reach = parts.from + parts.length + OFFSETS;
        let days =
            first.max((from - reach).div_euclid(DAY))..=last.min((until + OFFSETS).div_euclid(DAY));
        for day in days {
            if !parts.begins.on(date_of(day)) {
                continue;
            }
            let begin = day * DAY + parts.from;
            let end = begin + parts.length;
            let (lowest, highest) = (begin - OFFSETS, end + OFFSETS);
            let is_near = parts.zone.is_none() && near.from <= lowest && highest <= near.until;
            let own = (!is_near).then(|| {
                let zone = parts.zone.as_ref().unwrap_or(zone);
                zone.even(lowest, highest)
            });
            let even = own.as_ref().unwrap_or(near);
            for (even_from, even_until, offset) in even.parts.iter().copied() {
                let piece = (
                    (begin - offset).max(even_from),
                    (end - offset).min(even_until),
                );
                if piece.0 < piece.1 && piece.0 < until && piece.1 > from {
                    found.push(Span {
                        from: timestamp(piece.0),
                        until: timestamp(piece.1),
                    });
                }
            }
        }
    }
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.text)
    }
}

impl FromStr for Stretch {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        grammar::parse(text)
    }
}

impl TryFrom<String> for Stretch {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Stretch> for String {
    fn from(stretch: Stretch) -> Self {
        stretch.0.text.clone()
    }
}
