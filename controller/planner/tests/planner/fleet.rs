//! One simulated agent: what it says and does, and what it last heard.
//!
//! It follows the agent's rules: refuses lower generations, activates only with an unexpired permit for its own
//! request, and once active finishes alone.

use std::collections::{BTreeMap, BTreeSet};

use comber_model::host::AttemptStatus;
use comber_model::{
    Action, AgentState, Assignment, Desired, Digest, Failure, FailureClass, Generation, HostStatus,
    Installed, Nonce, ReleaseId, Report, ReportResult, RolloutId,
};
use jiff::Timestamp;

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Commit,
    Fail(FailureClass, String),
    Break(FailureClass, String),
    NotApplicable(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) status: HostStatus,
    /// The desired state last delivered.
    pub(crate) seen: Desired,
    /// Every release that was ever committed on it.
    pub(crate) had: BTreeSet<ReleaseId>,
    assignment: Option<Assignment>,
    asked_at: Timestamp,
    next_report: u64,
    next_nonce: u64,
}

impl Agent {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            status: HostStatus {
                generation: Generation::default(),
                state: AgentState::Idle,
                since: now,
                attempt: None,
                installed: BTreeMap::new(),
                locally_bad: Vec::new(),
                reports: Vec::new(),
                boot_id: "boot".to_owned(),
                agent_version: "1.0.0".to_owned(),
            },
            seen: Desired::default(),
            had: BTreeSet::new(),
            assignment: None,
            asked_at: now,
            next_report: 1,
            next_nonce: 1,
        }
    }

    /// The rollout that it brings a release for, now.
    pub(crate) fn works_for(&self) -> Option<RolloutId> {
        let assignment = self
            .assignment
            .as_ref()
            .filter(|assignment| !assignment.rolls_back);
        assignment.map(|assignment| assignment.rollout)
    }

    pub(crate) fn install(&mut self, release: &ReleaseId, digest: Digest) {
        let previous = self
            .status
            .installed
            .get(&release.name)
            .map(|old| old.version.clone());
        let installed = Installed {
            version: release.version.clone(),
            digest,
            previous,
        };
        self.status
            .installed
            .insert(release.name.clone(), installed);
        self.had.insert(release.clone());
    }

    /// Takes in a desired state; work is changed only while nothing is active.
    pub(crate) fn hear(&mut self, desired: &Desired, now: Timestamp) {
        self.status
            .reports
            .retain(|report| report.number > desired.acknowledged);
        if desired.generation < self.status.generation {
            return;
        }
        self.seen = desired.clone();
        if self.status.generation == desired.generation {
            return;
        }
        self.status.generation = desired.generation;
        if !self.status.state.is_active() {
            self.assignment.clone_from(&desired.assignment);
            self.take_up(desired.generation, now);
        }
    }

    fn take_up(&mut self, generation: Generation, now: Timestamp) {
        let state = if self.assignment.is_some() {
            AgentState::Fetching
        } else {
            AgentState::Idle
        };
        self.enter(state, now);
        self.status.attempt = self.assignment.as_ref().map(|assignment| AttemptStatus {
            generation,
            rollout: assignment.rollout,
            release: assignment.release.clone(),
            number: assignment.attempt,
            nonce: None,
        });
    }

    fn enter(&mut self, state: AgentState, now: Timestamp) {
        self.status.state = state;
        self.status.since = now;
    }

    /// Everything is ready: asks for a permit. False where it has nothing to ask for.
    pub(crate) fn ask(&mut self, now: Timestamp) -> bool {
        use AgentState as S;
        let may = matches!(
            self.status.state,
            S::Fetching | S::Staged | S::AwaitingPermit
        );
        let Some(attempt) = self.status.attempt.as_mut().filter(|_| may) else {
            return false;
        };
        attempt.nonce = Some(Nonce(self.next_nonce));
        self.next_nonce += 1;
        self.asked_at = now;
        self.enter(AgentState::AwaitingPermit, now);
        true
    }

    /// Begins to activate, where it may.
    pub(crate) fn activate(&mut self, is_up: bool, now: Timestamp) -> bool {
        let Some(attempt) = &self.status.attempt else {
            return false;
        };
        let Some(assignment) = &self.assignment else {
            return false;
        };
        let permitted = self.seen.grant.is_some_and(|grant| {
            let ends = self.asked_at.checked_add(grant.ttl).unwrap();
            Some(grant.nonce) == attempt.nonce && now < ends
        });
        let reachable = is_up || assignment.disconnected;
        if self.status.state != AgentState::AwaitingPermit || !permitted || !reachable {
            return false;
        }
        self.enter(AgentState::Activating, now);
        true
    }

    /// Ends the attempt in hand and reports it. False where there is none, or it cannot end so now.
    pub(crate) fn end(&mut self, end: &End, now: Timestamp) -> bool {
        let is_active = self.status.state.is_active();
        let works = is_active
            || matches!(
                self.status.state,
                AgentState::Fetching | AgentState::Staged | AgentState::AwaitingPermit
            );
        if !works || (*end == End::Commit && !is_active) {
            return false;
        }
        let (Some(attempt), Some(assignment)) =
            (self.status.attempt.take(), self.assignment.take())
        else {
            return false;
        };
        let (result, state) = match end {
            End::Commit => (ReportResult::Committed, AgentState::Committed),
            End::Fail(class, detail) if is_active => (
                ReportResult::RolledBack {
                    failure: Failure::new(*class, detail),
                },
                AgentState::RolledBack,
            ),
            End::Fail(class, detail) => (
                ReportResult::NotActivated {
                    failure: Failure::new(*class, detail),
                },
                AgentState::Idle,
            ),
            End::NotApplicable(_) if is_active => return false,
            End::NotApplicable(why) => (
                ReportResult::NotApplicable {
                    failure: Failure::new(FailureClass::Preflight, why),
                },
                AgentState::Idle,
            ),
            End::Break(class, detail) => (
                ReportResult::Broken {
                    failure: Failure::new(*class, detail),
                },
                AgentState::Broken,
            ),
        };
        if result == ReportResult::Committed {
            match &assignment.action {
                Action::Install { artifact } => self.install(&attempt.release, artifact.digest),
                Action::Remove => {
                    self.status.installed.remove(&attempt.release.name);
                }
            }
        }
        self.status.reports.push(Report {
            number: self.next_report,
            generation: attempt.generation,
            rollout: attempt.rollout,
            release: attempt.release,
            attempt: attempt.number,
            result,
            started_at: now,
            finished_at: now,
        });
        self.next_report += 1;
        self.enter(state, now);
        self.catch_up(now);
        true
    }

    /// A desired state that came while it was active is taken up now.
    fn catch_up(&mut self, now: Timestamp) {
        let desired = self.seen.clone();
        let is_new = desired.assignment.is_some()
            && !self
                .status
                .reports
                .iter()
                .any(|r| r.generation >= desired.generation);
        if is_new && desired.generation == self.status.generation {
            self.assignment = desired.assignment;
            self.take_up(desired.generation, now);
        }
    }
}
