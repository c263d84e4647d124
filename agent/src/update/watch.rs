//! The watcher: replaces the running agent, sees the new one prove itself, and puts the old one back where it does not.
//!
//! ```text
//!   switching ──> watching ── kept ──────────────> (nothing is left)
//!       │            │ restore: deadline, ends again and again, or the agent's own word
//!       │            v
//!       └───────> restoring ──> restored ── the old agent takes note ──> (nothing is left)
//! ```
//!
//! Runs from the package's binary, in a unit or a session of its own. Each step is durable before the next begins and may
//! be done again from its start, so a watcher that was killed goes on where it was. Bias: whatever cannot be told is taken
//! for a new agent that is no good. Invariant: the link is switched only while no process holds the agent's lock.

use std::path::Path;
use std::thread;
use std::time::Duration;

use comber_runtime::clock::{Clock, later};
use comber_runtime::fsx;
use comber_runtime::systemd::Notifier;
use comber_runtime::telemetry::error_chain;
use thiserror::Error;

use super::launch::shelf;
use super::service::{Look, Service};
use super::{Decision, FORM, Order, Phase, Progress, Proof, Side, UpdateError, UpdateFiles};
use crate::install::{InstallError, layout::Link};
use crate::lock::{Lock, LockError};

/// An agent that ends this often by itself is no good. One less than its own ledger bears, so that the watcher, who
/// knows how it ended, is the one to say so.
const ENDS_MAX: u32 = 3;
/// Boots in which a new agent may be watched: a host that goes down again and again goes back.
const BOOTS_MAX: u32 = 3;
/// How often the old agent is started again, should it not come up at once.
const OLD_STARTS_MAX: u32 = 5;
/// Between two looks at the new agent, and before it is started again.
const PAUSE: Duration = Duration::from_millis(500);
/// Before a step that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Two seconds, in looks.
const PATIENCE: u32 = 4;
/// How long the old agent may take until it holds its lock.
const OLD_UP: Duration = Duration::from_secs(30);

/// Why the watcher stopped before the end; started again, it goes on.
#[derive(Debug, Error)]
pub enum WatchError {
    /// Its own files.
    #[error(transparent)]
    Files(#[from] UpdateError),
    /// Its lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The directory.
    #[error(transparent)]
    Dir(#[from] fsx::FileError),
    /// Which boot this is.
    #[error("cannot tell which boot this is")]
    Boot(#[from] crate::reboot::BootIdError),
    /// The agent that ran before cannot be put back now.
    #[error("cannot put {version} of the agent back")]
    Restore {
        /// Which.
        version: String,
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What comes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The next step.
    Step,
    /// The same, after a pause.
    Wait,
    /// Nothing.
    Done,
}

/// One update being watched.
#[derive(Debug)]
pub(super) struct Watcher<S> {
    files: UpdateFiles,
    order: Order,
    progress: Progress,
    service: S,
    clock: Clock,
    boot_id: String,
    notifier: Notifier,
    old_starts: u32,
    held_lock: bool,
    /// Looks that pass before an agent is started that is not up: a boot, or whoever ran the last watcher, starts one too.
    patience: u32,
    pause: Duration,
}

/// Watches the update of the agent with that state directory to its end; returns at once where there is none.
pub(crate) fn run(state_dir: &Path) -> Result<(), WatchError> {
    let files = UpdateFiles::new(state_dir);
    let notifier = Notifier::from_environment();
    if files.order()?.is_none() {
        notifier.ready();
        return Ok(());
    }
    let _lock = match Lock::try_take(&files.watch_lock()) {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => {
            tracing::info!("another watcher is at it");
            notifier.ready();
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    // Read once more: the watcher before may just have ended it.
    let Some(order) = files.order()? else {
        notifier.ready();
        return Ok(());
    };
    let clock = Clock::system();
    let progress = files.progress()?;
    let service = order.service.of(&files, &clock);
    let mut watcher = Watcher::new(files, order, progress, service, clock, notifier)?;
    loop {
        match watcher.step() {
            Ok(Next::Step) => {}
            Ok(Next::Wait) => thread::sleep(PAUSE),
            Ok(Next::Done) => return Ok(()),
            // A full disk, or a service manager that does not answer: nobody else can give the host its agent back.
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(error, "the watcher is held up and tries again");
                thread::sleep(AGAIN);
            }
        }
    }
}

impl<S: Service> Watcher<S> {
    pub(super) fn new(
        files: UpdateFiles,
        order: Order,
        progress: Progress,
        service: S,
        clock: Clock,
        notifier: Notifier,
    ) -> Result<Self, WatchError> {
        let patience = match progress.phase {
            Phase::Watching { .. } | Phase::Restored { .. } => PATIENCE,
            Phase::Switching | Phase::Restoring { .. } => 0,
        };
        Ok(Self {
            boot_id: crate::reboot::boot_id(&order.boot_id_file)?,
            files,
            order,
            progress,
            service,
            clock,
            notifier,
            old_starts: 0,
            held_lock: false,
            patience,
            pause: PAUSE,
        })
    }

    /// Does the step at hand. Whatever ends the process in it, it is done again.
    pub(super) fn step(&mut self) -> Result<Next, WatchError> {
        match self.progress.phase.clone() {
            Phase::Switching => self.switching(),
            Phase::Watching {
                boot_id,
                deadline_ms,
                resumed,
                ..
            } => {
                if boot_id != self.boot_id {
                    return self.resume_watching(resumed + 1);
                }
                self.watching(Duration::from_millis(deadline_ms))
            }
            Phase::Restoring { why } => self.restoring(&why),
            Phase::Restored { why } => self.restored(&why),
        }
    }

    fn switching(&mut self) -> Result<Next, WatchError> {
        if let Some(Decision::Restore { why }) = self.files.decision()? {
            return self.enter(Phase::Restoring { why });
        }
        if let Err(error) = self.switch_forward() {
            let told = error_chain(&*error);
            return self.give_up(format!("it was never active: {told}"));
        }
        tracing::info!(release = %self.order.release, from = self.order.from.version, to = self.order.to.version, "the agent is replaced");
        self.watch(0)
    }

    /// The old agent has ended, its ledger is kept, the link leads to the new one.
    fn switch_forward(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.service.stop()?;
        if !leads_to(&self.files, &self.order.to)? {
            // Not once the link was switched: then the ledger may be the new agent's already.
            self.files.keep_ledger()?;
        }
        Ok(lead_to(&self.files, &self.order.to)?)
    }

    /// Gives the new agent its time in this boot.
    fn watch(&mut self, resumed: u32) -> Result<Next, WatchError> {
        let within = self.order.proof.as_ref().map(|proof| proof.deadline);
        let within = within.unwrap_or_default();
        let deadline = self.clock.boot().saturating_add(within);
        self.enter(Phase::Watching {
            boot_id: self.boot_id.clone(),
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            until: later(self.clock.wall(), within),
            resumed,
        })
    }

    fn resume_watching(&mut self, resumed: u32) -> Result<Next, WatchError> {
        if resumed >= BOOTS_MAX {
            return self.give_up(format!("the host went down {resumed} times under it"));
        }
        self.watch(resumed)
    }

    fn watching(&mut self, deadline: Duration) -> Result<Next, WatchError> {
        self.notifier.ready();
        match self.files.decision()? {
            Some(Decision::Kept) => return self.kept(),
            Some(Decision::Restore { why }) => return self.enter(Phase::Restoring { why }),
            None => {}
        }
        let look = match self.look_and_start() {
            Ok(look) => look,
            Err(error) => return self.give_up(format!("it cannot be started: {error}")),
        };
        let Some(proof) = self.order.proof.clone() else {
            return self.without_proof(&look);
        };
        self.held_lock |= look.holds_lock;
        if look.ended >= ENDS_MAX {
            let Look { ended, last, .. } = look;
            let last = if last.is_empty() {
                last
            } else {
                format!(", at last with {last}")
            };
            return self.give_up(format!("it ended {ended} times by itself{last}"));
        }
        if self.clock.boot() >= deadline {
            let why = self.what_is_missing(&proof);
            return self.give_up(why);
        }
        Ok(Next::Wait)
    }

    /// A way back is over once what it leads to was started: nothing better could be put in its place.
    fn without_proof(&mut self, look: &Look) -> Result<Next, WatchError> {
        if look.is_up {
            return self.kept();
        }
        Ok(Next::Wait)
    }

    fn look_and_start(&mut self) -> Result<Look, super::ServiceError> {
        let mut look = self.service.look()?;
        if !look.is_up && self.patience > 0 {
            self.patience -= 1;
            return Ok(look);
        }
        if !look.is_up && !look.host_stops && look.ended < ENDS_MAX {
            if look.ended > 0 {
                thread::sleep(self.pause);
            }
            self.service.start()?;
            look.is_up = true;
        }
        Ok(look)
    }

    fn what_is_missing(&self, proof: &Proof) -> String {
        let within = comber_model::duration::format(proof.deadline);
        let seen = self.files.seen();
        let what = match seen {
            Some(seen) if seen.at_checks => "its checks had not passed".to_owned(),
            Some(seen) if seen.was_linked => {
                let long = comber_model::duration::format(proof.healthy_for);
                format!("it did not hold its link to the controller for {long}")
            }
            Some(_) => "it could not connect to the controller".to_owned(),
            None if self.held_lock => "it started and then hung".to_owned(),
            None => "it hung and gave no sign of life".to_owned(),
        };
        format!("{what} within {within}")
    }

    /// Decides that it goes back, unless it was decided otherwise.
    fn give_up(&mut self, why: String) -> Result<Next, WatchError> {
        match self.files.decide(&Decision::Restore { why })? {
            Decision::Kept => self.kept(),
            Decision::Restore { why } => self.enter(Phase::Restoring { why }),
        }
    }

    fn kept(&mut self) -> Result<Next, WatchError> {
        tracing::info!(release = %self.order.release, version = self.order.to.version, "the agent is kept");
        self.files.clear()?;
        Ok(Next::Done)
    }

    fn restoring(&mut self, why: &str) -> Result<Next, WatchError> {
        tracing::warn!(release = %self.order.release, why, "the agent before is put back");
        self.switch_back().map_err(|source| WatchError::Restore {
            version: self.order.from.version.clone(),
            source,
        })?;
        self.enter(Phase::Restored {
            why: why.to_owned(),
        })
    }

    fn switch_back(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // Where the link was never switched, what runs is the old agent, and stays.
        if !leads_to(&self.files, &self.order.from)? {
            self.service.stop()?;
            lead_to(&self.files, &self.order.from)?;
        }
        Ok(())
    }

    fn restored(&mut self, why: &str) -> Result<Next, WatchError> {
        self.notifier.ready();
        let failed = |source: super::ServiceError| WatchError::Restore {
            version: self.order.from.version.clone(),
            source: source.into(),
        };
        let look = self.service.look().map_err(failed)?;
        if look.holds_lock || look.host_stops {
            tracing::info!(
                version = self.order.from.version,
                why,
                "the agent before runs"
            );
            return Ok(Next::Done);
        }
        if !look.is_up {
            if self.patience > 0 {
                self.patience -= 1;
                return Ok(Next::Wait);
            }
            if self.old_starts >= OLD_STARTS_MAX {
                tracing::error!(last = look.last, "the agent before does not come up, too");
                return Ok(Next::Done);
            }
            self.old_starts += 1;
            self.service.start().map_err(failed)?;
            self.await_lock()?;
        }
        Ok(Next::Wait)
    }

    fn await_lock(&mut self) -> Result<(), WatchError> {
        let end = self.clock.boot().saturating_add(OLD_UP);
        while self.clock.boot() < end {
            let look = self.service.look().map_err(|source| WatchError::Restore {
                version: self.order.from.version.clone(),
                source: source.into(),
            })?;
            if look.holds_lock || !look.is_up {
                break;
            }
            thread::sleep(self.pause / 5);
        }
        Ok(())
    }

    /// Makes the next step durable.
    fn enter(&mut self, phase: Phase) -> Result<Next, WatchError> {
        let next = Progress { form: FORM, phase };
        self.files.proceed(&next)?;
        self.progress = next;
        Ok(Next::Step)
    }
}

fn leads_to(files: &UpdateFiles, side: &Side) -> Result<bool, InstallError> {
    let link = shelf(files.state_dir()).link()?;
    Ok(match &side.slot {
        Some(slot) => link == Link::Slot(slot.clone()),
        None => link == Link::Absent,
    })
}

fn lead_to(files: &UpdateFiles, side: &Side) -> Result<(), InstallError> {
    let shelf = shelf(files.state_dir());
    let Some(slot) = &side.slot else {
        return shelf.unlink();
    };
    let path = shelf.place(slot);
    if !path.is_dir() {
        let release = format!("{}@{}", comber_model::release::AGENT_PRODUCT, side.version);
        return Err(InstallError::Gone { release, path });
    }
    shelf.switch(slot)
}

#[cfg(test)]
mod tests;
