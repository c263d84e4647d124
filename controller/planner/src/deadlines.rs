//! Deadlines of a release and a rollout that contradict each other, found before anything moves.
//!
//! A host is healthy when its checks have passed for as long as they must, at the latest when `timeouts.verify` of the
//! release is over, and its whole attempt has ended by `pace.attempt_deadline`. Each must leave room for the one before:
//! otherwise every host would fail, whatever the release is worth.

use std::time::Duration;

use comber_model::release::{Release, When};
use comber_model::rollout::RolloutSpec;
use comber_model::{Invalid, duration};

/// Everything that is out of order between the two.
pub fn deadline_problems(spec: &RolloutSpec, release: &Release) -> Vec<Invalid> {
    let mut found = Vec::new();
    let manifest = &release.manifest;
    let verify = manifest.timeouts.verify;
    let mut checks = manifest.checks_when(When::After).peekable();
    if checks.peek().is_none() {
        return found;
    }
    for check in checks {
        let least = healthy_after(check.interval, check.successes);
        if least >= verify {
            let problem = format!(
                "check {:?} of {} needs at least {} to pass, and timeouts.verify of the release ends it after {}; publish it with a longer one",
                check.name,
                spec.release,
                duration::format(least),
                duration::format(verify)
            );
            found.push(Invalid::new("release", problem));
        }
    }
    if verify >= spec.pace.attempt_deadline {
        let problem = format!(
            "is {}, which must be longer than the {} that the checks of {} may take (timeouts.verify)",
            duration::format(spec.pace.attempt_deadline),
            duration::format(verify),
            spec.release
        );
        found.push(Invalid::new("pace.attempt_deadline", problem));
    }
    found
}

/// How long a check takes at least: its first run passes at once, the others after a pause each.
fn healthy_after(interval: Duration, successes: u32) -> Duration {
    interval.saturating_mul(successes.saturating_sub(1))
}
