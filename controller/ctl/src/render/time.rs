//! Moments and lengths of time as people say them.
//!
//! Pure. Invariant: a moment that is missing or out of range is shown as `-`, never as 1970.

use std::time::Duration;

use comber_model::wire::time::timestamp;
use jiff::Timestamp;

use super::View;

/// A moment from the wire, where it is one.
pub(crate) fn at(wire: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    timestamp("at", wire).ok()
}

/// RFC 3339 to the second, for JSON and logs.
pub(crate) fn instant(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

impl View {
    /// `3m ago`, or `-`.
    pub(crate) fn ago(&self, wire: Option<prost_types::Timestamp>) -> String {
        at(wire).map_or_else(
            || "-".to_owned(),
            |at| format!("{} ago", length(self.since(at))),
        )
    }

    /// `3m`, or `-`.
    pub(crate) fn elapsed(&self, wire: Option<prost_types::Timestamp>) -> String {
        at(wire).map_or_else(|| "-".to_owned(), |at| length(self.since(at)))
    }

    /// `in 3m`, `now` where it is over, or nothing.
    pub(crate) fn left(&self, wire: Option<prost_types::Timestamp>) -> Option<String> {
        let at = at(wire)?;
        let left = Duration::try_from(at.duration_since(self.now)).unwrap_or_default();
        if left.is_zero() {
            return Some("now".to_owned());
        }
        Some(format!("in {}", length(left)))
    }

    fn since(&self, at: Timestamp) -> Duration {
        // A controller whose clock is a little ahead has just done it.
        Duration::try_from(self.now.duration_since(at)).unwrap_or_default()
    }
}

/// The two largest units: `4s`, `3m`, `1h5m`, `2d3h`. Minutes show seconds only below ten.
pub(crate) fn length(length: Duration) -> String {
    let seconds = length.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..600 => two(minutes, "m", seconds % 60, "s"),
        600..3600 => format!("{minutes}m"),
        3600..86_400 => two(hours, "h", minutes, "m"),
        _ => two(days, "d", hours, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_as_people_say_them() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m1s"),
            (599, "9m59s"),
            (659, "10m"),
            (3600, "1h"),
            (3900, "1h5m"),
            (86_400, "1d"),
            (183_600, "2d3h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(length(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_missing_moment_is_not_1970() {
        let view = View {
            width: None,
            color: false,
            now: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(view.ago(None), "-");
        assert_eq!(view.left(None), None);
        let odd = prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert_eq!(view.ago(Some(odd)), "-");
    }
}
