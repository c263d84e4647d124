//! Time as values: what the driver reads once per event, and points on the clock of one boot.
//!
//! Every decision is made on the clock that counts from boot and runs through suspend. The wall clock is for people:
//! it may jump, so nothing here compares it. Another boot starts that clock anew, so each point names its boot.
//! Invariant: a [`Moment`] of another boot is neither ahead nor due.

use std::fmt;
use std::time::Duration;

use comber_model::{Nonce, duration};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Names one boot of the host, as in `/proc/sys/kernel/random/boot_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub String);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What the driver reads of the outside world for one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// Time of day: only ever shown and reported.
    pub wall: Timestamp,
    /// Time since boot, suspend included (`CLOCK_BOOTTIME`).
    pub boot: Duration,
    /// The boot that `boot` counts from.
    pub boot_id: BootId,
    /// Whether the stream to the controller is up. Already true for the event that says so.
    pub connected: bool,
    /// A random number never given before and not 0, which stands for "none" on the wire. Used at most once.
    pub nonce: Nonce,
}

impl Now {
    /// This instant, rounded down to what the ledger can hold.
    pub fn moment(&self) -> Moment {
        Moment {
            boot_id: self.boot_id.clone(),
            at: whole_millis(self.boot),
        }
    }

    /// The instant that lies `by` ahead.
    pub fn after(&self, by: Duration) -> Moment {
        self.moment().plus(by)
    }
}

/// A point on the clock of one boot. A jump of the wall clock does not move it and another boot voids it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Whose clock.
    pub boot_id: BootId,
    /// Time since that boot, in whole milliseconds so that it reads back from the ledger as it was.
    #[serde(with = "duration")]
    pub at: Duration,
}

impl Moment {
    /// The point that lies `by` later. Rests at the longest duration that the ledger can hold.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let at = self.at.saturating_add(whole_millis(by)).min(duration::MAX);
        Self { at, ..self }
    }

    /// True where it lies in the future of the same boot.
    pub fn is_ahead(&self, now: &Now) -> bool {
        self.boot_id == now.boot_id && now.boot < self.at
    }

    /// True where it has been reached in the same boot.
    pub fn is_due(&self, now: &Now) -> bool {
        self.boot_id == now.boot_id && now.boot >= self.at
    }
}

fn whole_millis(duration: Duration) -> Duration {
    Duration::new(
        duration.as_secs(),
        duration.subsec_millis().saturating_mul(1_000_000),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(boot_id: &str, seconds: u64) -> Now {
        Now {
            wall: Timestamp::UNIX_EPOCH,
            boot: Duration::from_secs(seconds),
            boot_id: BootId(boot_id.to_owned()),
            connected: true,
            nonce: Nonce(1),
        }
    }

    #[test]
    fn a_moment_of_another_boot_is_neither_ahead_nor_due() {
        let moment = now("a", 10).after(Duration::from_secs(5));
        assert!(moment.is_ahead(&now("a", 14)) && !moment.is_due(&now("a", 14)));
        assert!(!moment.is_ahead(&now("a", 15)) && moment.is_due(&now("a", 15)));
        for seconds in [0, 14, 15, 1_000_000] {
            assert!(!moment.is_ahead(&now("b", seconds)) && !moment.is_due(&now("b", seconds)));
        }
    }

    #[test]
    fn rounding_only_ever_shortens() {
        let mut at = now("a", 1);
        at.boot += Duration::from_micros(1_999);
        let moment = at.after(Duration::from_nanos(2_999_999));
        assert_eq!(moment.at, Duration::from_millis(1_003));
    }

    #[test]
    fn no_duration_overflows() {
        let moment = now("a", 1).after(Duration::MAX);
        let text = serde_json::to_string(&moment).unwrap();
        assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), moment);
    }
}
