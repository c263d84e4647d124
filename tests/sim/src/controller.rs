//! The controller of a simulation: the planner's snapshot, with what a crash leaves of it.

use std::collections::BTreeMap;

use comber_model::assignment::Desired;
use comber_model::{HostId, HostStatus, Link};
use comber_planner::{Plan, PlanInput, Severity};
use jiff::Timestamp;

/// The controller.
#[derive(Debug, Default)]
pub struct Controller {
    /// Everything it knows; what is durable of it survives a crash.
    pub input: PlanInput,
    /// False while it is down.
    pub up: bool,
    /// Time of the next plan that is due without anything being heard.
    pub next_wake: Option<Timestamp>,
}

impl Controller {
    /// Plans once and takes the plan in; gives the hosts whose desired state changed. A crash in the middle of the commit
    /// leaves only what `keep` says, rollouts being written last.
    ///
    /// # Panics
    ///
    /// Where the plan breaks a rule: that is what simulations look for.
    pub fn plan(
        &mut self,
        now: Timestamp,
        keep: impl FnMut(&HostId) -> bool,
        crash: bool,
    ) -> Vec<HostId> {
        let (plan, _) = comber_planner::plan(&self.input, now);
        let findings = comber_planner::check(&self.input, &plan, now);
        let fatal: Vec<_> = findings
            .iter()
            .filter(|f| f.severity == Severity::Fatal)
            .collect();
        assert!(
            fatal.is_empty(),
            "the plan at {now} breaks a rule: {fatal:?}"
        );
        self.next_wake = plan.next_wake;
        if crash && !plan.is_empty() {
            self.commit_half(plan, keep);
            return Vec::new();
        }
        let changed = plan.desired.iter().map(|(host, _)| host.clone()).collect();
        self.input.apply(&plan);
        changed
    }

    /// What is durable when the process dies while it commits a plan: the counter, and some hosts' records.
    fn commit_half(&mut self, mut plan: Plan, mut keep: impl FnMut(&HostId) -> bool) {
        let kept: BTreeMap<HostId, bool> = plan
            .members
            .iter()
            .map(|(_, member)| member.host.clone())
            .chain(plan.desired.iter().map(|(host, _)| host.clone()))
            .map(|host| {
                let keep = keep(&host);
                (host, keep)
            })
            .collect();
        plan.members.retain(|(_, member)| kept[&member.host]);
        plan.desired.retain(|(host, _)| kept[host]);
        plan.rollouts.clear();
        let generation = plan.generation;
        self.input.apply(&plan);
        self.input.generation = generation;
    }

    /// Starts again from what is durable, as the real one does when it loads its store.
    pub fn restart(&mut self, now: Timestamp) {
        self.input.restart(now);
        self.up = true;
        self.next_wake = Some(now);
    }

    /// Takes in what a host says on a connection that is up.
    pub fn hear(&mut self, host: &HostId, status: HostStatus, now: Timestamp) {
        if let Some(mut view) = self.input.hosts.get_mut(host) {
            view.status = Some(status);
            if !view.link.is_up() {
                view.link = Link::Up { since: now };
            }
        }
    }

    /// Notes that a host's connection is gone.
    pub fn lost(&mut self, host: &HostId, now: Timestamp) {
        if let Some(mut view) = self.input.hosts.get_mut(host)
            && view.link.is_up()
        {
            view.link = Link::Down { since: now };
        }
    }

    /// What a host shall run.
    pub fn desired(&self, host: &HostId) -> Desired {
        self.input
            .hosts
            .get(host)
            .map(|view| view.desired.clone())
            .unwrap_or_default()
    }
}
