//! Disruption budgets as operators handle them, and the locks of hosts without agent. What follows for hosts is the
//! planner's.

use comber_model::disruption::{BUDGETS_MAX, DisruptionBudget, LOCKS_MAX, Lock, LockGroup, LockId};
use comber_model::event::EventKind;
use comber_model::selector::Selector;
use comber_model::{BudgetName, Hold, Invalid};
use comber_planner::lock_hold;

use super::edit::Edit;
use super::{Core, CoreError};

/// Who acts where no operator does: the client of `FleetLock`.
const CLIENT: &str = "fleet-lock";

/// How a request for a lock ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockAnswer {
    /// It is held now, durably.
    Held,
    /// Not now.
    Waits(Hold),
    /// No budget counts locks, so that a lock would protect nothing.
    NoBudget,
    /// There are more than can be kept.
    TooMany,
}

impl Core {
    /// Sets a budget, and gives it as it is kept.
    pub async fn set_budget(
        &self,
        budget: DisruptionBudget,
    ) -> Result<DisruptionBudget, CoreError> {
        self.edit(move |edit| set(edit, budget)).await
    }

    /// Takes a budget away, and gives it as it was.
    pub async fn delete_budget(
        &self,
        name: BudgetName,
        actor: &str,
    ) -> Result<DisruptionBudget, CoreError> {
        let actor = actor.to_owned();
        self.edit(move |edit| delete(edit, &name, &actor)).await
    }

    /// A host without agent asks to go down.
    pub async fn take_lock(&self, id: LockId, group: LockGroup) -> Result<LockAnswer, CoreError> {
        self.edit(move |edit| Ok(take(edit, id, group))).await
    }

    /// It is back, or was given up by an operator. Gives the lock where there was one.
    pub async fn release_lock(
        &self,
        id: LockId,
        actor: Option<&str>,
    ) -> Result<Option<Lock>, CoreError> {
        let actor = actor.unwrap_or(CLIENT).to_owned();
        self.edit(move |edit| Ok(release(edit, &id, &actor))).await
    }
}

fn set(edit: &mut Edit<'_>, budget: DisruptionBudget) -> Result<DisruptionBudget, CoreError> {
    budget.check().map_err(CoreError::Invalid)?;
    let selector = budget.selector.as_deref().map(Selector::parse);
    if let Some(Ok(selector)) = selector
        && !selector.packages().is_empty()
    {
        let problem = "asks for packages, which budgets do not follow; say it with a label";
        return Err(CoreError::Invalid(vec![Invalid::new("selector", problem)]));
    }
    let hosts = &edit.world.input.hosts;
    if hosts.budget(&budget.name).is_none() && hosts.budgets().count() >= BUDGETS_MAX {
        return Err(CoreError::Refused(format!(
            "there are {BUDGETS_MAX} budgets; delete one with: comber budget delete"
        )));
    }
    let budget = DisruptionBudget {
        set_at: edit.now,
        ..budget
    };
    let each = budget
        .by
        .as_ref()
        .map_or_else(|| "in all".to_owned(), |by| format!("of each {by}"));
    let text = format!(
        "budget {} was set by {}: at most {} down {each}",
        budget.name, budget.author, budget.max
    );
    tracing::info!(budget = %budget.name, actor = budget.author, "budget set");
    let event = edit.event_by(EventKind::BudgetSet, &budget.author, text);
    let event = edit.event(&event);
    edit.put_budget(budget.clone(), vec![event]);
    Ok(budget)
}

fn delete(
    edit: &mut Edit<'_>,
    name: &BudgetName,
    actor: &str,
) -> Result<DisruptionBudget, CoreError> {
    let budget = edit.world.input.hosts.budget(name).cloned();
    let budget = budget.ok_or_else(|| CoreError::missing("budget", name))?;
    let text = format!("budget {name} was deleted by {actor}");
    tracing::info!(budget = %name, actor, "budget deleted");
    let event = edit.event_by(EventKind::BudgetDeleted, actor, text);
    let event = edit.event(&event);
    edit.remove_budget(name, vec![event]);
    Ok(budget)
}

fn take(edit: &mut Edit<'_>, id: LockId, group: LockGroup) -> LockAnswer {
    let hosts = &edit.world.input.hosts;
    let held = hosts.locks().get(&id);
    // A client asks again whenever it has not heard the answer.
    if held.is_some_and(|lock| lock.group == group) {
        return LockAnswer::Held;
    }
    if !hosts.budgets().any(|budget| budget.fleet_lock) {
        return LockAnswer::NoBudget;
    }
    if held.is_none() && hosts.locks().len() >= LOCKS_MAX {
        return LockAnswer::TooMany;
    }
    if let Some(hold) = lock_hold(&edit.world.input, &id, &group, edit.now) {
        return LockAnswer::Waits(hold);
    }
    let text = format!("{id} of group {group} took a lock to go down");
    tracing::info!(lock = %id, %group, "lock taken");
    let event = edit.event_by(EventKind::LockTaken, CLIENT, text);
    let event = edit.event(&event);
    let since = edit.now;
    edit.put_lock(Lock { id, group, since }, vec![event]);
    LockAnswer::Held
}

fn release(edit: &mut Edit<'_>, id: &LockId, actor: &str) -> Option<Lock> {
    let lock = edit.world.input.hosts.locks().get(id).cloned()?;
    let text = format!(
        "the lock of {id} of group {} was given back by {actor}",
        lock.group
    );
    tracing::info!(lock = %id, actor, "lock released");
    let event = edit.event_by(EventKind::LockReleased, actor, text);
    let event = edit.event(&event);
    edit.remove_lock(id, vec![event]);
    Some(lock)
}
