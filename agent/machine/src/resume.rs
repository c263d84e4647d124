//! What to do first after a start, whatever ended the agent or the host before.
//!
//! The ledger was durable before any effect ran, so the effect of its state may not have begun, be half done or be
//! done. Each is given again; the ones that change the host count how often, so that a release which kills the agent
//! or the host does not do so for ever.

use comber_model::{Failure, FailureClass};

use crate::event::Found;
use crate::state::Work;
use crate::step::lost;
use crate::transition::Moving;
use crate::{Effect, Ledger, Now, Policy, Recipe, State, Transition};

/// Decides how the agent goes on after a start. Always published: the controller knows nothing of this process.
pub fn resume(ledger: Ledger, found: &Found, policy: &Policy, now: &Now) -> Transition {
    let before = ledger.clone();
    let mut moving = Moving::new(ledger, policy, now);
    moving.next.boot_id = now.boot_id.clone();
    moving.resume(found);
    moving.take_up();
    let mut transition = moving.finish(&before, Ok(()));
    transition
        .effects
        .retain(|effect| *effect != Effect::Publish);
    transition.effects.push(Effect::Publish);
    transition
}

impl Moving<'_> {
    fn resume(&mut self, found: &Found) {
        match self.next.state.clone() {
            State::Idle
            | State::Committed { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => {
                self.reconcile(found);
                self.sweep(found);
            }
            State::Fetching { work } => {
                if !self.learns(found) {
                    self.fetch(work);
                }
            }
            State::Staged { work, recipe, .. } => {
                if !self.learns(found) {
                    self.stage(work, recipe);
                }
            }
            State::AwaitingPermit { work, recipe, .. } => {
                if !self.learns(found) {
                    self.ask(work, recipe);
                }
            }
            State::Activating {
                work,
                recipe,
                leave,
                resumed,
                ..
            } => {
                if let Some(failure) = found.undone.get(&work.assignment.release) {
                    return self.fail_active(work, recipe, failure.clone());
                }
                let made = work.is_made(found);
                self.resume_activating(work, recipe, leave, made, resumed.saturating_add(1));
            }
            State::Rebooting { from, deadline, .. } => {
                if from != self.now.boot_id {
                    // A reboot is not a failed one because it took long: the host is up.
                    let boot_id = self.now.boot_id.clone();
                    let _ = self.boot_observed(&boot_id);
                } else if !deadline.is_due(self.now) {
                    self.reboot_again();
                }
            }
            State::Verifying {
                work,
                recipe,
                activated,
                resumed,
                ..
            } => {
                if let Some(failure) = found.undone.get(&work.assignment.release)
                    && activated
                {
                    return self.fail_active(work, recipe, failure.clone());
                }
                self.resume_verifying(work, recipe, activated, resumed.saturating_add(1));
            }
            State::RollingBack {
                work,
                recipe,
                failure,
                resumed,
                lapsed,
                ..
            } => {
                let resumed = resumed.saturating_add(1);
                self.resume_rolling_back(work, recipe, failure, lapsed, resumed);
            }
        }
    }

    /// True where the disk shows that nothing is left to do.
    fn learns(&mut self, found: &Found) -> bool {
        self.reconcile(found) && self.look_instead()
    }

    /// Once the switch is made the host finishes alone. Before it, the permit is looked at again: an agent that was away
    /// must not switch when an abort counts on it that nobody can any more.
    fn resume_activating(
        &mut self,
        work: Work,
        recipe: Recipe,
        leave: crate::Moment,
        made: bool,
        resumed: u32,
    ) {
        if resumed > self.policy.resumes_max {
            let failure = interrupted(FailureClass::Install, "the activation", resumed);
            return self.fail_active(work, recipe, failure);
        }
        if !made && !leave.is_ahead(self.now) {
            return self.step_back(work, recipe);
        }
        self.run(Effect::Activate {
            change: work.change(),
            leave: (!made).then(|| leave.clone()),
        });
        let deadline = self.now.after(recipe.switching(self.policy));
        self.enter(State::Activating {
            work,
            recipe,
            leave,
            deadline,
            resumed,
        });
    }

    fn resume_verifying(&mut self, work: Work, recipe: Recipe, activated: bool, resumed: u32) {
        if activated && resumed > self.policy.resumes_max {
            let failure = interrupted(FailureClass::Health, "the verification", resumed);
            return self.fail_active(work, recipe, failure);
        }
        self.run(Effect::Verify {
            change: work.change(),
        });
        let deadline = self.now.after(recipe.verifying(self.policy));
        self.enter(State::Verifying {
            work,
            recipe,
            activated,
            deadline,
            resumed,
        });
    }

    fn resume_rolling_back(
        &mut self,
        work: Work,
        recipe: Recipe,
        failure: Failure,
        lapsed: bool,
        resumed: u32,
    ) {
        if resumed > self.policy.roll_back_resumes_max {
            let last = interrupted(FailureClass::Rollback, "going back", resumed);
            return self.broken(&work, lost(&last.detail, &failure));
        }
        self.run(Effect::RollBack {
            change: work.change(),
        });
        let deadline = self.now.after(recipe.switching(self.policy));
        self.enter(State::RollingBack {
            work,
            recipe,
            failure,
            deadline,
            resumed,
            lapsed,
        });
    }

    /// Cleans up what a crash before the last cleanup left. Not on a broken host: it is a person's evidence.
    fn sweep(&mut self, found: &Found) {
        if matches!(self.next.state, State::Broken { .. }) {
            return;
        }
        for (product, versions) in &found.kept {
            let keep = self.next.kept(product);
            let is_too_much = versions.iter().any(|version| !keep.contains(version));
            if is_too_much || found.unfinished.contains(product) {
                let product = product.clone();
                self.run(Effect::Cleanup { product, keep });
            }
        }
    }
}

fn interrupted(class: FailureClass, step: &str, times: u32) -> Failure {
    let detail = format!("{step} was interrupted {times} times by an end of the agent or the host");
    Failure::new(class, detail)
}
