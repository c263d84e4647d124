//! Disruption budgets and locks.

use comber_proto::budget::v1 as wire;
use serde::Serialize;

use super::{filled, moment};

/// A budget.
#[derive(Debug, Serialize)]
pub(crate) struct Budget {
    name: String,
    by: Option<String>,
    max: String,
    selector: Option<String>,
    fleet_lock: bool,
    reason: String,
    set_by: String,
    set_at: Option<String>,
    down: u32,
    hosts: u32,
    full: u32,
    domains: Vec<Domain>,
}

#[derive(Debug, Serialize)]
struct Domain {
    name: String,
    hosts: u32,
    down: u32,
    limit: u32,
    who: Vec<String>,
}

/// A lock.
#[derive(Debug, Serialize)]
pub(crate) struct Lock {
    id: String,
    group: String,
    since: Option<String>,
}

/// A budget with the locks that it counts.
#[derive(Debug, Serialize)]
pub(crate) struct BudgetDetail {
    #[serde(flatten)]
    budget: Budget,
    locks: Vec<Lock>,
}

/// All budgets.
#[derive(Debug, Serialize)]
pub(crate) struct Budgets {
    budgets: Vec<Budget>,
}

impl From<&wire::Budget> for Budget {
    fn from(budget: &wire::Budget) -> Self {
        let domain = |domain: &wire::Domain| Domain {
            name: domain.name.clone(),
            hosts: domain.hosts,
            down: domain.down,
            limit: domain.limit,
            who: domain.who.clone(),
        };
        Self {
            name: budget.name.clone(),
            by: filled(&budget.by),
            max: budget.max.clone(),
            selector: filled(&budget.selector),
            fleet_lock: budget.fleet_lock,
            reason: budget.reason.clone(),
            set_by: budget.set_by.clone(),
            set_at: moment(budget.set_at),
            down: budget.down,
            hosts: budget.hosts,
            full: budget.full,
            domains: budget.domains.iter().map(domain).collect(),
        }
    }
}

impl From<&wire::Lock> for Lock {
    fn from(lock: &wire::Lock) -> Self {
        Self {
            id: lock.id.clone(),
            group: lock.group.clone(),
            since: moment(lock.since),
        }
    }
}

impl BudgetDetail {
    /// The budget and its locks.
    pub(crate) fn new(budget: &wire::Budget, locks: &[wire::Lock]) -> Self {
        Self {
            budget: budget.into(),
            locks: locks.iter().map(Lock::from).collect(),
        }
    }
}

impl Budgets {
    /// Of a list.
    pub(crate) fn new(budgets: &[wire::Budget]) -> Self {
        Self {
            budgets: budgets.iter().map(Budget::from).collect(),
        }
    }
}
