//! When a rollout is due, by its priority: the time frames that patch management works by.
//!
//! Months and years are those of the calendar, in UTC. A due date holds nothing up; a rollout that is past it goes before
//! others that are not (see [`Urgency`]), so that none waits for ever behind more urgent ones.

use std::time::Duration;

use jiff::tz::Offset;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::Priority;
use crate::{Invalid, duration};

/// How soon a rollout shall be done, counted from its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Due {
    /// As is recommended for its priority: 24 hours, 1 month, 4 months, 1 year.
    #[default]
    Recommended,
    /// As is the least for its priority: 2 weeks, 2 months, 6 months, 1 year.
    Minimum,
    /// Within a time of its own.
    Within(Duration),
}

impl Due {
    /// The due date of what begins at that time.
    pub fn at(self, priority: Priority, from: Timestamp) -> Timestamp {
        let span = match (self, priority) {
            (Self::Within(within), _) => return from.checked_add(within).unwrap_or(Timestamp::MAX),
            (Self::Recommended, Priority::Emergency) => Span::new().hours(24),
            (Self::Minimum, Priority::Emergency) => Span::new().weeks(2),
            (Self::Recommended, Priority::High) => Span::new().months(1),
            (Self::Minimum, Priority::High) => Span::new().months(2),
            (Self::Recommended, Priority::Medium) => Span::new().months(4),
            (Self::Minimum, Priority::Medium) => Span::new().months(6),
            (Self::Recommended | Self::Minimum, Priority::Low) => Span::new().years(1),
        };
        let due = Offset::UTC.to_datetime(from).checked_add(span);
        let due = due.and_then(|due| Offset::UTC.to_timestamp(due));
        due.unwrap_or(Timestamp::MAX)
    }

    /// True for what a rollout file need not say.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<String> for Due {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        match text.as_str() {
            "recommended" => Ok(Self::Recommended),
            "minimum" => Ok(Self::Minimum),
            text => match duration::parse(text) {
                Ok(within) if !within.is_zero() => Ok(Self::Within(within)),
                Ok(_) | Err(_) => {
                    let problem = format!(
                        "{text:?} must be recommended, minimum, or a length of time such as 10d"
                    );
                    Err(Invalid::new("due", problem))
                }
            },
        }
    }
}

impl From<Due> for String {
    fn from(due: Due) -> Self {
        match due {
            Due::Recommended => "recommended".to_owned(),
            Due::Minimum => "minimum".to_owned(),
            Due::Within(within) => duration::format(within),
        }
    }
}

/// Which of two rollouts goes first, as things stand: emergencies, then those past their due date, then by priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words are those of priorities")]
pub enum Urgency {
    Low,
    Medium,
    High,
    /// Past its due date, whatever its priority.
    Overdue,
    Emergency,
}

impl Urgency {
    /// Of a rollout of that priority.
    pub fn of(priority: Priority, is_overdue: bool) -> Self {
        match priority {
            Priority::Emergency => Self::Emergency,
            Priority::Low | Priority::Medium | Priority::High if is_overdue => Self::Overdue,
            Priority::High => Self::High,
            Priority::Medium => Self::Medium,
            Priority::Low => Self::Low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn due_dates_are_those_of_the_calendar() {
        let from = at("2026-11-24T12:00:00Z");
        let expected = [
            (
                Priority::Emergency,
                "2026-11-25T12:00:00Z",
                "2026-12-08T12:00:00Z",
            ),
            (
                Priority::High,
                "2026-12-24T12:00:00Z",
                "2027-01-24T12:00:00Z",
            ),
            (
                Priority::Medium,
                "2027-03-24T12:00:00Z",
                "2027-05-24T12:00:00Z",
            ),
            (
                Priority::Low,
                "2027-11-24T12:00:00Z",
                "2027-11-24T12:00:00Z",
            ),
        ];
        for (priority, recommended, minimum) in expected {
            assert_eq!(Due::Recommended.at(priority, from), at(recommended));
            assert_eq!(Due::Minimum.at(priority, from), at(minimum));
        }
        let own = Due::try_from("10d".to_owned()).unwrap();
        assert_eq!(own.at(Priority::Low, from), at("2026-12-04T12:00:00Z"));
        assert_eq!(
            Due::Recommended.at(Priority::Low, Timestamp::MAX),
            Timestamp::MAX
        );
    }

    #[test]
    fn a_due_date_reads_back_as_written() {
        for text in ["recommended", "minimum", "10d", "1h30m"] {
            let due = Due::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(due), text);
        }
        for bad in ["", "soon", "0s", "-1d"] {
            assert!(
                Due::try_from(bad.to_owned()).is_err(),
                "{bad:?} was accepted"
            );
        }
    }

    #[test]
    fn nothing_but_an_emergency_goes_before_what_is_overdue() {
        use Priority as P;
        for priority in [P::Low, P::Medium, P::High] {
            assert!(Urgency::of(priority, true) > Urgency::of(P::High, false));
            assert!(Urgency::of(priority, true) < Urgency::of(P::Emergency, false));
        }
        assert_eq!(
            Urgency::of(P::Emergency, true),
            Urgency::of(P::Emergency, false)
        );
    }
}
