//! Disruption budgets.

use comber_model::disruption::{DisruptionBudget, DomainKey, LockId};
use comber_model::{Amount, BudgetName, Invalid};
use comber_proto::budget::v1 as wire;
use comber_proto::budget::v1::budget_service_server::BudgetService;
use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::{access, status, view};
use crate::core::{Core, CoreError};

/// The service.
#[derive(Debug)]
pub(super) struct Budgets {
    core: Core,
}

impl Budgets {
    /// Budgets of this core.
    pub(super) fn new(core: Core) -> Self {
        Self { core }
    }

    async fn view(&self, budget: &DisruptionBudget) -> wire::Budget {
        let world = self.core.read().await;
        view::budget(&world.input, budget, world.now())
    }
}

#[tonic::async_trait]
impl BudgetService for Budgets {
    async fn set_budget(
        &self,
        request: Request<wire::SetBudgetRequest>,
    ) -> Result<Response<wire::SetBudgetResponse>, Status> {
        let actor = access::operator(&request)?;
        let budget = parse(request.into_inner().budget, actor)
            .map_err(|problems| Status::from(CoreError::Invalid(problems)))?;
        let budget = self.core.set_budget(budget).await?;
        let budget = Some(self.view(&budget).await);
        Ok(Response::new(wire::SetBudgetResponse { budget }))
    }

    async fn get_budget(
        &self,
        request: Request<wire::GetBudgetRequest>,
    ) -> Result<Response<wire::GetBudgetResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        let world = self.core.read().await;
        let budget = world.input.hosts.budget(&name);
        let budget = budget.ok_or_else(|| CoreError::missing("budget", &name))?;
        let locks = world.input.hosts.locks().values();
        let locks = locks.filter(|_| budget.fleet_lock).map(view::lock);
        Ok(Response::new(wire::GetBudgetResponse {
            budget: Some(view::budget(&world.input, budget, world.now())),
            locks: locks.collect(),
        }))
    }

    async fn list_budgets(
        &self,
        _request: Request<wire::ListBudgetsRequest>,
    ) -> Result<Response<wire::ListBudgetsResponse>, Status> {
        let world = self.core.read().await;
        let budgets = world.input.hosts.budgets();
        let budgets = budgets.map(|budget| view::budget_row(&world.input, budget, world.now()));
        Ok(Response::new(wire::ListBudgetsResponse {
            budgets: budgets.collect(),
        }))
    }

    async fn delete_budget(
        &self,
        request: Request<wire::DeleteBudgetRequest>,
    ) -> Result<Response<wire::DeleteBudgetResponse>, Status> {
        let actor = access::operator(&request)?;
        let name = name(&request.into_inner().name)?;
        let budget = self.core.delete_budget(name, &actor).await?;
        let budget = Some(self.view(&budget).await);
        Ok(Response::new(wire::DeleteBudgetResponse { budget }))
    }

    async fn release_lock(
        &self,
        request: Request<wire::ReleaseLockRequest>,
    ) -> Result<Response<wire::ReleaseLockResponse>, Status> {
        let actor = access::operator(&request)?;
        let id: Result<LockId, Invalid> = request.into_inner().id.parse();
        let id = id.map_err(|error| status::invalid(&error))?;
        let lock = self.core.release_lock(id.clone(), Some(&actor)).await?;
        let lock = lock.ok_or_else(|| CoreError::missing("lock", &id))?;
        let lock = Some(view::lock(&lock));
        Ok(Response::new(wire::ReleaseLockResponse { lock }))
    }
}

fn name(text: &str) -> Result<BudgetName, Status> {
    text.parse::<BudgetName>()
        .map_err(|error| status::invalid(&error))
}

/// What was asked for, with everything that is wrong with it.
fn parse(budget: Option<wire::Budget>, author: String) -> Result<DisruptionBudget, Vec<Invalid>> {
    let Some(budget) = budget else {
        return Err(vec![Invalid::new("budget", "is missing")]);
    };
    let mut problems = Vec::new();
    let name = budget.name.parse::<BudgetName>();
    let name = name.map_err(|error| problems.push(error)).ok();
    let by = (!budget.by.is_empty()).then(|| budget.by.parse::<DomainKey>());
    let by = by
        .transpose()
        .map_err(|error| problems.push(error))
        .unwrap_or_default();
    let max = amount(&budget.max);
    let max = max.map_err(|error| problems.push(error)).ok();
    let (Some(name), Some(max), true) = (name, max, problems.is_empty()) else {
        return Err(problems);
    };
    let budget = DisruptionBudget {
        name,
        by,
        max,
        selector: (!budget.selector.is_empty()).then_some(budget.selector),
        fleet_lock: budget.fleet_lock,
        reason: budget.reason,
        author,
        set_at: Timestamp::UNIX_EPOCH,
    };
    budget.check()?;
    Ok(budget)
}

fn amount(text: &str) -> Result<Amount, Invalid> {
    if let Ok(count) = text.parse::<u32>() {
        return Ok(Amount::Count(count));
    }
    let percent = text.parse().map(Amount::Percent);
    percent.map_err(|error: Invalid| error.within("max"))
}
