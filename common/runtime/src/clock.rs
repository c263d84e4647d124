//! The only place that reads clocks, so that a test can hold every other part still.
//!
//! Three readings, each for one use: `wall` for what people and certificates mean by time, `boot` for durations (it
//! runs through suspend and never steps), and `steady` for stamps that must stay in order within one process.
//! Invariant: `boot` and `steady` never go backwards within a process.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// A handle to the time: cheap to clone and to be passed to whatever needs a clock.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    base: Base,
}

/// What a manual clock shows; a test moves it and every clone of its [`Clock`] follows.
#[derive(Clone, Debug)]
pub struct ManualClock {
    reading: Arc<Mutex<Reading>>,
}

#[derive(Clone, Debug)]
enum Source {
    Kernel,
    Manual(Arc<Mutex<Reading>>),
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    wall: Timestamp,
    boot: Duration,
}

/// Where `steady` counts from.
#[derive(Clone, Copy, Debug)]
struct Base {
    wall: Timestamp,
    boot: Duration,
}

impl Clock {
    /// The machine's clocks; `steady` starts at this moment's wall time.
    pub fn system() -> Self {
        Self::with_source(Source::Kernel)
    }

    /// A clock that stands at `wall` (with two minutes since boot) until the returned handle moves it.
    pub fn manual(wall: Timestamp) -> (Self, ManualClock) {
        let boot = Duration::from_mins(2);
        let reading = Arc::new(Mutex::new(Reading { wall, boot }));
        let clock = Self::with_source(Source::Manual(Arc::clone(&reading)));
        (clock, ManualClock { reading })
    }

    /// The time of day as the machine knows it now: it steps when an administrator or NTP sets it.
    ///
    /// For certificates and for what people read; never for measuring.
    pub fn wall(&self) -> Timestamp {
        match &self.source {
            Source::Kernel => kernel_wall(),
            Source::Manual(reading) => lock(reading).wall,
        }
    }

    /// Time since the machine booted, suspend included; another boot starts it again from zero.
    pub fn boot(&self) -> Duration {
        match &self.source {
            Source::Kernel => kernel_boot(),
            Source::Manual(reading) => lock(reading).boot,
        }
    }

    /// The wall time at the start of the process plus what `boot` has counted since: it never jumps.
    ///
    /// A machine that starts with a wrong time keeps it here until the process restarts; what must follow a
    /// correction uses [`Clock::wall`].
    pub fn steady(&self) -> Timestamp {
        let elapsed = self.boot().saturating_sub(self.base.boot);
        later(self.base.wall, elapsed)
    }

    fn with_source(source: Source) -> Self {
        let base = Base {
            wall: Timestamp::UNIX_EPOCH,
            boot: Duration::ZERO,
        };
        let mut clock = Self { source, base };
        clock.base = Base {
            wall: clock.wall(),
            boot: clock.boot(),
        };
        clock
    }
}

/// Certificates are judged by the wall clock, also in tests that move it.
impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.wall().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl ManualClock {
    /// Lets `by` pass on all clocks.
    pub fn advance(&self, by: Duration) {
        let mut reading = lock(&self.reading);
        reading.wall = later(reading.wall, by);
        reading.boot = reading.boot.saturating_add(by);
    }

    /// Steps the wall clock alone, as NTP or an administrator does.
    pub fn step_wall(&self, by: SignedDuration) {
        let mut reading = lock(&self.reading);
        reading.wall = reading.wall.checked_add(by).unwrap_or(reading.wall);
    }
}

/// `at + by`, resting at the last representable time instead of failing.
pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn kernel_wall() -> Timestamp {
    let now = clock_gettime(ClockId::Realtime);
    let nanoseconds = i32::try_from(now.tv_nsec).unwrap_or_default();
    // A kernel time outside years -9999..9999 means a broken clock: every certificate is then refused, which is right.
    Timestamp::new(now.tv_sec, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn kernel_boot() -> Duration {
    let since = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(since.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(since.tv_nsec).unwrap_or_default())
}

fn lock(reading: &Mutex<Reading>) -> std::sync::MutexGuard<'_, Reading> {
    // A reading is replaced whole, so a panic elsewhere leaves nothing half-written behind the lock.
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Timestamp {
        "2026-03-29T00:59:00Z".parse().unwrap()
    }

    #[test]
    fn steady_ignores_a_step_of_the_wall_clock() {
        let (clock, hand) = Clock::manual(start());
        hand.step_wall(SignedDuration::from_hours(-5));
        hand.advance(Duration::from_secs(7));
        assert_eq!(clock.steady(), later(start(), Duration::from_secs(7)));
        assert!(clock.wall() < start());
    }

    #[test]
    fn clones_share_one_manual_reading() {
        let (clock, hand) = Clock::manual(start());
        let other = clock.clone();
        hand.advance(Duration::from_millis(1500));
        assert_eq!(clock.boot(), other.boot());
        assert_eq!(other.boot(), Duration::from_millis(121_500));
    }

    #[test]
    fn system_clocks_agree_and_do_not_go_back() {
        let clock = Clock::system();
        let (boot, steady) = (clock.boot(), clock.steady());
        assert!(clock.boot() >= boot);
        assert!(clock.steady() >= steady);
        let apart = clock.wall().duration_since(clock.steady()).abs();
        assert!(
            apart < SignedDuration::from_mins(10),
            "wall and steady are {apart:?} apart"
        );
    }

    #[test]
    fn times_past_the_representable_rest_at_the_end() {
        assert_eq!(
            later(Timestamp::MAX, Duration::from_secs(1)),
            Timestamp::MAX
        );
    }
}
