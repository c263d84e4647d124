//! Sums of times and durations that cannot overflow.

use std::time::Duration;

use jiff::Timestamp;

/// `at` and `duration` later, or the end of time.
pub(crate) fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// From `from` until `to`; nothing where `to` is not later.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
