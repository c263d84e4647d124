//! The controller speaks: what is accepted, what is cancelled, and which permit may be used.
//!
//! Level-triggered: one message holds all, so losing or repeating one changes nothing.
//! Invariant: within an epoch the accepted generation never falls, and work of a generation that was replaced before
//! it was active is gone from the ledger before the newer generation is shown.

use comber_model::Grant;
use comber_model::assignment::Desired;

use crate::ledger::{Epoch, Next};
use crate::transition::{Moving, Reason};
use crate::{Effect, State};

impl Moving<'_> {
    pub(crate) fn desired(&mut self, epoch: Epoch, desired: &Desired) -> Result<(), Reason> {
        let same_database = self.next.epoch.is_none_or(|known| known == epoch);
        if same_database && desired.generation < self.next.generation {
            return Err(Reason::LowerGeneration {
                got: desired.generation,
                accepted: self.next.generation,
            });
        }
        let before = self.next.clone();
        let is_new = !same_database || desired.generation > self.next.generation;
        self.acknowledge(desired.acknowledged);
        self.enter_epoch(epoch);
        if is_new {
            self.accept(desired, same_database);
        }
        let permit = self.use_permit(desired.grant);
        self.take_up();
        match permit {
            Ok(()) if self.next == before => Err(Reason::NothingNew),
            Err(reason) if self.next == before => Err(reason),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Forgets reports that the controller has durably, and leaves the state that waited for it.
    ///
    /// The controller may have acknowledged more than this ledger ever numbered: the host was set up anew under its
    /// old name. Numbers then go on from there, or its next reports would count as known.
    fn acknowledge(&mut self, number: u64) {
        self.next.reports.retain(|report| report.number > number);
        self.next.next_report = self.next.next_report.max(number.saturating_add(1));
        match self.next.state {
            State::Committed { report } | State::RolledBack { report } if report <= number => {
                self.rest();
            }
            State::Idle
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::AwaitingPermit { .. }
            | State::Activating { .. }
            | State::Rebooting { .. }
            | State::Verifying { .. }
            | State::Committed { .. }
            | State::RollingBack { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => {}
        }
    }

    fn enter_epoch(&mut self, epoch: Epoch) {
        match self.next.epoch {
            Some(known) if known == epoch => {}
            Some(was) => self.other_database = Some(was),
            None => {}
        }
        self.next.epoch = Some(epoch);
    }

    /// A plan not seen before. The work in hand goes on where the plan still wants exactly it; under another database
    /// it does not, because that one knows nothing of the attempt.
    fn accept(&mut self, desired: &Desired, same_database: bool) {
        let generation = desired.generation;
        self.next.generation = generation;
        let assignment = desired.assignment.as_ref();
        if let Some(work) = self.next.state.work_mut()
            && same_database
            && assignment == Some(&work.assignment)
        {
            work.generation = generation;
            self.next.next = None;
            return;
        }
        self.next.next = Some(Next {
            generation,
            assignment: assignment.cloned(),
        });
        if self.may_be_dropped() {
            self.run(Effect::Cancel);
            self.forget_work();
        }
    }

    /// True for work that has not touched what is active.
    fn may_be_dropped(&self) -> bool {
        match self.next.state {
            State::Fetching { .. } | State::Staged { .. } | State::AwaitingPermit { .. } => true,
            State::Idle
            | State::Activating { .. }
            | State::Rebooting { .. }
            | State::Verifying { .. }
            | State::Committed { .. }
            | State::RollingBack { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => false,
        }
    }

    /// A cancelled attempt makes no report: the generation in the actual state is the receipt.
    pub(crate) fn forget_work(&mut self) {
        self.next.last = self.next.state.work().map(|work| work.status(None));
        self.rest();
    }

    fn use_permit(&mut self, grant: Option<Grant>) -> Result<(), Reason> {
        let Some(grant) = grant else {
            return Ok(());
        };
        match self.next.state.clone() {
            State::AwaitingPermit {
                work,
                recipe,
                request: Some(request),
            } if request.nonce == grant.nonce && self.may_use_permits(&work) => {
                let leave = request.asked.plus(grant.ttl);
                if leave.is_ahead(self.now) {
                    self.activate(work, recipe, leave);
                } else {
                    self.ask(work, recipe);
                }
                Ok(())
            }
            State::AwaitingPermit { .. } => Err(Reason::OtherRequest),
            // The permit that was used stays in what the controller says until it has seen the host begin.
            State::Idle
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Activating { .. }
            | State::Rebooting { .. }
            | State::Verifying { .. }
            | State::Committed { .. }
            | State::RollingBack { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => Ok(()),
        }
    }

    /// The controller is there again: what was asked before may never have reached it or may have been answered into
    /// the void, and its life ran meanwhile. A new request has its whole life.
    pub(crate) fn connected(&mut self) -> Result<(), Reason> {
        match self.next.state.clone() {
            State::AwaitingPermit { work, recipe, .. } => {
                self.ask(work, recipe);
                Ok(())
            }
            State::Idle
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Activating { .. }
            | State::Rebooting { .. }
            | State::Verifying { .. }
            | State::Committed { .. }
            | State::RollingBack { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => Err(Reason::NothingNew),
        }
    }

    /// The controller is away: a permit still on its way counts only where the assignment says so.
    pub(crate) fn disconnected(&mut self) -> Result<(), Reason> {
        match self.next.state.clone() {
            State::AwaitingPermit {
                work,
                recipe,
                request: Some(_),
            } if !self.may_use_permits(&work) => {
                self.ask(work, recipe);
                Ok(())
            }
            State::Idle
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::AwaitingPermit { .. }
            | State::Activating { .. }
            | State::Rebooting { .. }
            | State::Verifying { .. }
            | State::Committed { .. }
            | State::RollingBack { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => Err(Reason::NothingNew),
        }
    }
}
