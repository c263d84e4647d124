//! What a plan is made from: the controller's picture of the fleet, kept up to date in place.
//!
//! The planner only reads it; [`PlanInput::apply`] is the one way in which a committed plan changes it, so that the
//! counts kept beside the members always agree with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use comber_model::calendar::Freeze;
use comber_model::packages::Versions;
use comber_model::release::Release;
use comber_model::rollout::{Member, Outcomes, Rollout, RolloutState, SourceKind};
use comber_model::{
    Desired, FreezeName, Generation, Grant, Host, HostId, HostStatus, Link, ReleaseId, RolloutId,
    SourceName,
};

use jiff::Timestamp;

use crate::Plan;
use crate::hosts::Hosts;
use crate::select::Selectors;
use crate::tally::Tally;

/// The controller's in-memory snapshot. Kept up to date in place, never cloned per plan.
#[derive(Debug, Default)]
pub struct PlanInput {
    /// Generation of the last committed plan: the parent of the next.
    pub generation: Generation,
    /// Every enrolled host, also retired ones.
    pub hosts: Hosts,
    /// Every rollout that is kept.
    pub rollouts: BTreeMap<RolloutId, RolloutView>,
    /// Every published release.
    pub releases: BTreeMap<ReleaseId, Arc<Release>>,
    /// When nothing may move in the whole fleet.
    pub freezes: BTreeMap<FreezeName, Freeze>,
    /// What gates may ask, by name: from the controller's configuration.
    pub sources: BTreeMap<SourceName, SourceKind>,
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
    /// What it has of the packages that [`crate::asked_packages`] names for any rollout; kept by the controller.
    pub versions: Versions,
}

impl HostView {
    /// A host that has said nothing yet and has no work.
    pub fn new(host: Host, link: Link) -> Self {
        Self {
            host,
            status: None,
            link,
            desired: Desired::default(),
            versions: Versions::default(),
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
    /// Its selectors, parsed on first use; neither the rollout file nor the release ever changes.
    pub(crate) selectors: OnceLock<Selectors>,
}

impl RolloutView {
    /// A view of stored records; derives the counts.
    pub fn new(rollout: Rollout, members: BTreeMap<HostId, Member>) -> Self {
        let mut view = Self {
            rollout,
            members,
            tally: Tally::default(),
            attention: BTreeSet::new(),
            selectors: OnceLock::new(),
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
        self.hosts.forget_heard();
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
            if let Some(mut view) = self.hosts.get_mut(host) {
                view.desired = desired.clone();
            }
        }
        // What the plan itself changed is not news to the next one.
        self.hosts.forget_heard();
    }

    /// Makes of what is durable what a controller that just started knows: no host is there, every host may have changed,
    /// and the life of each permit that may still be in use counts from now, since the wall clock may have stepped while
    /// nobody watched. Members of a rollout whose hosts were being selected when it stopped are dropped: the next plan
    /// selects them anew.
    pub fn restart(&mut self, now: Timestamp) {
        self.changed = self.hosts.keys().cloned().collect();
        self.hosts.for_each_mut(|view| {
            view.link = Link::Down { since: now };
            renew(&mut view.desired.grant, now);
        });
        for view in self.rollouts.values_mut() {
            if view.rollout.waves.is_empty() {
                view.members.clear();
            }
            for member in view.members.values_mut() {
                renew(&mut member.grant, now);
            }
            view.derive();
        }
    }

    /// Takes in a rollout's record that a command changed or created; its members stay as they are.
    ///
    /// Hosts that changed while it was halted were not taken in, so all are matched again when it goes on.
    pub fn put_rollout(&mut self, rollout: Rollout) {
        match self.rollouts.get_mut(&rollout.id) {
            Some(view) => {
                if view.rollout.state == RolloutState::Halted && !rollout.state.is_over() {
                    self.changed.extend(self.hosts.keys().cloned());
                }
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

/// Counts the life of a permit from now, where it began before.
fn renew(grant: &mut Option<Grant>, now: Timestamp) {
    if let Some(grant) = grant {
        grant.granted_at = grant.granted_at.max(now);
    }
}
