//! The table of answers: what the end of an effect means in each state.
//!
//! One function per state that waits for an answer. Every pair is written out, so a new answer does not compile until
//! somebody decided. What nothing waits for changes nothing.

use comber_model::{Failure, FailureClass};

use crate::state::Work;
use crate::step::lost;
use crate::transition::{Moving, Reason};
use crate::{Answer, Effect, Recipe, State};

impl Moving<'_> {
    pub(crate) fn answer(&mut self, answer: Answer) -> Result<(), Reason> {
        match self.next.state.clone() {
            State::Fetching { work } => self.fetching(work, answer),
            State::Staged { work, recipe, .. } => self.staged(work, recipe, answer),
            State::Activating {
                work,
                recipe,
                resumed,
                ..
            } => self.activating(work, recipe, resumed, answer),
            State::Rebooting { .. } => self.rebooting(answer),
            State::Verifying {
                work,
                recipe,
                activated: true,
                ..
            } => self.verifying(work, recipe, answer),
            State::Verifying {
                work,
                recipe,
                activated: false,
                ..
            } => self.looking(work, recipe, answer),
            State::RollingBack {
                work,
                failure,
                booted: true,
                ..
            } => self.coming_up(&work, failure, answer),
            State::RollingBack {
                work,
                recipe,
                failure,
                lapsed,
                booted: false,
                ..
            } => self.rolling_back(work, recipe, failure, lapsed, answer),
            State::Idle
            | State::AwaitingPermit { .. }
            | State::Committed { .. }
            | State::RolledBack { .. }
            | State::Broken { .. } => self.unexpected(),
        }
    }

    fn fetching(&mut self, work: Work, answer: Answer) -> Result<(), Reason> {
        match answer {
            Answer::Fetched { recipe } => self.stage(work, recipe),
            Answer::StepFailed(failure) => self.not_activated(&work, failure),
            Answer::PreflightPassed
            | Answer::NotApplicable(_)
            | Answer::LeaveLapsed
            | Answer::ActivationDone { .. }
            | Answer::RebootRefused { .. }
            | Answer::ChecksPassed
            | Answer::ChecksFailed(_)
            | Answer::Drifted
            | Answer::RolledBack
            | Answer::RollBackFailed(_) => return self.unexpected(),
        }
        Ok(())
    }

    fn staged(&mut self, work: Work, recipe: Recipe, answer: Answer) -> Result<(), Reason> {
        match answer {
            Answer::PreflightPassed => self.ask(work, recipe),
            Answer::NotApplicable(why) => self.not_applicable(&work, why),
            Answer::StepFailed(failure) => self.not_activated(&work, failure),
            Answer::Fetched { .. }
            | Answer::LeaveLapsed
            | Answer::ActivationDone { .. }
            | Answer::RebootRefused { .. }
            | Answer::ChecksPassed
            | Answer::ChecksFailed(_)
            | Answer::Drifted
            | Answer::RolledBack
            | Answer::RollBackFailed(_) => return self.unexpected(),
        }
        Ok(())
    }

    fn activating(
        &mut self,
        work: Work,
        recipe: Recipe,
        resumed: u32,
        answer: Answer,
    ) -> Result<(), Reason> {
        match answer {
            Answer::ActivationDone { needs_reboot } => self.activated(work, recipe, needs_reboot),
            // Judged once more right before the switch, and refused: nothing was touched yet.
            Answer::StepFailed(failure) if resumed == 0 && failure.class == FailureClass::Trust => {
                self.not_activated(&work.untouched(), failure);
            }
            Answer::StepFailed(failure) => self.fail_active(work, recipe, failure),
            // Nothing was touched yet, unless an interrupted step had begun.
            Answer::LeaveLapsed if resumed == 0 => self.ask(work.untouched(), recipe),
            Answer::LeaveLapsed => self.step_back(work, recipe),
            Answer::Fetched { .. }
            | Answer::PreflightPassed
            | Answer::NotApplicable(_)
            | Answer::RebootRefused { .. }
            | Answer::ChecksPassed
            | Answer::ChecksFailed(_)
            | Answer::Drifted
            | Answer::RolledBack
            | Answer::RollBackFailed(_) => return self.unexpected(),
        }
        Ok(())
    }

    /// A refusal is kept for the report and asked again later; the deadline stays.
    fn rebooting(&mut self, answer: Answer) -> Result<(), Reason> {
        let why = match answer {
            Answer::RebootRefused { why } => why,
            Answer::Fetched { .. }
            | Answer::PreflightPassed
            | Answer::NotApplicable(_)
            | Answer::StepFailed(_)
            | Answer::LeaveLapsed
            | Answer::ActivationDone { .. }
            | Answer::ChecksPassed
            | Answer::ChecksFailed(_)
            | Answer::Drifted
            | Answer::RolledBack
            | Answer::RollBackFailed(_) => return self.unexpected(),
        };
        let next_try = self.now.after(self.policy.reboot_again);
        if let State::Rebooting { again, refused, .. } = &mut self.next.state {
            *again = Some(next_try);
            *refused = Some(Failure::new(FailureClass::Reboot, why).detail);
        }
        Ok(())
    }

    fn verifying(&mut self, work: Work, recipe: Recipe, answer: Answer) -> Result<(), Reason> {
        match answer {
            Answer::ChecksPassed => self.commit(&work, recipe),
            Answer::ChecksFailed(failure) => self.fail_active(work, recipe, failure),
            Answer::Drifted => self.fail_active(work, recipe, drifted()),
            Answer::Fetched { .. }
            | Answer::PreflightPassed
            | Answer::NotApplicable(_)
            | Answer::StepFailed(_)
            | Answer::LeaveLapsed
            | Answer::ActivationDone { .. }
            | Answer::RebootRefused { .. }
            | Answer::RolledBack
            | Answer::RollBackFailed(_) => return self.unexpected(),
        }
        Ok(())
    }

    /// The same while nothing was activated: there is nothing to undo, and what is missing can be brought.
    fn looking(&mut self, work: Work, recipe: Recipe, answer: Answer) -> Result<(), Reason> {
        match answer {
            Answer::ChecksPassed => self.commit(&work, recipe),
            Answer::ChecksFailed(failure) => self.not_activated(&work, failure),
            // A newer plan waited for the end of the look: this work must not go on to an activation.
            Answer::Drifted if self.next.next.is_some() => {
                let failure = Failure::new(FailureClass::Rejected, "a newer plan replaced it");
                self.run(Effect::Inspect);
                self.not_activated(&work, failure);
            }
            Answer::Drifted => {
                self.run(Effect::Inspect);
                self.fetch(work);
            }
            Answer::Fetched { .. }
            | Answer::PreflightPassed
            | Answer::NotApplicable(_)
            | Answer::StepFailed(_)
            | Answer::LeaveLapsed
            | Answer::ActivationDone { .. }
            | Answer::RebootRefused { .. }
            | Answer::RolledBack
            | Answer::RollBackFailed(_) => return self.unexpected(),
        }
        Ok(())
    }

    fn rolling_back(
        &mut self,
        work: Work,
        recipe: Recipe,
        failure: Failure,
        lapsed: bool,
        answer: Answer,
    ) -> Result<(), Reason> {
        match answer {
            Answer::RolledBack if lapsed => self.stepped_back(work, recipe),
            Answer::RolledBack => self.back(work, recipe, failure),
            Answer::RollBackFailed(last) => self.broken(&work, lost(&last.detail, &failure)),
            Answer::Fetched { .. }
            | Answer::PreflightPassed
            | Answer::NotApplicable(_)
            | Answer::StepFailed(_)
            | Answer::LeaveLapsed
            | Answer::ActivationDone { .. }
            | Answer::RebootRefused { .. }
            | Answer::ChecksPassed
            | Answer::ChecksFailed(_)
            | Answer::Drifted => return self.unexpected(),
        }
        Ok(())
    }

    /// After the reboot on the way back.
    fn coming_up(&mut self, work: &Work, failure: Failure, answer: Answer) -> Result<(), Reason> {
        match answer {
            Answer::ChecksPassed => self.rolled_back(work, failure),
            Answer::ChecksFailed(last) => self.broken(work, lost(&last.detail, &failure)),
            Answer::Fetched { .. }
            | Answer::PreflightPassed
            | Answer::NotApplicable(_)
            | Answer::StepFailed(_)
            | Answer::LeaveLapsed
            | Answer::ActivationDone { .. }
            | Answer::RebootRefused { .. }
            | Answer::Drifted
            | Answer::RolledBack
            | Answer::RollBackFailed(_) => return self.unexpected(),
        }
        Ok(())
    }
}

fn drifted() -> Failure {
    let detail = "what was activated is no longer active; something else on the host changed it";
    Failure::new(FailureClass::Install, detail)
}
