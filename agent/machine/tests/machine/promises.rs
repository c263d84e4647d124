//! What must hold, watched from outside: by what the model asked, granted, saw published and finds on the disk, never
//! by what the machine says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comber_machine::{Effect, Epoch, Ledger, Now, REPORTS_MAX, State, Transition};
use comber_model::release::RebootPolicy;
use comber_model::{
    Action, Assignment, Generation, HostStatus, Nonce, ReleaseId, Report, ReportResult,
};

use crate::world::{Disk, Side, recipe_of};

/// One of the properties, so that each test fails by its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    Generation,
    Truth,
    PermitLife,
    Permit,
    Cancel,
    Reports,
    LocallyBad,
    Alone,
}

/// Remembers what the promises are about and every breach of one.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) breaches: Vec<(Promise, String)>,
    /// Every plan that the controller made.
    pub(crate) plans: BTreeMap<(u8, Generation), Option<Assignment>>,
    /// When each request was first in a ledger.
    asked: BTreeMap<Nonce, Now>,
    /// The longest life granted to each request that reached the host.
    pub(crate) granted: BTreeMap<Nonce, Duration>,
    used: BTreeSet<Nonce>,
    /// The newest state that the controller was shown.
    pub(crate) shown: Option<(Option<Epoch>, HostStatus)>,
    reports: BTreeMap<u64, Report>,
    pub(crate) acknowledged: u64,
    bad: BTreeSet<ReleaseId>,
    /// Attempts that ended, of any kind.
    pub(crate) ends: usize,
    pub(crate) begins: usize,
}

/// What the world knows at the moment of a transition.
pub(crate) struct Scene<'a> {
    pub(crate) now: &'a Now,
    pub(crate) disk: &'a Disk,
    /// The event came from the link or the clock on the wall, not from the host's own work.
    pub(crate) outside: bool,
}

impl Watch {
    pub(crate) fn breach(&mut self, promise: Promise, what: impl Into<String>) {
        self.breaches.push((promise, what.into()));
    }

    fn expect(&mut self, promise: Promise, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.breaches.push((promise, what()));
        }
    }

    /// A transition is about to be durable.
    pub(crate) fn moved(&mut self, before: &Ledger, transition: &Transition, scene: &Scene<'_>) {
        let next = &transition.next;
        let fell = next.epoch == before.epoch && next.generation < before.generation;
        self.expect(Promise::Generation, !fell, || {
            format!(
                "generation fell from {} to {}",
                before.generation, next.generation
            )
        });
        if let State::AwaitingPermit {
            request: Some(request),
            ..
        } = &next.state
        {
            self.asked
                .entry(request.nonce)
                .or_insert_with(|| scene.now.clone());
        }
        if scene.outside && before.state.kind().is_active() {
            self.stayed_alone(before, transition);
        }
        self.kept_reports(next);
        let new = next
            .reports
            .iter()
            .filter(|report| !self.reports.contains_key(&report.number));
        for (index, report) in new.cloned().collect::<Vec<_>>().into_iter().enumerate() {
            self.ended(before, &report, index == 0, scene.disk);
            self.reports.insert(report.number, report);
        }
    }

    /// What came from outside may raise the generation and name what follows, and nothing else.
    fn stayed_alone(&mut self, before: &Ledger, transition: &Transition) {
        let (mut was, mut is) = (before.state.clone(), transition.next.state.clone());
        for state in [&mut was, &mut is] {
            if let State::Activating { work, .. }
            | State::Rebooting { work, .. }
            | State::Verifying { work, .. }
            | State::RollingBack { work, .. } = state
            {
                work.generation = Generation(0);
            }
        }
        let quiet = transition
            .effects
            .iter()
            .all(|effect| *effect == Effect::Publish);
        self.expect(Promise::Alone, was == is && quiet, || {
            format!("{was:?} became {is:?} with {:?}", transition.effects)
        });
    }

    fn kept_reports(&mut self, next: &Ledger) {
        let waiting = self.reports.range(self.acknowledged + 1..);
        let lost: Vec<_> = waiting
            .filter(|(_, report)| !next.reports.contains(report))
            .collect();
        let lost = format!("{lost:?}");
        let ordered = next
            .reports
            .windows(2)
            .all(|pair| pair[0].number < pair[1].number);
        let bounded = next.reports.len() <= REPORTS_MAX;
        self.expect(Promise::Reports, lost == "[]" && ordered && bounded, || {
            format!("lost {lost}, ordered {ordered}, bounded {bounded}")
        });
    }

    /// A new report: is it true of the disk?
    fn ended(&mut self, before: &Ledger, report: &Report, of_work: bool, disk: &Disk) {
        self.ends += 1;
        let work = before.state.work().filter(|_| of_work);
        let release = Side::Release(report.release.clone());
        let installs = work.is_none_or(|work| match work.assignment.action {
            Action::Install { .. } => true,
            Action::Remove => false,
        });
        let reboot = recipe_of(&report.release).reboot;
        let holds = match &report.result {
            ReportResult::Committed if installs => {
                self.bad.remove(&report.release);
                let looked = matches!(
                    before.state,
                    State::Verifying {
                        activated: false,
                        ..
                    }
                );
                let must_run = reboot == RebootPolicy::Required && !looked;
                disk.active == release && (!must_run || disk.booted_into == release)
            }
            ReportResult::Committed => disk.active != release,
            ReportResult::RolledBack { .. } => {
                let old = work.and_then(|work| work.before.as_ref());
                let old = old.map_or(Side::Nothing, |old| {
                    Side::Release(ReleaseId {
                        name: report.release.name.clone(),
                        version: old.version.clone(),
                    })
                });
                let still_runs = reboot != RebootPolicy::Never
                    && disk.booted_into == release
                    && disk.booted_since_begin
                    && installs;
                disk.active == old && (!still_runs || old == release)
            }
            ReportResult::NotActivated { .. } | ReportResult::NotApplicable { .. } => {
                !of_work || touches_nothing(&before.state)
            }
            ReportResult::Broken { .. } => of_work && !touches_nothing(&before.state),
        };
        if installs
            && !matches!(
                report.result,
                ReportResult::Committed
                    | ReportResult::NotActivated { .. }
                    | ReportResult::NotApplicable { .. }
            )
        {
            self.bad.insert(report.release.clone());
        }
        self.expect(Promise::Truth, holds, || {
            format!(
                "{report:?} is not true of {disk:?}, before {:?}",
                before.state
            )
        });
    }

    /// An activation is about to change the host for the first time in its attempt.
    pub(crate) fn began(&mut self, before: &Ledger, next: &Ledger, now: &Now, connected: bool) {
        // Taken up again after a crash, before the switch: by the same permit, and only within its life.
        if let State::Activating { leave, .. } = &before.state {
            let ahead = leave.is_ahead(now);
            return self.expect(Promise::PermitLife, ahead, || {
                format!("taken up again at {now:?}, the permit ended at {leave:?}")
            });
        }
        self.begins += 1;
        let (
            State::AwaitingPermit {
                request: Some(request),
                ..
            },
            Some(work),
        ) = (&before.state, next.state.work())
        else {
            return self.breach(Promise::Permit, format!("began out of {:?}", before.state));
        };
        let nonce = request.nonce;
        let granted = self.granted.get(&nonce).copied();
        let reaches = connected || work.assignment.disconnected;
        self.expect(Promise::Permit, granted.is_some() && reaches, || {
            format!("{nonce} was granted {granted:?}, connected {connected}")
        });
        let in_life = self.asked.get(&nonce).is_some_and(|asked| {
            asked.boot_id == now.boot_id && granted.is_some_and(|ttl| now.boot < asked.boot + ttl)
        });
        let first = self.used.insert(nonce);
        self.expect(Promise::PermitLife, in_life && first, || {
            format!("{nonce} used at {now:?}, first {first}")
        });
        self.not_cancelled(next);
        let bad = self.bad.contains(&work.assignment.release);
        let installs = matches!(work.assignment.action, Action::Install { .. });
        let told = !bad || !installs || work.assignment.retry_bad;
        self.expect(Promise::LocallyBad, told, || {
            format!("{} failed here before", work.assignment.release)
        });
    }

    /// No plan that the controller was shown as received wants anything else.
    fn not_cancelled(&mut self, next: &Ledger) {
        let (Some(work), Some(epoch)) = (next.state.work(), next.epoch) else {
            return;
        };
        let shown = match &self.shown {
            Some((shown_epoch, status)) if *shown_epoch == next.epoch => status.generation,
            Some(_) | None => Generation(0),
        };
        let newest = shown.max(work.generation);
        let plans = self
            .plans
            .range((epoch.0[0], work.generation)..=(epoch.0[0], newest));
        let other: Vec<_> = plans
            .filter(|(_, plan)| plan.as_ref() != Some(&work.assignment))
            .map(|(key, _)| *key)
            .collect();
        self.expect(Promise::Cancel, other.is_empty(), || {
            format!("began {work:?} although {other:?} had replaced it")
        });
    }

    /// The controller is shown the actual state.
    pub(crate) fn published(&mut self, epoch: Option<Epoch>, status: HostStatus) {
        if let Some((shown_epoch, shown)) = &self.shown
            && *shown_epoch == epoch
            && shown.generation > status.generation
        {
            let what = format!("shown {} after {}", status.generation, shown.generation);
            self.breach(Promise::Generation, what);
        }
        self.shown = Some((epoch, status));
    }
}

fn touches_nothing(state: &State) -> bool {
    match state {
        State::Activating { .. } | State::Rebooting { .. } | State::RollingBack { .. } => false,
        State::Verifying { activated, .. } => !activated,
        State::Idle
        | State::Fetching { .. }
        | State::Staged { .. }
        | State::AwaitingPermit { .. }
        | State::Committed { .. }
        | State::RolledBack { .. }
        | State::Broken { .. } => true,
    }
}
