//! Proves that a host is healthy: every check of a release, all at once, each until it passed often enough in a row.
//!
//! Runs commands, connects to addresses, changes nothing. Bias: a check that cannot be made is one that fails.
//! Invariant: a pass means that each check passed `successes` times in a row, the last time just now.

mod probe;
mod whole;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use comber_model::release::Check;
use comber_runtime::clock::Clock;
use thiserror::Error;

use crate::exec::Exec;
use crate::surroundings::Variables;
use probe::ProbeError;
pub use whole::{Whole, WholeError};

/// What the checks of one release are made with.
#[derive(Debug)]
pub struct Health {
    /// Runs the commands of checks.
    pub exec: Exec,
    /// The directory of the active release.
    pub dir: PathBuf,
    /// For `${NAME}`.
    pub variables: Variables,
    /// Tells how long a check was tried.
    pub clock: Clock,
}

/// A check that did not pass in its time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("check {name}: {last}, {tries} {} in {}s{}", plural(*tries), after.as_secs(), others(also))]
pub struct CheckFailed {
    /// Its name.
    pub name: String,
    /// What the last try found, and what was expected.
    pub last: String,
    /// How often it was tried.
    pub tries: u32,
    /// For how long.
    pub after: Duration,
    /// The names of the others that failed.
    pub also: Vec<String>,
}

impl Health {
    /// Makes all checks at once and waits until each has passed or `within` is over.
    ///
    /// Dropping the future ends the checks, their commands included.
    pub async fn all(&self, checks: &[&Check], within: Duration) -> Result<(), CheckFailed> {
        let running = checks.iter().map(|check| self.one(check, within));
        // An unknown variable is an error at once: waiting cannot give it a value.
        let ended = futures_util::future::try_join_all(running).await?;
        let mut failed = ended.into_iter().flatten();
        let Some(mut first) = failed.next() else {
            return Ok(());
        };
        first.also = failed.map(|other| other.name).collect();
        Err(first)
    }

    /// How one check ended; the outer error is one that no waiting can mend.
    async fn one(
        &self,
        check: &Check,
        within: Duration,
    ) -> Result<Option<CheckFailed>, CheckFailed> {
        let began = self.clock.boot();
        let mut state = Tries::default();
        let passed = tokio::time::timeout(within, self.until_passed(check, &mut state)).await;
        let failed = |last| CheckFailed {
            name: check.name.clone(),
            last,
            tries: state.count,
            after: self.clock.boot().saturating_sub(began),
            also: Vec::new(),
        };
        match passed {
            Ok(Ok(())) => Ok(None),
            Ok(Err(hopeless)) => Err(failed(hopeless)),
            Err(_) => Ok(Some(failed(state.told(check)))),
        }
    }

    async fn until_passed(&self, check: &Check, state: &mut Tries) -> Result<(), String> {
        loop {
            state.count += 1;
            state.running = true;
            let probed =
                tokio::time::timeout(check.timeout, self.probe(&check.probe, check.timeout));
            let found = match probed.await {
                Ok(Ok(())) => None,
                Ok(Err(ProbeError::Hopeless(error))) => return Err(error.to_string()),
                Ok(Err(ProbeError::Failed(found))) => Some(found),
                Err(_) => Some(format!("no answer within {:?}", check.timeout)),
            };
            state.running = false;
            state.in_a_row = if found.is_none() {
                state.in_a_row + 1
            } else {
                0
            };
            state.last = found.or_else(|| state.last.take());
            if state.in_a_row >= check.successes {
                return Ok(());
            }
            tokio::time::sleep(check.interval).await;
        }
    }
}

/// What is known of a check that is being made.
#[derive(Debug, Default)]
struct Tries {
    count: u32,
    in_a_row: u32,
    running: bool,
    /// What the last try that failed found.
    last: Option<String>,
}

impl Tries {
    fn told(&self, check: &Check) -> String {
        let mut told = match &self.last {
            Some(last) => last.clone(),
            None if self.running && self.in_a_row == 0 => "no answer yet".to_owned(),
            None => "too slow".to_owned(),
        };
        if self.in_a_row > 0 {
            // Writing to a text cannot fail.
            let _ = write!(
                told,
                ", then passed {} of {} in a row",
                self.in_a_row, check.successes
            );
        }
        told
    }
}

fn plural(tries: u32) -> &'static str {
    if tries == 1 { "try" } else { "tries" }
}

fn others(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("; also failing: {}", names.join(", "))
}

#[cfg(test)]
mod tests;
