//! Disruption budgets, with how their failure domains stand.

use comber_model::disruption::{DisruptionBudget, Lock};
use comber_model::wire::time::to_timestamp;
use comber_planner::{DomainState, PlanInput, budget_domains};
use comber_proto::budget::v1 as wire;
use jiff::Timestamp;

use super::count;

/// Domains told of one budget.
const DOMAINS_MAX: usize = 1000;

/// A budget with its domains, those with the least room first.
pub(in crate::api) fn budget(
    input: &PlanInput,
    budget: &DisruptionBudget,
    now: Timestamp,
) -> wire::Budget {
    with(budget, budget_domains(input, &budget.name, now), |_| true)
}

/// A budget with its full domains only.
pub(in crate::api) fn budget_row(
    input: &PlanInput,
    budget: &DisruptionBudget,
    now: Timestamp,
) -> wire::Budget {
    with(budget, budget_domains(input, &budget.name, now), is_full)
}

fn is_full(domain: &DomainState) -> bool {
    domain.down >= domain.limit
}

fn with(
    budget: &DisruptionBudget,
    mut domains: Vec<DomainState>,
    told: fn(&DomainState) -> bool,
) -> wire::Budget {
    domains.sort_by(|a, b| (!is_full(a), &a.name).cmp(&(!is_full(b), &b.name)));
    let sum = |of: fn(&DomainState) -> u32| domains.iter().map(of).sum();
    wire::Budget {
        name: budget.name.to_string(),
        by: budget
            .by
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        max: budget.max.to_string(),
        selector: budget.selector.clone().unwrap_or_default(),
        fleet_lock: budget.fleet_lock,
        reason: budget.reason.clone(),
        set_by: budget.author.clone(),
        set_at: Some(to_timestamp(budget.set_at)),
        down: sum(|domain| domain.down),
        hosts: sum(|domain| domain.hosts),
        full: count(domains.iter().filter(|domain| is_full(domain)).count()),
        domains: domains
            .into_iter()
            .filter(told)
            .take(DOMAINS_MAX)
            .map(domain)
            .collect(),
    }
}

fn domain(domain: DomainState) -> wire::Domain {
    wire::Domain {
        name: domain.name,
        hosts: domain.hosts,
        down: domain.down,
        limit: domain.limit,
        who: domain.who,
    }
}

/// A lock.
pub(in crate::api) fn lock(lock: &Lock) -> wire::Lock {
    wire::Lock {
        id: lock.id.to_string(),
        group: lock.group.to_string(),
        since: Some(to_timestamp(lock.since)),
    }
}
