//! Times of the year and of the day as people write them: windows, freezes, and the zone that a host's clock shows.
//!
//! ```text
//! "Mon..Fri 22:00-05:00" ─ grammar ─▶ Stretch ──┐
//! FILE.ics ─ ics ─▶ "2026-12-24T00:00..… FREQ=YEARLY" ─┘      ├─ schedule: covering, next ─▶ instants
//!                                     Zone (label, fact, file) ┘
//! ```
//!
//! Reads no clock and no file: the rules of the zones are compiled in. The one rule of daylight saving: a stretch
//! covers an instant exactly where the clock on the wall reads a time in it. An hour that is skipped is not there, and
//! one that comes twice counts twice.

mod freeze;
mod grammar;
pub mod ics;
mod moment;
mod rule;
mod schedule;
mod stretch;
mod zone;

pub use freeze::{FREEZES_MAX, Freeze, FreezeDays, FreezeTime};
pub use moment::Moment;
pub use schedule::{Schedule, Span};
pub use stretch::Stretch;
pub use zone::{Zone, ZoneChoice};

use jiff::civil::{Date, DateTime};

/// Days since 1970-01-01.
fn day_number(date: Date) -> i64 {
    date.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24
}

/// The date so many days after 1970-01-01; the last one there is where that is further.
fn date_of(number: i64) -> Date {
    Date::constant(1970, 1, 1).saturating_add(jiff::SignedDuration::from_hours(
        number.clamp(-1_000_000, 3_000_000) * 24,
    ))
}

/// Seconds that a clock on the wall has passed since it read 1970-01-01 00:00, were it never set.
fn wall_seconds(at: DateTime) -> i64 {
    at.duration_since(Date::constant(1970, 1, 1).at(0, 0, 0, 0))
        .as_secs()
}

#[cfg(test)]
mod tests;
