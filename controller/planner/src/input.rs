//! What a plan is made from: the controller's picture of the fleet, kept up to date in place.
//!
//! The planner only reads it; [`PlanInput::apply`] is the one way in which a committed plan changes it, so that the
//! counts kept beside the members always agree with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use comber_model::release::Release;
use comber_model::rollout::{Member, Outcomes, Rollout};
use comber_model::selector::Selector;
use comber_model::{Desired, Generation, Host, HostId, HostStatus, Link, ReleaseId, RolloutId};

use crate::Plan;
use crate::tally::Tally;

/// The controller's in-memory snapshot. Kept up to date in place, never cloned per plan.
#[derive(Debug, Default)]
pub struct PlanInput {
    /// Generation of the last committed plan: the parent of the next.
    pub generation: Generation,
    /// Every enrolled host, also retired ones.
    pub hosts: BTreeMap<HostId, HostView>,
    /// Every rollout that is kept.
    pub rollouts: BTreeMap<RolloutId, RolloutView>,
    /// Every published release.
    pub releases: BTreeMap<ReleaseId, Arc<Release>>,
    /// Hosts whose facts, labels, enrolment or retirement changed since the last applied plan; all hosts after a
    /// restart. Only they are matched against selectors again.
    pub changed: BTreeSet<HostId>,
}

/// One host as the planner sees it. Status and link are to be changed together when a host connects.
#[derive(Debug, Clone)]
pub struct HostView {
    /// Who it is.
    pub host: Host,
    /// What it last said; absent where it never connected.
    pub status: Option<HostStatus>,
    /// Whether it is there.
    pub link: Link,
    /// What it shall run, as last committed.
    pub desired: Desired,
}

impl HostView {
    /// A host that has said nothing yet and has no work.
    pub fn new(host: Host, link: Link) -> Self {
        Self {
            host,
            status: None,
            link,
            desired: Desired::default(),
        }
    }
}

/// One rollout with its members, and counts derived from them.
#[derive(Debug)]
pub struct RolloutView {
    /// The record.
    pub rollout: Rollout,
    /// Its hosts. To be changed by [`PlanInput::apply`] only; whoever changes them otherwise makes a new view.
    pub members: BTreeMap<HostId, Member>,
    /// Counts per wave.
    pub(crate) tally: Tally,
    /// Members that a plan must look at even when nothing is heard of them.
    pub(crate) attention: BTreeSet<HostId>,
    /// The selectors of the rollout, parsed on first use.
    pub(crate) selector: OnceLock<Option<Selector>>,
    /// The same for the release's platforms; the inner absence means every platform.
    pub(crate) platforms: OnceLock<Option<Selector>>,
}

impl RolloutView {
    /// A view of stored records; derives the counts.
    pub fn new(rollout: Rollout, members: BTreeMap<HostId, Member>) -> Self {
        let mut view = Self {
            rollout,
            members,
            tally: Tally::default(),
            attention: BTreeSet::new(),
            selector: OnceLock::new(),
            platforms: OnceLock::new(),
        };
        view.derive();
        view
    }

    /// How many of its hosts stand where; kept up to date, costs nothing.
    pub fn outcomes(&self) -> Outcomes {
        self.tally.outcomes()
    }

    /// Derives counts and attention again from the members.
    fn derive(&mut self) {
        self.tally = Tally::of(self.members.values());
        let needs = |member: &&Member| crate::attention::is_needed(&self.rollout, member);
        self.attention = self
            .members
            .values()
            .filter(needs)
            .map(|m| m.host.clone())
            .collect();
    }

    fn replace(&mut self, member: Member) {
        let needed = crate::attention::is_needed(&self.rollout, &member);
        if needed {
            self.attention.insert(member.host.clone());
        } else {
            self.attention.remove(&member.host);
        }
        self.tally.add(&member);
        if let Some(old) = self.members.insert(member.host.clone(), member) {
            self.tally.remove(&old);
        }
    }
}

impl PlanInput {
    /// Takes a committed plan in, and forgets which hosts had changed before it.
    ///
    /// Records of rollouts or hosts that are not here are left out: the controller removes them only together with
    /// the plan's parent, so a committed plan names none.
    pub fn apply(&mut self, plan: &Plan) {
        self.changed.clear();
        if plan.is_empty() {
            return;
        }
        self.generation = plan.generation;
        for rollout in &plan.rollouts {
            if let Some(view) = self.rollouts.get_mut(&rollout.id) {
                view.rollout = rollout.clone();
                view.derive();
            }
        }
        for (id, member) in &plan.members {
            if let Some(view) = self.rollouts.get_mut(id) {
                view.replace(member.clone());
            }
        }
        for (host, desired) in &plan.desired {
            if let Some(view) = self.hosts.get_mut(host) {
                view.desired = desired.clone();
            }
        }
    }

    /// Takes in a rollout's record that a command changed or created; its members stay as they are.
    pub fn put_rollout(&mut self, rollout: Rollout) {
        match self.rollouts.get_mut(&rollout.id) {
            Some(view) => {
                view.rollout = rollout;
                view.derive();
            }
            None => {
                self.rollouts
                    .insert(rollout.id, RolloutView::new(rollout, BTreeMap::new()));
            }
        }
    }
}
