//! A rule of iCalendar (RFC 5545) by which an event comes again: the part of it that calendars of freezes use.
//!
//! What is not understood is refused by its name, never left out: a freeze that is read as less than it says would let
//! hosts move while nobody expects it.

use jiff::civil::{Date, DateTime, Weekday};

use super::grammar::short_weekday;
use super::{Zone, date_of, day_number};
use crate::Invalid;

/// Most occurrences that a rule may count.
const COUNT_MAX: u32 = 1000;
/// Days looked through for the last of the counted occurrences: a hundred years.
const COUNT_DAYS: i64 = 36_525;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frequency {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// The days on which an event begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recurrence {
    start: Date,
    /// Every so many days, weeks, months or years.
    interval: i64,
    frequency: Frequency,
    /// Number in the month, from its end where negative, 0 for each; and day of the week.
    by_day: Vec<(i8, Weekday)>,
    /// Days of the month, from its end where negative.
    by_month_day: Vec<i8>,
    by_month: Vec<i8>,
    last: Option<Date>,
}

fn wrong(problem: impl Into<String>) -> Invalid {
    Invalid::new("RRULE", problem)
}

impl Recurrence {
    /// Reads a rule for an event that first begins at `start`, by the clock of `zone` where it has one of its own.
    pub(super) fn parse(text: &str, start: DateTime, zone: Option<&Zone>) -> Result<Self, Invalid> {
        let mut rule = Self {
            start: start.date(),
            interval: 1,
            frequency: Frequency::Daily,
            by_day: Vec::new(),
            by_month_day: Vec::new(),
            by_month: Vec::new(),
            last: None,
        };
        let (mut count, mut monday, mut seen) = (None, true, Vec::new());
        for part in text.split(';') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| wrong(format!("{part:?} is not of the form KEY=VALUE")))?;
            if seen.contains(&key) {
                return Err(wrong(format!("{key} stands twice")));
            }
            seen.push(key);
            match key {
                "FREQ" => rule.frequency = frequency(value)?,
                "INTERVAL" => rule.interval = i64::from(number(key, value, 1, 1000)?),
                "COUNT" => count = Some(number(key, value, 1, COUNT_MAX)?),
                "UNTIL" => rule.last = Some(until(value, start, zone)?),
                "BYDAY" => rule.by_day = list(key, value, by_day)?,
                "BYMONTHDAY" => rule.by_month_day = list(key, value, |day| signed(day, 31))?,
                "BYMONTH" => {
                    rule.by_month = list(key, value, |month| signed(month, 12).filter(|m| *m > 0))?;
                }
                "WKST" => monday = value == "MO",
                other => return Err(wrong(format!("{other} is not understood"))),
            }
        }
        rule.check(count.is_some(), monday)?;
        if let Some(count) = count {
            rule.last = Some(rule.counted(count)?);
        }
        Ok(rule)
    }

    /// Refuses what would be read otherwise than it is meant.
    fn check(&self, counts: bool, monday: bool) -> Result<(), Invalid> {
        let by_number = self.by_day.iter().any(|(number, _)| *number != 0);
        let in_months = !self.by_month.is_empty();
        let days = !self.by_day.is_empty() || !self.by_month_day.is_empty();
        let problem = match self.frequency {
            _ if counts && self.last.is_some() => "COUNT and UNTIL stand together",
            Frequency::Weekly if self.interval > 1 && !monday => {
                "WKST other than MO with INTERVAL is not understood"
            }
            Frequency::Daily | Frequency::Weekly if by_number => {
                "BYDAY with numbers needs FREQ=MONTHLY, or FREQ=YEARLY with BYMONTH"
            }
            Frequency::Weekly if !self.by_month_day.is_empty() => {
                "BYMONTHDAY with FREQ=WEEKLY is not understood"
            }
            Frequency::Yearly if days && !in_months => {
                "BYDAY and BYMONTHDAY with FREQ=YEARLY need BYMONTH"
            }
            _ if self.last.is_some_and(|last| last < self.start) => "UNTIL is before DTSTART",
            _ if !self.matches(self.start) => "DTSTART is none of the days of the rule",
            _ => return Ok(()),
        };
        Err(wrong(problem))
    }

    /// The day of the last of so many occurrences.
    fn counted(&self, count: u32) -> Result<Date, Invalid> {
        let first = day_number(self.start);
        let days = (first..first + COUNT_DAYS).map(date_of);
        let last = days
            .filter(|day| self.matches(*day))
            .nth(count as usize - 1);
        last.ok_or_else(|| wrong("COUNT reaches further than a hundred years"))
    }

    pub(super) fn bounds(&self) -> (Option<Date>, Option<Date>) {
        (Some(self.start), self.last)
    }

    pub(super) fn contains(&self, date: Date) -> bool {
        self.start <= date && self.last.is_none_or(|last| date <= last) && self.matches(date)
    }

    /// True for a day of the rule, whatever its end. Asked of days from the start on.
    fn matches(&self, date: Date) -> bool {
        let months = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
        let passed = match self.frequency {
            Frequency::Daily => day_number(date) - day_number(self.start),
            Frequency::Weekly => week(date) - week(self.start),
            Frequency::Monthly => months(date) - months(self.start),
            Frequency::Yearly => i64::from(date.year()) - i64::from(self.start.year()),
        };
        passed % self.interval == 0 && self.in_month(date) && self.on_day(date)
    }

    fn in_month(&self, date: Date) -> bool {
        match self.frequency {
            Frequency::Yearly if self.by_month.is_empty() => date.month() == self.start.month(),
            _ => self.by_month.is_empty() || self.by_month.contains(&date.month()),
        }
    }

    fn on_day(&self, date: Date) -> bool {
        if self.by_day.is_empty() && self.by_month_day.is_empty() {
            return match self.frequency {
                Frequency::Daily => true,
                Frequency::Weekly => date.weekday() == self.start.weekday(),
                Frequency::Monthly | Frequency::Yearly => date.day() == self.start.day(),
            };
        }
        let from_end = date.day() - date.days_in_month() - 1;
        let by_month_day = self.by_month_day.is_empty()
            || self.by_month_day.contains(&date.day())
            || self.by_month_day.contains(&from_end);
        let (number, number_from_end) = ((date.day() - 1) / 7 + 1, (from_end + 1) / 7 - 1);
        let is_day = |(wanted, weekday): &(i8, Weekday)| {
            *weekday == date.weekday()
                && (*wanted == 0 || *wanted == number || *wanted == number_from_end)
        };
        by_month_day && (self.by_day.is_empty() || self.by_day.iter().any(is_day))
    }
}

/// Weeks since one that began on a Monday.
fn week(date: Date) -> i64 {
    // 1970-01-01 was a Thursday.
    (day_number(date) + 3).div_euclid(7)
}

fn frequency(text: &str) -> Result<Frequency, Invalid> {
    Ok(match text {
        "DAILY" => Frequency::Daily,
        "WEEKLY" => Frequency::Weekly,
        "MONTHLY" => Frequency::Monthly,
        "YEARLY" => Frequency::Yearly,
        other => return Err(wrong(format!("FREQ={other} is not understood"))),
    })
}

fn number(key: &str, text: &str, min: u32, max: u32) -> Result<u32, Invalid> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| wrong(format!("{key}={text} must be {min} to {max}")))
}

fn signed(text: &str, max: i8) -> Option<i8> {
    let number: i8 = text.strip_prefix('+').unwrap_or(text).parse().ok()?;
    (number != 0 && (-max..=max).contains(&number)).then_some(number)
}

fn by_day(text: &str) -> Option<(i8, Weekday)> {
    let (number, day) = text.split_at_checked(text.len().checked_sub(2)?)?;
    let number = if number.is_empty() {
        0
    } else {
        signed(number, 5)?
    };
    Some((number, short_weekday(day)?))
}

fn list<T>(key: &str, text: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Invalid> {
    let values: Option<Vec<T>> = text.split(',').map(read).collect();
    values.ok_or_else(|| wrong(format!("{key}={text} is not understood")))
}

/// The last day on which an event may begin.
fn until(text: &str, start: DateTime, zone: Option<&Zone>) -> Result<Date, Invalid> {
    let bad = || wrong(format!("UNTIL={text} is no date or time"));
    let (bare, is_utc) = match text.strip_suffix('Z') {
        Some(bare) => (bare, true),
        None => (text, false),
    };
    let last = match basic_time(bare) {
        Some(time) if is_utc => {
            let zone = zone.ok_or_else(|| {
                wrong(format!(
                    "UNTIL={text} is a time of UTC, DTSTART has no zone"
                ))
            })?;
            zone.wall(Zone::utc().instant(time))
        }
        Some(time) => time,
        None if is_utc => return Err(bad()),
        None => {
            let date = basic_date(bare).ok_or_else(bad)?;
            return Ok(date);
        }
    };
    // An event that would begin after that time of its last day does not come.
    if start.time() <= last.time() {
        Ok(last.date())
    } else {
        last.date().yesterday().map_err(|_| bad())
    }
}

/// `20261224`.
pub(super) fn basic_date(text: &str) -> Option<Date> {
    let is_date = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    let date = is_date
        .then(|| Date::strptime("%Y%m%d", text).ok())
        .flatten()?;
    (1970..=2999).contains(&date.year()).then_some(date)
}

/// `20261224T180000`.
pub(super) fn basic_time(text: &str) -> Option<DateTime> {
    let (date, time) = text.split_once('T')?;
    let is_time = time.len() == 6 && time.bytes().all(|b| b.is_ascii_digit());
    let date = basic_date(date)?;
    let part = |from: usize| time.get(from..from + 2)?.parse::<i8>().ok();
    let (hour, minute, second) = (part(0)?, part(2)?, part(4)?);
    let is_right = is_time && hour < 24 && minute < 60 && second < 60;
    is_right.then(|| date.at(hour, minute, second, 0))
}
