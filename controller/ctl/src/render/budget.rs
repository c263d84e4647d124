//! Disruption budgets as a table, and one with its failure domains.
//!
//! Pure. Invariant: who is down is told with the reason wherever there is no room left.

use comber_proto::budget::v1::{Budget, Lock};

use super::table::{Table, cell, number, prose, text, whole};
use super::text::{fields, next, wrap};
use super::{Paint, View};

/// One row each.
pub(crate) fn budgets(view: &View, budgets: &[Budget]) -> String {
    if budgets.is_empty() {
        return "no budget limits how many hosts are down; set one: comber budget set\n".to_owned();
    }
    let mut table = Table::new([
        text("BUDGET", 12, 9),
        text("BY", 8, 8),
        whole("MAX", 10),
        number("DOWN", 9),
        number("HOSTS", 8),
        number("FULL", 9),
        prose("SELECTOR", 7, 2),
        prose("REASON", 7, 1),
    ]);
    for budget in budgets {
        let full = if budget.full > 0 {
            Paint::Notice
        } else {
            Paint::Plain
        };
        table.row([
            cell(Paint::Strong, budget.name.clone()),
            by(budget).into(),
            budget.max.clone().into(),
            budget.down.to_string().into(),
            budget.hosts.to_string().into(),
            cell(full, budget.full.to_string()),
            budget.selector.clone().into(),
            budget.reason.clone().into(),
        ]);
    }
    let mut out = table.render(view);
    let full = budgets.iter().flat_map(|budget| {
        let full = budget.domains.iter();
        full.map(move |domain| {
            format!(
                "{}, {}: {}",
                budget.name,
                domain.name,
                domain.who.join(", ")
            )
        })
    });
    for line in full.take(FULL_TOLD) {
        out.push_str(&wrap(view, "full: ", &line));
    }
    out
}

/// Full domains named below the table.
const FULL_TOLD: usize = 10;

fn by(budget: &Budget) -> String {
    if budget.by.is_empty() {
        "all hosts".to_owned()
    } else {
        budget.by.clone()
    }
}

/// One, with its domains and locks.
pub(crate) fn budget(view: &View, budget: &Budget, locks: &[Lock]) -> String {
    let limit = format!("at most {} down at once", budget.max);
    let yes_no = if budget.fleet_lock {
        "counted"
    } else {
        "not counted"
    };
    let mut out = fields(
        view,
        &[
            (
                "budget",
                format!("{}: {limit}, by {}", budget.name, by(budget)),
            ),
            ("selector", budget.selector.clone()),
            ("reason", budget.reason.clone()),
            ("locks", yes_no.to_owned()),
            (
                "set",
                format!("{} by {}", view.ago(budget.set_at), budget.set_by),
            ),
        ],
    );
    out.push('\n');
    let mut table = Table::new([
        text("DOMAIN", 16, 9),
        number("DOWN", 9),
        number("LIMIT", 9),
        number("HOSTS", 8),
        prose("WHO", 10, 3),
    ]);
    for domain in &budget.domains {
        let paint = if domain.down >= domain.limit {
            Paint::Notice
        } else {
            Paint::Plain
        };
        let told = u32::try_from(domain.who.len()).unwrap_or(u32::MAX);
        let mut who = domain.who.clone();
        if domain.down > told {
            who.push(format!("{} more", domain.down - told));
        }
        table.row([
            domain.name.clone().into(),
            cell(paint, domain.down.to_string()),
            domain.limit.to_string().into(),
            domain.hosts.to_string().into(),
            who.join(", ").into(),
        ]);
    }
    out.push_str(&table.render(view));
    for lock in locks {
        let since = view.ago(lock.since);
        let line = format!("{} of group {}, taken {since}", lock.id, lock.group);
        out.push_str(&wrap(view, "lock: ", &line));
    }
    out
}

/// That it is in force, and what it holds up now.
pub(crate) fn budget_set(view: &View, budget: &Budget) -> String {
    let text = format!(
        "budget {} is in force: at most {} down at once by {}; {} of {} hosts are down now, {} failure domains are full",
        budget.name,
        budget.max,
        by(budget),
        budget.down,
        budget.hosts,
        budget.full
    );
    let mut out = wrap(view, "", &text);
    out.push_str(&next(
        view,
        &[format!("comber budget show {}", budget.name)],
    ));
    out
}
