//! Owns the ledger: takes what happens, lets the machine decide, makes the decision durable, then has it done.
//!
//! ```text
//!   link ── FromLink ──> ┌────────┐ ── HostStatus (watch) ──> link
//!   hands ── Event ────> │ driver │ ── save ──> Store (ledger.json)
//!   timer ─ Deadline ──> └────────┘ ── Effect ─> hands ──> Effects
//! ```
//!
//! One task; effects run inside it, one at a time, so that dropping one is its end.
//! Invariant: nothing of a transition is done or shown before its ledger is durable.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use comber_machine::{
    Answer, BootId, Effect, Epoch, Event, Ledger, Note, Now, Policy, State, Transition, actual,
    next_deadline, resume, step,
};
use comber_model::assignment::Desired;
use comber_model::{Failure, HostStatus, Nonce};
use comber_runtime::backoff::Backoff;
use comber_runtime::clock::Clock;
use comber_runtime::shutdown::{Cause, Shutdown};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time;

use crate::effects::Effects;
use crate::hands::Hands;
use crate::ledger::{SaveError, Store};

/// Messages of the link that wait for the driver. Few: each holds the whole desired state, so the newest would do.
const FROM_LINK_MAX: usize = 8;

/// Longest sleep towards a deadline. The runtime's timers stand still during suspend and the boot clock does not, so
/// after a suspend a deadline is at most this late.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// How long a switch may go on once the agent was told to end: an interrupted one is made again, and counted. Most
/// package runs end within it. Less than the unit's `TimeoutStopSec=`, after which the service manager kills.
const DRAIN: Duration = Duration::from_mins(2);
/// How often it is looked meanwhile whether the switch only waits for the agent's end.
const LOOK: Duration = Duration::from_millis(100);

/// What the link hears from the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromLink {
    /// The stream is up. To be sent before the first desired state of the stream.
    Connected,
    /// It is down.
    Disconnected,
    /// All that this host shall run.
    Desired {
        /// The controller's database.
        epoch: Epoch,
        /// What it says.
        desired: Desired,
    },
}

/// What a driver is made of.
pub struct Parts<E, S> {
    /// The hands.
    pub effects: E,
    /// Where the ledger is kept.
    pub store: S,
    /// The clocks.
    pub clock: Clock,
    /// The boot that the host runs in.
    pub boot_id: BootId,
    /// Bounds.
    pub policy: Policy,
    /// Ends the driver.
    pub shutdown: Shutdown,
}

/// The link's ends of the driver's channels.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Takes what the controller says. Waits while the driver is busy; closed once it ended.
    pub from_link: mpsc::Sender<FromLink>,
    /// The actual state, durable; the newest is all that counts.
    pub actual: watch::Receiver<HostStatus>,
    /// Takes a wish to leave the fleet.
    pub leave: mpsc::Sender<Leave>,
}

/// Somebody wants this host to leave the fleet: the agent shall stop its work and end.
#[derive(Debug)]
pub struct Leave {
    /// Also in the middle of an activation.
    pub force: bool,
    /// `Ok` once nothing new is begun; the error says what is in hand.
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// The cause of the shutdown that follows [`Leave`].
pub const LEFT: &str = "the host leaves the fleet";

/// The driver ends; the process must, too, and start anew from the ledger.
#[derive(Debug, Error)]
pub enum DriverError {
    /// What is on the disk cannot be told.
    #[error("cannot look at what is installed: {0}")]
    Inspect(Failure),
    /// The agent was told to end while the ledger could not be saved; nothing of what it would have said was done.
    #[error(
        "told to end while the ledger could not be saved; free some space and see that its directory is writable"
    )]
    NotSaved(#[source] SaveError),
    /// The kernel gives no randomness for a request's name.
    #[error("cannot get a random number from the kernel")]
    NoRandomness,
}

/// The loop.
pub struct Driver<E, S> {
    ledger: Ledger,
    store: Arc<S>,
    hands: Hands<E>,
    clock: Clock,
    boot_id: BootId,
    policy: Policy,
    shutdown: Shutdown,
    connected: bool,
    from_link: mpsc::Receiver<FromLink>,
    leave: mpsc::Receiver<Leave>,
    actual: watch::Sender<HostStatus>,
}

impl<E, S> fmt::Debug for Parts<E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("boot_id", &self.boot_id)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl<E, S> fmt::Debug for Driver<E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("ledger", &self.ledger)
            .field("connected", &self.connected)
            .finish_non_exhaustive()
    }
}

impl<E: Effects, S: Store> Driver<E, S> {
    /// Resumes from `ledger`: looks at the disk, decides, and has it durable. The effects wait for [`Self::run`].
    ///
    /// When it fails, nothing was changed but the ledger at most.
    pub async fn start(parts: Parts<E, S>, ledger: Ledger) -> Result<(Self, Handle), DriverError> {
        let effects = Arc::new(parts.effects);
        let found = effects.inspect().await.map_err(DriverError::Inspect)?;
        let (sender, from_link) = mpsc::channel(FROM_LINK_MAX);
        let (shown, actual) = watch::channel(actual(&ledger));
        let (wishes, leave) = mpsc::channel(1);
        let mut driver = Self {
            ledger,
            store: Arc::new(parts.store),
            hands: Hands::new(effects, parts.boot_id.clone()),
            clock: parts.clock,
            boot_id: parts.boot_id,
            policy: parts.policy,
            shutdown: parts.shutdown,
            connected: false,
            from_link,
            leave,
            actual: shown,
        };
        let now = driver.now()?;
        let transition = resume(driver.ledger.clone(), &found, &driver.policy, &now);
        driver.follow(transition).await?;
        let handle = Handle {
            from_link: sender,
            actual,
            leave: wishes,
        };
        Ok((driver, handle))
    }

    /// Runs until the process is told to end.
    pub async fn run(mut self) -> Result<(), DriverError> {
        while let Some(event) = self.wait().await {
            self.happen(event).await?;
        }
        self.drain().await
    }

    /// The next event; none where the process is told to end.
    ///
    /// Each arm is cancel-safe: a signal and a message stay where they are, an effect stays in hand, and a sleep is
    /// computed anew from the ledger. Not biased: a controller that never stops talking must not keep the host from
    /// ending what it began.
    async fn wait(&mut self) -> Option<Event> {
        loop {
            let sleep = self.sleep();
            tokio::select! {
                _ = self.shutdown.wait() => return None,
                Some(heard) = self.from_link.recv() => return Some(self.heard(heard)),
                // Decided and done at once: a permit that came meanwhile must not begin anything.
                Some(leave) = self.leave.recv() => if self.leaves(leave) { return None },
                event = self.hands.next() => return Some(event),
                () = sleep => {
                    if self.is_due() {
                        return Some(Event::Deadline);
                    }
                }
            }
        }
    }

    /// A host in the middle of an activation would stay there: nobody would end it.
    fn leaves(&self, Leave { force, answer }: Leave) -> bool {
        let kind = self.ledger.state.kind();
        let decided = match self.ledger.state.work() {
            Some(work) if kind.is_active() && !force => Err(format!(
                "{} is {kind} on this host, and leaving now would leave it between two releases; try again later",
                work.assignment.release
            )),
            Some(_) | None => Ok(()),
        };
        let leaves = decided.is_ok();
        if leaves {
            self.shutdown.trigger(Cause::Requested(LEFT.to_owned()));
        }
        // Whoever asked may be gone; what was decided holds.
        let _ = answer.send(decided);
        leaves
    }

    fn heard(&mut self, heard: FromLink) -> Event {
        match heard {
            FromLink::Connected => {
                self.connected = true;
                Event::Connected
            }
            FromLink::Disconnected => {
                self.connected = false;
                Event::Disconnected
            }
            FromLink::Desired { epoch, desired } => Event::Desired { epoch, desired },
        }
    }

    /// Sleeps towards the next deadline; for ever where there is none.
    fn sleep(&self) -> impl Future<Output = ()> + use<E, S> {
        let left = next_deadline(&self.ledger).map(|deadline| {
            let left = deadline.at.saturating_sub(self.clock.boot());
            // The timers count whole milliseconds; one more spares a wake-up just before the time.
            left.saturating_add(Duration::from_millis(1))
                .min(LONGEST_SLEEP)
        });
        async move {
            match left {
                Some(left) => time::sleep(left).await,
                None => std::future::pending().await,
            }
        }
    }

    fn is_due(&self) -> bool {
        let boot = self.clock.boot();
        next_deadline(&self.ledger)
            .is_some_and(|deadline| deadline.boot_id == self.boot_id && boot >= deadline.at)
    }

    async fn happen(&mut self, event: Event) -> Result<(), DriverError> {
        let mut next = Some(event);
        while let Some(event) = next {
            let now = self.now()?;
            let transition = step(&self.ledger, event, &self.policy, &now);
            next = self.follow(transition).await?;
        }
        Ok(())
    }

    /// Makes the transition durable, then gives its effects. Returns what must be told to the machine at once.
    async fn follow(&mut self, transition: Transition) -> Result<Option<Event>, DriverError> {
        let Transition {
            next,
            effects,
            note,
        } = transition;
        self.log(&note, &next);
        if next != self.ledger {
            self.save(&next).await?;
        }
        self.ledger = next;
        if self.has_lapsed(&effects)? {
            return Ok(Some(Event::Answer(Answer::LeaveLapsed)));
        }
        for effect in effects {
            match effect {
                Effect::Cancel => self.hands.cancel(),
                Effect::Publish => {
                    self.actual.send_replace(actual(&self.ledger));
                }
                Effect::Fetch { .. }
                | Effect::Preflight { .. }
                | Effect::Activate { .. }
                | Effect::Reboot { .. }
                | Effect::Verify { .. }
                | Effect::RollBack { .. }
                | Effect::VerifyBack { .. }
                | Effect::Inspect
                | Effect::Cleanup { .. } => self.hands.give(effect),
            }
        }
        Ok(None)
    }

    /// Saving took its time: an activation is begun only where its permit still lives after it.
    fn has_lapsed(&self, effects: &[Effect]) -> Result<bool, DriverError> {
        let now = self.now()?;
        let lapsed = |effect: &Effect| matches!(effect, Effect::Activate { leave: Some(leave), .. } if !leave.is_ahead(&now));
        Ok(effects.iter().any(lapsed))
    }

    /// Saves until it is saved. The agent does nothing meanwhile: what it would do must be known after a crash.
    async fn save(&mut self, ledger: &Ledger) -> Result<(), DriverError> {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            let (store, ledger) = (Arc::clone(&self.store), ledger.clone());
            let saving = tokio::task::spawn_blocking(move || store.save(&ledger));
            let error = match saving.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                // A panic is a fault of the program and stops it; a cancelled save means that the runtime ends.
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => std::future::pending().await,
                },
            };
            if self.shutdown.is_set() {
                return Err(DriverError::NotSaved(error));
            }
            let delay = backoff.next_random();
            tracing::error!(error = %chain(&error), ?delay, "the ledger cannot be saved, the agent stands still");
            tokio::select! {
                _ = self.shutdown.wait() => {}
                () = time::sleep(delay) => {}
            }
        }
    }

    /// Lets a switch that is in hand end and notes how it ended; everything else is taken up after the start.
    async fn drain(mut self) -> Result<(), DriverError> {
        let drained = time::timeout(DRAIN, self.switched()).await;
        if let Ok(Some(event)) = drained {
            self.happen(event).await?;
        }
        Ok(())
    }

    /// What the switch in hand comes to; none where there is none, or none any more: one that hands over to whoever ends
    /// this process may come to that only now, and each would wait for the other.
    async fn switched(&mut self) -> Option<Event> {
        while self.hands.is_switching() {
            tokio::select! {
                // Both arms are cancel-safe: the effect stays in hand, and the pause begins anew.
                event = self.hands.next() => return Some(event),
                () = time::sleep(LOOK) => {}
            }
        }
        None
    }

    fn now(&self) -> Result<Now, DriverError> {
        Ok(Now {
            wall: self.clock.wall(),
            boot: self.clock.boot(),
            boot_id: self.boot_id.clone(),
            connected: self.connected,
            nonce: fresh_nonce()?,
        })
    }

    fn log(&self, note: &Note, next: &Ledger) {
        let generation = next.generation.0;
        let work = next.state.work().or_else(|| self.ledger.state.work());
        let release = work.map(|work| work.assignment.release.to_string());
        let rollout = work.map(|work| work.assignment.rollout.to_string());
        match note {
            Note::Moved { from, to } => {
                if let Some(failure) = failure(&self.ledger, next) {
                    tracing::warn!(%from, %to, generation, release, rollout, %failure, "moved");
                } else {
                    tracing::info!(%from, %to, generation, release, rollout, "moved");
                }
            }
            Note::OtherDatabase { was } => {
                let is = next.epoch.map(|epoch| epoch.to_string());
                tracing::warn!(%was, is, generation, "the controller has another database: it was restored or replaced");
            }
            Note::Stayed => tracing::debug!(state = %next.state.kind(), generation, "stayed"),
            Note::Ignored { reason } => {
                tracing::debug!(state = %next.state.kind(), generation, %reason, "ignored");
            }
        }
    }
}

/// What went wrong in the transition, where something did: the host's log must tell it also where no controller hears.
fn failure<'a>(before: &Ledger, next: &'a Ledger) -> Option<&'a Failure> {
    if let State::RollingBack { failure, .. } = &next.state {
        return Some(failure);
    }
    let newest = next.reports.last();
    newest
        .filter(|report| report.number >= before.next_report)
        .and_then(|report| report.result.failure())
}

/// Never 0, which means "none" on the wire.
fn fresh_nonce() -> Result<Nonce, DriverError> {
    let number = getrandom::u64().map_err(|_| DriverError::NoRandomness)?;
    Ok(Nonce(number.max(1)))
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
