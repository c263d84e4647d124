//! The words of a stretch of time, and which days they mean.
//!
//! ```text
//! Mon..Fri 22:00-05:00              begins on these days; ends on the next where the end is not later
//! Sat,Sun                           whole days
//! second Tuesday 20:00-23:00        first, second, third, fourth, last; of the month
//! day 1..7,last 02:00-04:00         days of the month
//! Jan..Mar first Sunday             only in these months
//! 2026-12-20..2027-01-06            dates, both included; with times on each of these days
//! 12-20..01-06                      the same every year
//! 2026-12-20T18:00..2027-01-06T06:00 [FREQ=YEARLY;…]    from one time to another, once or by a rule of iCalendar
//! … Europe/Berlin                   by the clock there, whoever's clock counts otherwise
//! ```
//!
//! Every word that is given must hold. What cannot be read is refused, and so is what never comes.

use jiff::civil::{Date, DateTime, Weekday};

use super::rule::Recurrence;
use super::stretch::{Begins, DAY, Parts};
use super::{Stretch, Zone, date_of, day_number, wall_seconds};
use crate::Invalid;

/// Longest text of one stretch in bytes.
const TEXT_MAX: usize = 300;
/// Longest stretch that comes again: what lasts a year comes without end.
const LENGTH_MAX: i64 = 366 * DAY;
/// Longest stretch that comes once, in days: ten years.
const ONCE_MAX: i64 = 3650 * DAY;
/// Days in which whatever comes again comes at least once: eight years, for a 29 February across 2100.
const CYCLE: i64 = 8 * 366;

const FORMS: &str = "write for example Mon..Fri 22:00-05:00, second Tuesday 20:00-23:00, day 1..7 02:00-04:00, 2026-12-20..2027-01-06 or 12-20..01-06";

const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const ORDINALS: [&str; 5] = ["first", "second", "third", "fourth", "last"];
/// The place of `last` among the ordinals, and among the days of a month.
const LAST_ORDINAL: u32 = 4;
const LAST_DAY: u32 = 0;

/// Days that all of the given words mean; a word that is absent holds on every day.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Days {
    /// First and last date.
    dates: Option<(Date, Date)>,
    /// First and last day of the year, as month and day; over the turn of the year where the last is earlier.
    yearly: Option<((i8, i8), (i8, i8))>,
    /// Bit n is month n + 1.
    months: Option<u32>,
    /// Bit n is day n of the week, Monday first.
    weekdays: Option<u32>,
    /// Bit n is the (n + 1)th weekday of the month; bit 4 the last.
    ordinals: Option<u32>,
    /// Bit n is day n of the month; bit 0 the last.
    of_month: Option<u32>,
}

impl Days {
    pub(super) fn contain(&self, date: Date) -> bool {
        let has = |set: Option<u32>, bit: i8| {
            set.is_none_or(|set| set & (1 << u32::try_from(bit).unwrap_or(31)) != 0)
        };
        let in_dates = |(first, last)| first <= date && date <= last;
        has(self.months, date.month() - 1)
            && has(self.weekdays, date.weekday().to_monday_zero_offset())
            && self.dates.is_none_or(in_dates)
            && self.yearly.is_none_or(|bounds| in_year(bounds, date))
            && self.ordinals.is_none_or(|set| has_ordinal(set, date))
            && self.of_month.is_none_or(|set| {
                set & (1 << date.day()) != 0
                    || (set & (1 << LAST_DAY) != 0 && date.day() == date.days_in_month())
            })
    }

    pub(super) fn bounds(&self) -> (Option<Date>, Option<Date>) {
        self.dates.unzip()
    }

    /// The first day on which it begins at or after that one.
    fn first_from(&self, date: Date) -> Option<Date> {
        let first = day_number(date);
        (first..first + CYCLE)
            .map(date_of)
            .find(|day| self.contain(*day))
    }
}

fn in_year((first, last): ((i8, i8), (i8, i8)), date: Date) -> bool {
    let day = (date.month(), date.day());
    if first <= last {
        first <= day && day <= last
    } else {
        first <= day || day <= last
    }
}

fn has_ordinal(set: u32, date: Date) -> bool {
    let number = u32::try_from((date.day() - 1) / 7).unwrap_or(0);
    let is_last = date.day() + 7 > date.days_in_month();
    (number < LAST_ORDINAL && set & (1 << number) != 0)
        || (is_last && set & (1 << LAST_ORDINAL) != 0)
}

fn wrong(problem: impl Into<String>) -> Invalid {
    Invalid::new("", problem)
}

/// What has been read of a stretch so far.
#[derive(Default)]
struct Reader {
    days: Days,
    daily: bool,
    times: Option<(i64, i64)>,
    once: Option<(DateTime, DateTime)>,
    rule: Option<String>,
    zone: Option<Zone>,
}

/// Reads a stretch.
pub(super) fn parse(text: &str) -> Result<Stretch, Invalid> {
    if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
        return Err(wrong(format!(
            "must be at most {TEXT_MAX} bytes without control characters"
        )));
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return Err(wrong(format!("is empty; {FORMS}")));
    }
    let mut reader = Reader::default();
    let mut rest = words.as_slice();
    while let [word, tail @ ..] = rest {
        rest = reader
            .word(word, tail)
            .map_err(|problem| wrong(format!("{:?}: {}", text.trim(), problem.problem)))?;
    }
    let parts = reader.finish(words.join(" "));
    parts
        .map(Stretch::new)
        .map_err(|problem| wrong(format!("{:?}: {}", text.trim(), problem.problem)))
}

impl Reader {
    /// Reads a word, and with an ordinal the one after it; gives what is left.
    fn word<'t, 'w>(
        &mut self,
        word: &'w str,
        tail: &'t [&'w str],
    ) -> Result<&'t [&'w str], Invalid> {
        let lower = word.to_ascii_lowercase();
        if lower == "daily" {
            self.daily = true;
        } else if lower == "day" {
            let [numbers, tail @ ..] = tail else {
                return Err(wrong("after day comes a number from 1 to 31, or last"));
            };
            once(
                &mut self.days.of_month,
                set_of(numbers, "a day of the month", month_day)?,
            )?;
            return Ok(tail);
        } else if let Ok(set) = set_of(&lower, "", |word| place(&ORDINALS, word, 0)) {
            let days = tail.first().map(|word| set_of(word, "", weekday));
            if !matches!(days, Some(Ok(_))) {
                return Err(wrong(format!("after {word} comes a day of the week")));
            }
            once(&mut self.days.ordinals, set)?;
        } else if let Ok(set) = set_of(&lower, "", weekday) {
            once(&mut self.days.weekdays, set)?;
        } else if let Ok(set) = set_of(&lower, "", |word| place(&MONTHS, word, 0)) {
            once(&mut self.days.months, set)?;
        } else if let Some(rule) = word.strip_prefix("FREQ=") {
            once(&mut self.rule, format!("FREQ={rule}"))?;
        } else if word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('T') {
            once(&mut self.once, from_to(word)?)?;
        } else if let Some(times) = times(word)? {
            once(&mut self.times, times)?;
        } else if !self.dates(word)? {
            once(&mut self.zone, word.parse().map_err(|_| unknown(word))?)?;
        }
        Ok(tail)
    }

    /// Reads dates; false where the word is none.
    fn dates(&mut self, word: &str) -> Result<bool, Invalid> {
        let (first, last) = word.split_once("..").unwrap_or((word, word));
        if let (Ok(first), Ok(last)) = (first.parse::<Date>(), last.parse::<Date>()) {
            if last < first || first.year() < 1970 || last.year() > 2999 {
                return Err(wrong(format!("{word} must run forward, from 1970 to 2999")));
            }
            once(&mut self.days.dates, (first, last))?;
            return Ok(true);
        }
        let (Some(first), Some(last)) = (day_of_year(first), day_of_year(last)) else {
            return Ok(false);
        };
        once(&mut self.days.yearly, (first, last))?;
        Ok(true)
    }

    fn finish(self, text: String) -> Result<Parts, Invalid> {
        let said_days = self.daily || self.days != Days::default();
        let (begins, from, length) = match (self.once, self.rule) {
            (Some(_), _) if said_days || self.times.is_some() => {
                return Err(wrong(
                    "says from when to when, so no days or times may stand beside it",
                ));
            }
            (Some((from, until)), rule) => {
                let length = wall_seconds(until) - wall_seconds(from);
                let start = from.date();
                let begins = match &rule {
                    None => Begins::On(start),
                    Some(rule) => Begins::Rule(Recurrence::parse(rule, from, self.zone.as_ref())?),
                };
                let max = if rule.is_some() { LENGTH_MAX } else { ONCE_MAX };
                if length <= 0 || length > max {
                    return Err(wrong(format!(
                        "must end after it begins, at most {} days later",
                        max / DAY
                    )));
                }
                (begins, wall_seconds(from) - day_number(start) * DAY, length)
            }
            (None, Some(_)) => {
                return Err(wrong(
                    "a rule needs the first time before it, such as 2026-12-24T00:00..2026-12-25T00:00",
                ));
            }
            (None, None) => {
                if !said_days && self.times.is_none() {
                    return Err(wrong(format!("says no time; {FORMS}")));
                }
                let (from, length) = self.times.unwrap_or((0, DAY));
                let first = self.days.bounds().0;
                let from_day = first.unwrap_or(Date::constant(2024, 1, 1));
                if self.days.first_from(from_day).is_none() {
                    return Err(wrong("is on no day of any year"));
                }
                (Begins::Days(self.days), from, length)
            }
        };
        Ok(Parts {
            text,
            begins,
            from,
            length,
            zone: self.zone,
        })
    }
}

fn unknown(word: &str) -> Invalid {
    let known = WEEKDAYS.iter().chain(&MONTHS).chain(&ORDINALS).copied();
    let near = crate::invalid::nearest(&word.to_ascii_lowercase(), known);
    let zone = word.parse::<Zone>().err().filter(|_| word.contains('/'));
    wrong(match (near, zone) {
        (Some(near), _) => format!("{word:?} is not understood; did you mean {near}"),
        (None, Some(zone)) => zone.problem,
        (None, None) => format!("{word:?} is not understood; {FORMS}"),
    })
}

/// Each kind of word stands once.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Invalid> {
    if slot.replace(value).is_some() {
        return Err(wrong("says one thing twice; write two entries instead"));
    }
    Ok(())
}

/// The place of a word in a list, in full or by its first three letters at least.
fn place(list: &[&str], word: &str, first: u32) -> Option<u32> {
    let found = list.iter().position(|full| {
        word == *full || (word.len() >= 3 && list.len() > 5 && full.starts_with(word))
    })?;
    u32::try_from(found).ok().map(|place| place + first)
}

fn weekday(word: &str) -> Option<u32> {
    place(&WEEKDAYS, &word.to_ascii_lowercase(), 0)
}

fn month_day(word: &str) -> Option<u32> {
    if word == "last" {
        return Some(LAST_DAY);
    }
    word.parse().ok().filter(|day| (1..=31).contains(day))
}

/// `Mon..Wed,Fri`: a set of places. A range runs on over the end of weekdays and months.
fn set_of(text: &str, what: &str, place: impl Fn(&str) -> Option<u32>) -> Result<u32, Invalid> {
    let bad = |word: &str| wrong(format!("{word:?} is not {what}"));
    let mut set = 0;
    for part in text.split(',') {
        match part.split_once("..") {
            None => set |= 1 << place(part).ok_or_else(|| bad(part))?,
            Some((first, last)) => {
                let first = place(first).ok_or_else(|| bad(part))?;
                let last = place(last).ok_or_else(|| bad(part))?;
                // Days of the month do not run over the end, since months end on different days.
                let size = if place("mon") == Some(0) { 7 } else { 12 };
                if place("1") == Some(1) && (last < first || first == 0) {
                    return Err(wrong(format!("{part} must run forward")));
                }
                let steps = (last + if last < first { size } else { 0 }) - first;
                for step in 0..=steps {
                    let at = first + step;
                    set |= 1
                        << if at >= size && last < first {
                            at - size
                        } else {
                            at
                        };
                }
            }
        }
    }
    Ok(set)
}

/// `22:00-05:00`, as seconds after midnight and length; nothing where it has not that form.
fn times(word: &str) -> Result<Option<(i64, i64)>, Invalid> {
    let Some((from, until)) = word.split_once('-') else {
        return Ok(None);
    };
    let (Some(from), Some(until)) = (minute(from), minute(until)) else {
        return if word.starts_with(|c: char| c.is_ascii_digit()) && word.contains(':') {
            Err(wrong(format!("{word:?} are no times; write 22:00-05:00")))
        } else {
            Ok(None)
        };
    };
    if from == until || from == DAY {
        return Err(wrong(format!(
            "{word} is empty; for a whole day write no times, or 00:00-24:00"
        )));
    }
    let length = if until > from {
        until - from
    } else {
        until + DAY - from
    };
    Ok(Some((from, length)))
}

/// `22:00`, as seconds after midnight; up to `24:00`.
fn minute(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse::<i64>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let seconds = hours * 3600 + minutes * 60;
    (minutes < 60 && seconds <= DAY).then_some(seconds)
}

/// `12-20`: month and day.
fn day_of_year(text: &str) -> Option<(i8, i8)> {
    let (month, day) = text.split_once('-')?;
    if month.len() != 2 || day.len() != 2 {
        return None;
    }
    // 2024 has a 29 February.
    let date = Date::new(2024, month.parse().ok()?, day.parse().ok()?).ok()?;
    Some((date.month(), date.day()))
}

/// `2026-12-20T18:00..2027-01-06T06:00`.
fn from_to(word: &str) -> Result<(DateTime, DateTime), Invalid> {
    let bad = || {
        wrong(format!(
            "{word:?} are no times; write 2026-12-20T18:00..2027-01-06T06:00"
        ))
    };
    let (from, until) = word.split_once("..").ok_or_else(bad)?;
    let time = |text: &str| {
        let parsed = text.parse::<DateTime>().ok()?;
        let plain = text.len() <= 19 && !text.ends_with('Z') && parsed.subsec_nanosecond() == 0;
        (plain && (1970..=2999).contains(&parsed.year())).then_some(parsed)
    };
    Ok((time(from).ok_or_else(bad)?, time(until).ok_or_else(bad)?))
}

/// The weekday of two letters in a rule of iCalendar.
pub(super) fn short_weekday(text: &str) -> Option<Weekday> {
    let short = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
    let place = short.iter().position(|day| *day == text)?;
    Weekday::from_monday_zero_offset(i8::try_from(place).ok()?).ok()
}
