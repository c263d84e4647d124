//! The way forward of one attempt: taken up, staged, asked for, activated, booted, verified.
//!
//! Invariant: `activate` is called with a permit's end and from nowhere else is `Activating` entered anew.

use std::time::Duration;

use comber_model::release::RebootPolicy;
use comber_model::{Action, Assignment, Failure, FailureClass, Generation};

use crate::ledger::{Next, REPORTS_MAX};
use crate::state::{Request, Way, Work};
use crate::transition::Moving;
use crate::{Effect, Moment, Recipe, State};

impl Moving<'_> {
    /// Takes up what waits, where the machine is free and there is room for the report that it will make.
    pub(crate) fn take_up(&mut self) {
        match self.next.state {
            State::Idle
            | State::Committed { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => {}
            State::Fetching { .. }
            | State::Staged { .. }
            | State::AwaitingPermit { .. }
            | State::Activating { .. }
            | State::Rebooting { .. }
            | State::Verifying { .. }
            | State::RollingBack { .. } => return,
        }
        let Some(Next {
            generation,
            assignment,
        }) = self.next.next.take()
        else {
            return;
        };
        let Some(assignment) = assignment else {
            return;
        };
        if self.next.reports.len() >= REPORTS_MAX {
            self.next.next = Some(Next {
                generation,
                assignment: Some(assignment),
            });
            return;
        }
        let refusal = self.refusal(&assignment);
        let work = self.work(generation, assignment);
        match refusal {
            Some(detail) => {
                let failure = Failure::new(FailureClass::Rejected, detail);
                self.not_activated(&work, failure);
            }
            None if self.holds_already(&work.assignment) => self.look_at(work),
            None => self.fetch(work),
        }
    }

    fn work(&self, generation: Generation, assignment: Assignment) -> Work {
        Work {
            assignment,
            generation,
            started_at: self.now.wall,
            before: None,
            began_in: None,
        }
    }

    /// Why the host will not try it, where somebody must say first that it shall.
    fn refusal(&self, assignment: &Assignment) -> Option<String> {
        if assignment.retry_bad {
            return None;
        }
        if let Some(failure) = self.next.broken.values().next()
            && !assignment.rolls_back
        {
            let detail = "assign with retry_bad, or roll back";
            return Some(format!("the host is broken ({failure}); {detail}"));
        }
        match assignment.action {
            Action::Install { .. } => self
                .next
                .bad(&assignment.release)
                .map(|bad| format!("failed here before ({}); retry_bad overrides", bad.failure)),
            Action::Remove => None,
        }
    }

    /// True where the ledger says that nothing is to be done; `Verify` then looks whether the disk agrees. Never for a
    /// product that is broken: what is active there was not proved.
    fn holds_already(&self, assignment: &Assignment) -> bool {
        if self.next.broken.contains_key(&assignment.release.name) {
            return false;
        }
        let active = self.next.installed.get(&assignment.release.name);
        let installed = active.map(|product| &product.installed);
        match &assignment.action {
            Action::Install { artifact } => installed.is_some_and(|installed| {
                installed.version == assignment.release.version
                    && installed.digest == artifact.digest
            }),
            Action::Remove => {
                installed.is_none_or(|installed| installed.version != assignment.release.version)
            }
        }
    }

    /// After a look at the disk: where somebody did by hand what the work in hand is about, the host is only looked at.
    /// Above all a removal must not take another version that is there by now. True where it does so.
    ///
    /// Only after the ledger learned something new, so a verification that disagrees with the disk cannot come back
    /// here for ever.
    pub(crate) fn look_instead(&mut self) -> bool {
        let work = match &self.next.state {
            State::Fetching { work }
            | State::Staged { work, .. }
            | State::AwaitingPermit { work, .. } => work.clone(),
            State::Idle
            | State::Activating { .. }
            | State::Rebooting { .. }
            | State::Verifying { .. }
            | State::Committed { .. }
            | State::RollingBack { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => return false,
        };
        let holds = self.holds_already(&work.assignment);
        if holds {
            self.run(Effect::Cancel);
            self.look_at(work);
        }
        holds
    }

    fn look_at(&mut self, work: Work) {
        let active = self.next.installed.get(&work.assignment.release.name);
        let recipe = match (&work.assignment.action, active) {
            (Action::Install { .. }, Some(product)) => product.recipe.clone(),
            (Action::Install { .. }, None) | (Action::Remove, _) => Recipe::default(),
        };
        self.verify(work, recipe, false);
    }

    pub(crate) fn fetch(&mut self, work: Work) {
        self.run(Effect::Fetch {
            change: work.change(),
        });
        self.enter(State::Fetching { work });
    }

    pub(crate) fn stage(&mut self, work: Work, recipe: Recipe) {
        self.run(Effect::Preflight {
            change: work.change(),
        });
        let deadline = self.now.after(self.policy.preflight);
        self.enter(State::Staged {
            work,
            recipe,
            deadline,
        });
    }

    /// Asks for a permit under a new name; one given to an earlier request is worth nothing from here on. Where nobody
    /// could hear it or answer in time, it asks once the controller is there, so that the permit has its whole life.
    pub(crate) fn ask(&mut self, work: Work, recipe: Recipe) {
        let request = self.may_use_permits(&work).then(|| Request {
            nonce: self.now.nonce,
            asked: self.now.moment(),
        });
        self.enter(State::AwaitingPermit {
            work,
            recipe,
            request,
        });
    }

    /// True while the controller is there, or where the assignment says that a permit holds without it.
    pub(crate) fn may_use_permits(&self, work: &Work) -> bool {
        self.now.connected || work.assignment.disconnected
    }

    /// Begins the activation by a permit that ends at `leave`.
    pub(crate) fn activate(&mut self, mut work: Work, recipe: Recipe, leave: Moment) {
        let active = self.next.installed.get(&work.assignment.release.name);
        work.before = active.map(|product| product.installed.clone());
        work.began_in = Some(self.now.boot_id.clone());
        self.run(Effect::Activate {
            change: work.change(),
            leave: Some(leave.clone()),
        });
        let deadline = self.now.after(recipe.switching(self.policy));
        self.enter(State::Activating {
            work,
            recipe,
            leave,
            deadline,
            resumed: 0,
        });
    }

    pub(crate) fn activated(&mut self, work: Work, recipe: Recipe, needs_reboot: bool) {
        if recipe.reboots(needs_reboot) {
            self.reboot(work, recipe, Way::Forward);
        } else {
            self.verify(work, recipe, true);
        }
    }

    /// Notes the boot that is left, so that the next one is recognised, and asks for the reboot.
    pub(crate) fn reboot(&mut self, work: Work, recipe: Recipe, way: Way) {
        let from = self.now.boot_id.clone();
        self.run(Effect::Reboot {
            release: work.assignment.release.clone(),
            from: from.clone(),
        });
        let deadline = self.now.after(recipe.timeouts.reboot);
        self.enter(State::Rebooting {
            work,
            recipe,
            way,
            from,
            deadline,
            again: None,
            refused: None,
        });
    }

    /// Proves the change; or, where nothing was `activated`, only looks whether it is there and healthy.
    pub(crate) fn verify(&mut self, work: Work, recipe: Recipe, activated: bool) {
        self.run(Effect::Verify {
            change: work.change(),
            activated,
        });
        let rebooted = work.rebooted(&self.now.boot_id);
        let deadline = self.now.after(recipe.verifying(self.policy, rebooted));
        self.enter(State::Verifying {
            work,
            recipe,
            activated,
            deadline,
            resumed: 0,
        });
    }

    /// The host booted out of what was undone: it must come up as before, or it is not back.
    pub(crate) fn verify_back(
        &mut self,
        work: Work,
        recipe: Recipe,
        failure: Failure,
        resumed: u32,
    ) {
        self.run(Effect::VerifyBack {
            change: work.change(),
        });
        let deadline = self.now.after(recipe.coming_up(self.policy));
        self.enter(State::RollingBack {
            work,
            recipe,
            failure,
            deadline,
            resumed,
            lapsed: false,
            booted: true,
        });
    }

    /// Goes back, or stops broken where the release knows no way back.
    pub(crate) fn fail_active(&mut self, work: Work, recipe: Recipe, failure: Failure) {
        if work.installs() {
            self.mark_bad(&work.assignment.release, &failure);
            if recipe.irreversible {
                return self.broken(&work, failure);
            }
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
            resumed: 0,
            lapsed: false,
            booted: false,
        });
    }

    /// An activation was interrupted before the switch, and its permit is over: switching now could outlive an abort. The
    /// interrupted step may have stopped what is active, so the host goes back to it, and then asks for another permit.
    pub(crate) fn step_back(&mut self, work: Work, recipe: Recipe) {
        self.run(Effect::RollBack {
            change: work.change(),
        });
        let detail = "the activation was interrupted before the switch, and its permit is over";
        let failure = Failure::new(FailureClass::Install, detail);
        let deadline = self.now.after(recipe.switching(self.policy));
        self.enter(State::RollingBack {
            work,
            recipe,
            failure,
            deadline,
            resumed: 0,
            lapsed: true,
            booted: false,
        });
    }

    /// The host runs what it ran before an activation that never came to the switch. What the controller said meanwhile
    /// counts as for any work that is not active.
    pub(crate) fn stepped_back(&mut self, work: Work, recipe: Recipe) {
        if self.next.next.is_some() {
            self.forget_work();
            self.take_up();
        } else {
            self.ask(work.untouched(), recipe);
        }
    }

    /// What was active is active again on the disk. A host that may have booted into the change must boot out of it;
    /// one that never left the boot in which the activation began still runs what it ran before.
    pub(crate) fn back(&mut self, work: Work, recipe: Recipe, failure: Failure) {
        let left_the_boot = work.began_in.as_ref() != Some(&self.now.boot_id);
        if left_the_boot && recipe.reboot != RebootPolicy::Never {
            self.reboot(work, recipe, Way::Back { failure });
        } else {
            self.rolled_back(&work, failure);
        }
    }
}

/// A step's failure by its deadline, in the class of the step so that its own budget counts it.
pub(crate) fn too_long(class: FailureClass, step: &str, limit: Duration) -> Failure {
    let limit = comber_model::duration::format(limit);
    Failure::new(class, format!("{step} took longer than {limit}"))
}
