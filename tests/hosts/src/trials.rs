//! Many trials on several hosts at once, and how many of them a run makes.
//!
//! Each host takes the next trial when it is at rest. Invariant: an instant that was missed is tried again, and where
//! it stays missed the run fails.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::trial::{Told, Trial};
use crate::vendor::{Vendor, Wish};
use crate::{Host, HostLab};

/// A state that lasts for a few milliseconds may be missed on a busy machine, and a host may be between two boots just
/// then; more often means that the state is never entered.
const TRIES: u32 = 8;

/// How much a run does: `quick` by default, `long` where `COMBER_HOSTS_SOAK` is set.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a test runs is said by its environment"
)]
pub fn soak(quick: u32, long: u32) -> u32 {
    match std::env::var_os("COMBER_HOSTS_SOAK") {
        Some(_) => long,
        None => quick,
    }
}

/// Runs all of them on all hosts of the lab and gives how each went. Fails with everything that went wrong.
pub fn run_trials(lab: &HostLab, vendor: &dyn Vendor, trials: Vec<Trial>) -> Result<Vec<Told>> {
    for host in lab.fleet().hosts() {
        vendor.prepare(host)?;
    }
    let waiting = Mutex::new(VecDeque::from(trials));
    let take = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    };
    std::thread::scope(|scope| {
        let worker = |host| {
            scope.spawn(move || {
                first(lab, host, vendor)?;
                let mut told = Vec::new();
                while let Some(trial) = take() {
                    let ran = insist(&trial, lab, host, vendor);
                    told.push(ran.with_context(|| format!("{}: {trial}", host.name()))?);
                    if trial.wish.irreversible {
                        // A good release on its second try is what mends a broken host.
                        first(lab, host, vendor)?;
                    }
                }
                Ok(told)
            })
        };
        let threads: Vec<_> = lab.fleet().hosts().iter().map(worker).collect();
        let mut all = Vec::new();
        let mut problems: Vec<anyhow::Error> = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(Ok(told)) => all.extend(told),
                Ok(Err(error)) => problems.push(error),
                Err(_) => problems.push(anyhow::anyhow!("a thread panicked")),
            }
        }
        let told: Vec<_> = problems.iter().map(|error| format!("{error:#}")).collect();
        ensure!(told.is_empty(), "{}", told.join("\n"));
        Ok(all)
    })
}

/// Gives a host something to go back to.
fn first(lab: &HostLab, host: &Host, vendor: &dyn Vendor) -> Result<()> {
    crate::trial::uncut(lab, host, vendor, &Wish::GOOD)
}

/// Runs a trial until its instant was hit.
fn insist(trial: &Trial, lab: &HostLab, host: &Host, vendor: &dyn Vendor) -> Result<Told> {
    let mut trial = *trial;
    for _ in 0..TRIES {
        let told = trial.run(lab, host, vendor)?;
        if told.cut_in.is_some() {
            println!("{}: {trial}: {told:?}", host.name());
            return Ok(told);
        }
        trial.when = trial.sooner();
    }
    anyhow::bail!("the instant was missed {TRIES} times")
}
