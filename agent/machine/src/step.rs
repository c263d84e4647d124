//! The table: what each event means in each state.
//!
//! Every pair is written out, so a new state or event does not compile until somebody decided. What nothing waits
//! for changes nothing.

use comber_model::{Failure, FailureClass};

use crate::attempt::too_long;
use crate::event::Found;
use crate::state::Way;
use crate::transition::{Moving, Reason};
use crate::{BootId, Effect, Event, Ledger, Now, Policy, State, Transition};

/// Decides what follows from one event. Total and deterministic; never changes its input.
pub fn step(ledger: &Ledger, event: Event, policy: &Policy, now: &Now) -> Transition {
    let mut moving = Moving::new(ledger.clone(), policy, now);
    let outcome = match event {
        Event::Desired { epoch, desired } => moving.desired(epoch, &desired),
        Event::Connected => moving.connected(),
        Event::Disconnected => moving.disconnected(),
        Event::Answer(answer) => moving.answer(answer),
        Event::Observed(found) => moving.observed(&found),
        Event::BootObserved { boot_id } => moving.boot_observed(&boot_id),
        Event::Deadline => moving.deadline(),
    };
    moving.finish(ledger, outcome)
}

impl Moving<'_> {
    /// While an attempt is between two releases the disk says nothing about what shall be kept.
    fn observed(&mut self, found: &Found) -> Result<(), Reason> {
        match self.next.state {
            State::Idle
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::AwaitingPermit { .. }
            | State::Committed { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => {
                if !self.reconcile(found) {
                    return Err(Reason::NothingNew);
                }
                self.look_instead();
                Ok(())
            }
            State::Activating { .. }
            | State::Rebooting { .. }
            | State::Verifying { .. }
            | State::RollingBack { .. } => self.unexpected(),
        }
    }

    pub(crate) fn boot_observed(&mut self, boot_id: &BootId) -> Result<(), Reason> {
        match self.next.state.clone() {
            State::Rebooting {
                work,
                recipe,
                way,
                from,
                ..
            } if from != *boot_id => {
                match way {
                    Way::Forward => {
                        self.verify(work, recipe, true);
                    }
                    Way::Back { failure } => self.verify_back(work, recipe, failure, 0),
                }
                Ok(())
            }
            State::Rebooting { .. } => Err(Reason::NothingNew),
            State::Idle
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::AwaitingPermit { .. }
            | State::Activating { .. }
            | State::Verifying { .. }
            | State::Committed { .. }
            | State::RollingBack { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => self.unexpected(),
        }
    }

    fn deadline(&mut self) -> Result<(), Reason> {
        match self.next.state.deadline() {
            Some(deadline) if deadline.is_due(self.now) => {}
            Some(_) => return Err(Reason::TooEarly),
            None => return self.unexpected(),
        }
        // The effect in hand hangs; its answer, should it still come, must not be taken for the next one's.
        self.run(Effect::Cancel);
        match self.next.state.clone() {
            State::Staged { work, .. } => {
                let limit = self.policy.preflight;
                let failure = too_long(FailureClass::Preflight, "the preflight", limit);
                self.not_activated(&work, failure);
            }
            State::Activating { work, recipe, .. } => {
                let limit = recipe.switching(self.policy);
                let failure = too_long(FailureClass::Install, "the activation", limit);
                self.fail_active(work, recipe, failure);
            }
            State::Rebooting { deadline, .. } if deadline.is_due(self.now) => self.no_reboot(),
            State::Rebooting { .. } => self.reboot_again(),
            State::Verifying {
                work,
                recipe,
                activated,
                ..
            } => {
                let rebooted = work.rebooted(&self.now.boot_id);
                let limit = recipe.verifying(self.policy, rebooted);
                let failure = too_long(FailureClass::Health, "the verification", limit);
                if activated {
                    self.fail_active(work, recipe, failure);
                } else {
                    self.not_activated(&work, failure);
                }
            }
            State::RollingBack {
                work,
                recipe,
                failure,
                booted,
                ..
            } => {
                let (step, limit) = if booted {
                    ("coming up again", recipe.coming_up(self.policy))
                } else {
                    ("going back", recipe.switching(self.policy))
                };
                let last = too_long(FailureClass::Rollback, step, limit);
                self.broken(&work, lost(&last.detail, &failure));
            }
            State::Idle
            | State::Fetching { .. }
            | State::AwaitingPermit { .. }
            | State::Committed { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => return self.unexpected(),
        }
        Ok(())
    }

    /// Asks once more, in the same boot and under the same deadline.
    pub(crate) fn reboot_again(&mut self) {
        if let State::Rebooting {
            work, from, again, ..
        } = &mut self.next.state
        {
            *again = None;
            let release = work.assignment.release.clone();
            let from = from.clone();
            self.run(Effect::Reboot { release, from });
        }
    }

    /// The host still runs in the boot that it should have left: forward it goes back; back it cannot, and still runs
    /// what was to be undone.
    fn no_reboot(&mut self) {
        let State::Rebooting {
            work,
            recipe,
            way,
            refused,
            ..
        } = self.next.state.clone()
        else {
            return;
        };
        let limit = recipe.timeouts.reboot;
        let mut failure = too_long(FailureClass::Reboot, "the reboot", limit);
        if let Some(why) = refused {
            failure = Failure::new(failure.class, format!("{}: {why}", failure.detail));
        }
        match way {
            Way::Forward => self.fail_active(work, recipe, failure),
            Way::Back { failure: first } => self.broken(&work, lost(&failure.detail, &first)),
        }
    }
}

/// The failure of the way back; what it should have undone is told with it.
pub(crate) fn lost(detail: &str, first: &Failure) -> Failure {
    let detail = format!("{detail}; it went back because of {first}");
    Failure::new(FailureClass::Rollback, detail)
}
