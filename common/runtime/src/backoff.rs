//! How long to wait before the next try: exponential, with full jitter.
//!
//! A controller that restarts is missed by its whole fleet in the same second. With fixed delays twenty thousand hosts
//! would come back in the same second too, fail together, and stay in step for ever. Full jitter draws each delay
//! evenly from nothing up to a ceiling that doubles, so the returns spread evenly over the window.
//! Pure but for [`Backoff::next_random`]. Invariant: no delay is longer than `max`.

use std::time::Duration;

/// Doubling stops here, far beyond any useful ceiling, so that the shift cannot overflow.
const MAX_DOUBLINGS: u32 = 30;

/// The state of one series of tries; a success calls [`Backoff::reset`].
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    tries: u32,
}

impl Backoff {
    /// The first delay is drawn from `0..=first`, each further one from twice that window, up to `0..=max`.
    ///
    /// For a fleet, choose `first` as the time in which the controller can take all hosts back.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self {
            first: first.min(max),
            max,
            tries: 0,
        }
    }

    /// The next delay for an evenly distributed `random`; the same value always gives the same delay.
    pub fn next(&mut self, random: u64) -> Duration {
        let ceiling = self.ceiling();
        self.tries = self.tries.saturating_add(1);
        fraction(ceiling, random)
    }

    /// The next delay with randomness of the kernel.
    ///
    /// Without randomness (early boot on an exotic kernel) the whole ceiling is waited: late, but never a stampede.
    pub fn next_random(&mut self) -> Duration {
        self.next(random_or(u64::MAX))
    }

    /// The longest delay that [`Backoff::next`] can give now.
    pub fn ceiling(&self) -> Duration {
        let factor = 1_u32 << self.tries.min(MAX_DOUBLINGS);
        self.first.saturating_mul(factor).min(self.max)
    }

    /// Forgets the failures, after a try that succeeded.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// How many delays were given since the start or the last reset.
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

/// The share `random / u64::MAX` of `whole`, to the nanosecond.
pub fn fraction(whole: Duration, random: u64) -> Duration {
    let part =
        whole.as_nanos().min(u128::from(u64::MAX)) * u128::from(random) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

/// Randomness for spreading load, not for secrets; `fallback` when the kernel has none to give.
pub fn random_or(fallback: u64) -> u64 {
    getrandom::u64().unwrap_or(fallback)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn ceiling_doubles_up_to_the_maximum_and_reset_starts_again() {
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        let delays: Vec<_> = (0..4).map(|_| backoff.next(u64::MAX).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 5]);
        assert_eq!(backoff.tries(), 4);
        backoff.reset();
        assert_eq!(backoff.next(u64::MAX), seconds(1));
    }

    #[test]
    fn never_overflows_after_very_many_tries() {
        let mut backoff = Backoff {
            first: seconds(1),
            max: Duration::MAX,
            tries: u32::MAX,
        };
        assert!(backoff.next(u64::MAX) > seconds(1 << 29));
        assert_eq!(backoff.tries(), u32::MAX);
    }

    proptest! {
        #[test]
        fn no_delay_is_longer_than_its_ceiling(first in 0_u64..100, max in 0_u64..1000, draws in prop::collection::vec(any::<u64>(), 1..50)) {
            let mut backoff = Backoff::new(seconds(first), seconds(max));
            for draw in draws {
                let ceiling = backoff.ceiling();
                prop_assert!(ceiling <= seconds(max));
                prop_assert!(backoff.next(draw) <= ceiling);
            }
        }

        /// Whatever the failure count, a fleet spreads over the whole window: no tenth of it gets twice its share.
        #[test]
        fn a_fleet_spreads_evenly_over_the_window(tries in 0_u32..12, seed in any::<u64>()) {
            const HOSTS: usize = 2000;
            let backoff = Backoff { tries, ..Backoff::new(seconds(10), seconds(300)) };
            let ceiling = backoff.ceiling();
            let mut tenths = [0_usize; 10];
            for host in 0..HOSTS as u64 {
                let delay = backoff.clone().next(scramble(seed.wrapping_add(host)));
                let tenth = delay.as_nanos() * 10 / (ceiling.as_nanos() + 1);
                tenths[usize::try_from(tenth).unwrap()] += 1;
            }
            prop_assert!(tenths.iter().all(|n| *n > HOSTS / 20 && *n < HOSTS / 5), "{tenths:?}");
        }
    }

    /// `SplitMix64`: turns neighbouring numbers into evenly distributed ones.
    fn scramble(n: u64) -> u64 {
        let n = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        n ^ (n >> 31)
    }
}
