//! The host of the model: what effects do to its disk, whole or by half.

use comber_machine::{Answer, Change, Effect, Event, Found, Recipe};
use comber_model::{Action, Failure, FailureClass, ReleaseId};

use super::{Side, World, recipe_of, version};
use crate::build;
use crate::ops::{Done, Outcome};

impl World {
    pub(super) fn found(&self) -> Found {
        let kept: Vec<_> = self.disk.kept.iter().cloned().collect();
        match &self.disk.active {
            Side::Release(active) => build::found(Some(active), &kept, &recipe_of(active)),
            Side::Nothing | Side::Half => build::found(None, &kept, &Recipe::default()),
        }
    }

    pub(super) fn finish(&mut self, outcome: Outcome) {
        let Some(effect) = self.hands.pop_front() else {
            return;
        };
        let good = outcome == Outcome::Good;
        if let Effect::Reboot { from, .. } = &effect {
            let here = from.0 == format!("boot-{}", self.boot);
            match (here, good) {
                (false, _) => {}
                (true, true) => self.start(true),
                (true, false) => {
                    let why = "a backup is running".to_owned();
                    self.happen(Event::Answer(Answer::RebootRefused { why }), false);
                }
            }
            return;
        }
        self.change_disk(&effect, if good { Done::All } else { Done::Half });
        match effect {
            Effect::Inspect => {
                let found = self.found();
                self.happen(Event::Observed(found), false);
            }
            Effect::Cancel | Effect::Publish | Effect::Cleanup { .. } | Effect::Reboot { .. } => {}
            Effect::Fetch { .. }
            | Effect::Preflight { .. }
            | Effect::Activate { .. }
            | Effect::Verify { .. }
            | Effect::RollBack { .. }
            | Effect::VerifyBack { .. } => {
                let answer = self.answer(&effect, good);
                self.happen(Event::Answer(answer), false);
            }
        }
    }

    pub(super) fn answer(&self, effect: &Effect, good: bool) -> Answer {
        match (effect, good) {
            (Effect::Fetch { change }, true) => Answer::Fetched {
                recipe: recipe_of(&change.release),
            },
            (Effect::Fetch { .. }, false) => Answer::StepFailed(failed(FailureClass::Trust)),
            (Effect::Preflight { .. }, true) => Answer::PreflightPassed,
            (Effect::Preflight { .. }, false) => {
                Answer::StepFailed(failed(FailureClass::Preflight))
            }
            (Effect::Activate { .. }, true) => Answer::ActivationDone {
                needs_reboot: self.since_boot.as_secs().is_multiple_of(2),
            },
            (Effect::Activate { .. }, false) => Answer::StepFailed(failed(FailureClass::Install)),
            (Effect::Verify { change, .. }, _) if !self.holds(change) => Answer::Drifted,
            (Effect::Verify { .. } | Effect::VerifyBack { .. }, true) => Answer::ChecksPassed,
            (Effect::Verify { .. } | Effect::VerifyBack { .. }, false) => {
                Answer::ChecksFailed(failed(FailureClass::Health))
            }
            (Effect::RollBack { .. }, true) => Answer::RolledBack,
            (_, _) => Answer::RollBackFailed(failed(FailureClass::Rollback)),
        }
    }

    pub(super) fn holds(&self, change: &Change) -> bool {
        let there = self.disk.active == Side::Release(change.release.clone());
        match change.action {
            Action::Install { .. } => there,
            Action::Remove => !there && self.disk.active != Side::Half,
        }
    }

    /// Does to the disk what the effect does, or the half of it.
    pub(super) fn change_disk(&mut self, effect: &Effect, done: Done) {
        let target = match effect {
            Effect::Fetch { change } => {
                if done == Done::All && matches!(change.action, Action::Install { .. }) {
                    self.disk.kept.insert(change.release.clone());
                }
                return;
            }
            Effect::Activate { change, .. } => match change.action {
                Action::Install { .. } => Side::Release(change.release.clone()),
                // An installer does not touch another version than the one to be removed.
                Action::Remove => match &self.disk.active {
                    Side::Release(other) if *other != change.release => return,
                    Side::Nothing | Side::Half | Side::Release(_) => Side::Nothing,
                },
            },
            Effect::RollBack { change } => change.before.as_ref().map_or(Side::Nothing, |before| {
                Side::Release(ReleaseId {
                    name: change.release.name.clone(),
                    version: before.version.clone(),
                })
            }),
            Effect::Cleanup { keep, .. } => {
                self.disk
                    .kept
                    .retain(|release| keep.contains(&release.version));
                return;
            }
            Effect::Cancel
            | Effect::Preflight { .. }
            | Effect::Reboot { .. }
            | Effect::Verify { .. }
            | Effect::VerifyBack { .. }
            | Effect::Inspect
            | Effect::Publish => return,
        };
        match done {
            Done::Nothing => {}
            Done::Half => self.disk.active = Side::Half,
            Done::All => self.disk.active = target,
        }
    }

    pub(super) fn killed(&mut self, done: Done, power: bool) {
        if let Some(effect) = self.hands.front().cloned() {
            self.change_disk(&effect, done);
        }
        self.start(power);
    }

    /// Somebody switches by hand, while the agent has no work or looks how its work holds.
    pub(super) fn tamper(&mut self, number: u8) {
        let idle = self.ledger.state.work().is_none() && self.hands.is_empty();
        let verifying = matches!(self.hands.front(), Some(Effect::Verify { .. }));
        if verifying || (idle && self.ledger.broken.is_empty()) {
            self.disk.active = Side::Release(version(number));
            self.tampered = true;
        }
    }
}

fn failed(class: FailureClass) -> Failure {
    Failure::new(class, "as the model wants")
}
