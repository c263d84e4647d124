//! The ends of an attempt. Each makes exactly one report.
//!
//! Invariant: `installed` changes when an attempt is committed, or by a look at the disk, and never otherwise; so
//! after a way back it is what was true before.

use comber_model::{
    Action, Failure, FailureClass, Installed, ReleaseId, Report, ReportResult, Version,
};

use crate::event::Found;
use crate::ledger::{Bad, LOCALLY_BAD_MAX, Product};
use crate::state::Work;
use crate::transition::Moving;
use crate::{Effect, Recipe, State};

impl Moving<'_> {
    /// Keeps the change: it is active and healthy.
    pub(crate) fn commit(&mut self, work: &Work, recipe: Recipe) {
        let release = &work.assignment.release;
        match work.assignment.action {
            Action::Install { artifact } => {
                let known = self.next.installed.get(&release.name);
                let previous = known.and_then(|known| previous(&known.installed, release));
                let installed = Installed {
                    version: release.version.clone(),
                    digest: artifact.digest,
                    previous,
                };
                let product = Product { installed, recipe };
                self.next.installed.insert(release.name.clone(), product);
                self.next.locally_bad.retain(|bad| bad.release != *release);
            }
            Action::Remove => {
                // Another version that took its place is not what was to be removed.
                let gone = self.next.installed.get(&release.name);
                if gone.is_some_and(|gone| gone.installed.version == release.version) {
                    self.next.installed.remove(&release.name);
                }
            }
        }
        self.next.broken.remove(&release.name);
        self.clean_up(release);
        let report = self.report(work, ReportResult::Committed);
        self.enter(State::Committed { report });
        self.take_up();
    }

    /// Ends an attempt that has not touched what is active.
    pub(crate) fn not_activated(&mut self, work: &Work, failure: Failure) {
        // Bytes that are not what was published are of no use to a later attempt; all others are.
        if failure.class == FailureClass::Trust {
            self.clean_up(&work.assignment.release);
        }
        self.report(work, ReportResult::NotActivated { failure });
        self.rest();
        self.take_up();
    }

    /// Ends an attempt at a release that is none for this host. Its bytes are of no use here.
    pub(crate) fn not_applicable(&mut self, work: &Work, failure: Failure) {
        self.clean_up(&work.assignment.release);
        self.report(work, ReportResult::NotApplicable { failure });
        self.rest();
        self.take_up();
    }

    /// Where the machine stands without work: a product that was left broken stays so until it is committed, whatever
    /// became of the attempts since.
    pub(crate) fn rest(&mut self) {
        let state = match self.next.broken.values().next() {
            Some(failure) => State::Broken {
                failure: failure.clone(),
            },
            None => State::Idle,
        };
        if self.next.state != state {
            self.enter(state);
        }
    }

    /// Ends an attempt that was undone.
    pub(crate) fn rolled_back(&mut self, work: &Work, failure: Failure) {
        self.clean_up(&work.assignment.release);
        let report = self.report(work, ReportResult::RolledBack { failure });
        self.enter(State::RolledBack { report });
        self.take_up();
    }

    /// Ends an attempt in a state that only a person can judge. Nothing is cleaned up: it is their evidence. What is
    /// active now is not known until somebody looked.
    pub(crate) fn broken(&mut self, work: &Work, failure: Failure) {
        self.run(Effect::Inspect);
        let result = ReportResult::Broken {
            failure: failure.clone(),
        };
        self.report(work, result);
        let product = work.assignment.release.name.clone();
        self.next.broken.insert(product, failure.clone());
        self.enter(State::Broken { failure });
        self.take_up();
    }

    /// Remembers that the release failed on this host, with its newest failure.
    pub(crate) fn mark_bad(&mut self, release: &ReleaseId, failure: &Failure) {
        let bad = &mut self.next.locally_bad;
        bad.retain(|bad| bad.release != *release);
        if bad.len() >= LOCALLY_BAD_MAX {
            bad.remove(0);
        }
        bad.push(Bad {
            release: release.clone(),
            failure: failure.clone(),
        });
    }

    /// Takes what is really on the disk for what is installed. Only while no attempt is between two releases. True
    /// where the ledger did not know.
    pub(crate) fn reconcile(&mut self, found: &Found) -> bool {
        let before = self.next.installed.clone();
        let mut known = std::mem::take(&mut self.next.installed);
        for (name, active) in &found.active {
            let known = known.remove(name).map(|product| product.installed);
            let on_disk = |version: &Version| {
                let kept = found.kept.get(name);
                kept.is_some_and(|kept| kept.contains(version)) && *version != active.version
            };
            let previous = known.and_then(|known| {
                if known.version == active.version {
                    known.previous
                } else {
                    Some(known.version)
                }
            });
            let installed = Installed {
                version: active.version.clone(),
                digest: active.digest,
                previous: previous.filter(on_disk),
            };
            let recipe = active.recipe.clone();
            let product = Product { installed, recipe };
            self.next.installed.insert(name.clone(), product);
        }
        self.next.installed != before
    }

    fn clean_up(&mut self, release: &ReleaseId) {
        self.run(Effect::Cleanup {
            product: release.name.clone(),
            keep: self.next.kept(&release.name),
        });
    }

    fn report(&mut self, work: &Work, result: ReportResult) -> u64 {
        let number = self.next.next_report;
        self.next.reports.push(Report {
            number,
            generation: work.generation,
            rollout: work.assignment.rollout,
            release: work.assignment.release.clone(),
            attempt: work.assignment.attempt,
            result,
            started_at: work.started_at,
            finished_at: self.now.wall,
        });
        self.next.next_report = number.saturating_add(1);
        self.next.last = Some(work.status(None));
        number
    }
}

/// What to go back to from a release that replaces `known`; one that replaces itself keeps the older way back.
fn previous(known: &Installed, release: &ReleaseId) -> Option<Version> {
    if known.version == release.version {
        known.previous.clone()
    } else {
        Some(known.version.clone())
    }
}
