//! Waiting for a condition, never for a time.

use std::time::Duration;

/// Shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// How many times as long as a look its pause is: to look means to run a program that connects, and what is waited for
/// needs the processor more.
const PAUSE_PER_LOOK: u32 = 3;

/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Pause between two looks at what lasts for milliseconds only.
const SHORT_PAUSE: Duration = Duration::from_micros(300);

/// Looks until there is an answer; none when the time is over.
pub fn until<T>(limit: Duration, look: impl FnMut() -> Option<T>) -> Option<T> {
    every(limit, look, |look| {
        (look * PAUSE_PER_LOOK).clamp(PAUSE, LONGEST_PAUSE)
    })
}

/// The same for what must be seen within a millisecond; costs a good part of a core.
pub fn closely<T>(limit: Duration, look: impl FnMut() -> Option<T>) -> Option<T> {
    every(limit, look, |_| SHORT_PAUSE)
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests of real processes live in real time"
)]
fn every<T>(
    limit: Duration,
    mut look: impl FnMut() -> Option<T>,
    pause: impl Fn(Duration) -> Duration,
) -> Option<T> {
    let begun = std::time::Instant::now();
    loop {
        let looked = std::time::Instant::now();
        if let Some(found) = look() {
            return Some(found);
        }
        if begun.elapsed() > limit {
            return None;
        }
        std::thread::sleep(pause(looked.elapsed()));
    }
}

/// Lets so much real time pass: for what only time brings about, such as the end of a certificate. Gives true, so that
/// the caller can say in an assertion what it waited for.
pub fn past(span: Duration) -> bool {
    std::thread::sleep(span);
    true
}
