//! Points in time and durations on the wire.

use std::time::Duration;

use jiff::Timestamp;

use crate::{Invalid, duration};

/// A point in time; refused where it is missing or out of range.
pub fn timestamp(field: &str, wire: Option<prost_types::Timestamp>) -> Result<Timestamp, Invalid> {
    let wire = super::required(field, wire)?;
    Timestamp::new(wire.seconds, wire.nanos)
        .map_err(|_| Invalid::new(field, "is not a point in time"))
}

/// A point in time, for the wire.
pub fn to_timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// A duration of at most ten years; refused where it is missing, negative or longer.
pub fn span(field: &str, wire: Option<prost_types::Duration>) -> Result<Duration, Invalid> {
    let wire = super::required(field, wire)?;
    let seconds = u64::try_from(wire.seconds);
    let nanos = u32::try_from(wire.nanos);
    match (seconds, nanos) {
        (Ok(seconds), Ok(nanos)) if seconds <= duration::MAX.as_secs() && nanos < 1_000_000_000 => {
            Ok(Duration::new(seconds, nanos))
        }
        _ => Err(Invalid::new(field, "is not a duration from 0s to 3650d")),
    }
}

/// A duration, for the wire.
pub fn to_span(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}
