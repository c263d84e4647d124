//! The rule of disruption budgets and of spreads, written again: whoever gets a permit, their failure domains have no
//! more hosts down afterwards than they may.
//!
//! Counts from what hosts and members say, not from the ledger; of that it only takes which hosts share a domain.

use std::collections::BTreeSet;

use comber_model::disruption::DisruptionBudget;
use comber_model::rollout::{Member, Rollout};
use comber_model::{AgentState, HostId, RolloutId};

use super::Findings;
use super::after::{After, may_be_down};
use crate::HostView;

/// A permit that was just given.
pub(super) fn check(after: &After<'_>, findings: &mut Findings) {
    let new: Vec<(&RolloutId, &Member)> = after
        .plan
        .members
        .iter()
        .map(|(id, member)| (id, member))
        .filter(|(id, member)| is_new(after, **id, member))
        .collect();
    if new.is_empty() {
        return;
    }
    for (id, member) in &new {
        spread(after, **id, member, findings);
    }
    let down_by_permit = permitted(after);
    for budget in after.input.hosts.budgets() {
        for (id, member) in &new {
            let may_use = (&down_by_permit, budget);
            domain(after, **id, member, may_use, findings);
        }
    }
}

/// True where the plan lets a host go down that was up and could not go down before.
fn is_new(after: &After<'_>, id: RolloutId, member: &Member) -> bool {
    let Some(view) = after.host(&member.host) else {
        return false;
    };
    let old = after.old_member(id, &member.host);
    let counted = old.is_some_and(|old| may_be_down(view, old, after.now));
    let is_given = old.is_none_or(|old| old.grant != member.grant) && member.grant.is_some();
    is_given && !counted && !is_out(view)
}

/// Down whatever is planned.
fn is_out(view: &HostView) -> bool {
    let broken = view.status.as_ref().map(|status| status.state);
    !view.link.is_up() || broken.is_some_and(|s| s.is_active() || s == AgentState::Broken)
}

/// Hosts of every rollout that hold a permit after the plan.
fn permitted<'a>(after: &After<'a>) -> BTreeSet<&'a HostId> {
    let mut hosts = BTreeSet::new();
    for (id, view) in &after.input.rollouts {
        let changed = after.plan.members.iter().filter(|(other, _)| other == id);
        let changed = changed.map(|(_, member)| &member.host);
        for host in view.attention.iter().chain(changed) {
            let member = after.member(*id, host);
            let view = after.host(host);
            let down = member.zip(view);
            if down.is_some_and(|(member, view)| may_be_down(view, member, after.now)) {
                hosts.insert(host);
            }
        }
    }
    hosts
}

fn domain(
    after: &After<'_>,
    id: RolloutId,
    member: &Member,
    (permitted, budget): (&BTreeSet<&HostId>, &DisruptionBudget),
    findings: &mut Findings,
) {
    let books = after.input.hosts.books();
    let Some((place, domain)) = books.domain_of(&budget.name, &member.host) else {
        return;
    };
    let is_down =
        |host: &&HostId| permitted.contains(*host) || after.host(host).is_some_and(is_out);
    let down = domain.hosts.iter().filter(is_down).count();
    let locks = after.input.hosts.locks().values().filter(|lock| {
        let here = budget.by.is_none() || lock.group.as_str() == place.as_ref();
        budget.fleet_lock && here
    });
    let locks = locks.count();
    let limit = budget.max.limit(domain.hosts.len() + locks);
    if down + locks > limit {
        let text = format!(
            "{} gets a permit though {} hosts of its domain {place:?} of budget {} are down with it, at most {limit} may be",
            member.host,
            down + locks,
            budget.name
        );
        findings.fatal(id, text);
    }
}

fn spread(after: &After<'_>, id: RolloutId, member: &Member, findings: &mut Findings) {
    let Some(rollout) = after.rollout(id) else {
        return;
    };
    let Some((max, down)) = spread_counts(after, rollout, member) else {
        return;
    };
    if down.len() > max as usize {
        let text = format!(
            "{} gets a permit of {id} though these hosts of its domain are down with it, and at most {max} may be: {down:?}",
            member.host
        );
        findings.fatal(id, text);
    }
}

fn spread_counts(
    after: &After<'_>,
    rollout: &Rollout,
    member: &Member,
) -> Option<(u32, BTreeSet<HostId>)> {
    let spec = rollout.spec.waves.get(usize::from(member.wave))?;
    let spread = spec.spread.as_ref()?;
    let value = |host: &HostId| Some(spread.by.value(&after.host(host)?.host.labels));
    let own = value(&member.host)?;
    let down = after.members(rollout.id).into_iter().filter(|other| {
        let host = after.host(&other.host);
        let down = host.is_some_and(|view| may_be_down(view, other, after.now));
        down && value(&other.host) == Some(own)
    });
    Some((spread.max, down.map(|other| other.host.clone()).collect()))
}
