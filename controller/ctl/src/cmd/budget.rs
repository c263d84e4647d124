//! `comber budget set|list|show|delete|unlock`: how many hosts of a failure domain may be down at once, over all rollouts.
//!
//! Asks and shows; what a budget holds up is the controller's to say.

use clap::{Args, Subcommand};
use comber_proto::budget::v1::{
    Budget, DeleteBudgetRequest, GetBudgetRequest, ListBudgetsRequest, ReleaseLockRequest,
    SetBudgetRequest,
};

use super::promised;
use crate::args::Confirm;
use crate::error::Outcome;
use crate::render::{self, json};
use crate::session::Session;

/// Sets, lists, shows and deletes disruption budgets: the most hosts of a failure domain that may be down at once, for
/// whatever reason and over all rollouts.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  comber budget set racks --by labels.rack --max 1")]
pub(crate) enum BudgetCommand {
    /// Set a budget
    Set(SetArgs),
    /// List budgets
    List(ListArgs),
    /// Show a budget with its failure domains
    Show(ShowArgs),
    /// Delete a budget
    Delete(DeleteArgs),
    /// Give back the lock of a host without agent
    Unlock(UnlockArgs),
}

/// Sets a budget, also in the place of one of that name. Hosts that are not connected, are active in any rollout, hold a
/// permit or are broken count as down.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber budget set racks --by labels.rack --max 1
  comber budget set web --selector 'labels.role == \"web\"' --max 10%
  comber budget set zones --by labels.zone --max 5% --fleet-lock --reason 'two zones must stand'")]
pub(crate) struct SetArgs {
    /// What to call it
    #[arg(value_name = "NAME")]
    name: String,
    /// Most hosts of a failure domain that may be down: a number or a percentage of the domain
    #[arg(long, value_name = "AMOUNT")]
    max: String,
    /// The label whose values are the failure domains; without it all hosts are one
    #[arg(long, value_name = "labels.KEY")]
    by: Option<String>,
    /// Only hosts that this selects (CEL)
    #[arg(long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Count locks of `FleetLock` too; a client's group is its failure domain
    #[arg(long)]
    fleet_lock: bool,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Lists budgets by name, with how many hosts are down and which failure domains are full.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber budget list")]
pub(crate) struct ListArgs {}

/// Shows a budget, each of its failure domains, who is down and why, and the locks that it counts.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber budget show racks")]
pub(crate) struct ShowArgs {
    /// As in the list
    #[arg(value_name = "NAME")]
    name: String,
}

/// Deletes a budget; it holds nobody any more.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber budget delete racks")]
pub(crate) struct DeleteArgs {
    /// As in the list
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Gives back the lock of a host that took one by `FleetLock` and will not give it back itself: one that did not come up
/// again and is mended, or was taken away.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber budget unlock c988d2509fdf5cdcbed39037c56406fb")]
pub(crate) struct UnlockArgs {
    /// Who holds it, as `comber budget show` says
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Does what was asked.
pub(crate) async fn run(command: BudgetCommand, session: &Session) -> Outcome<()> {
    match command {
        BudgetCommand::Set(args) => set(args, session).await,
        BudgetCommand::List(ListArgs {}) => list(session).await,
        BudgetCommand::Show(args) => show(args, session).await,
        BudgetCommand::Delete(args) => delete(args, session).await,
        BudgetCommand::Unlock(args) => unlock(args, session).await,
    }
}

async fn set(args: SetArgs, session: &Session) -> Outcome<()> {
    let doing = "set the budget";
    let client = session.client().await?;
    let request = SetBudgetRequest {
        budget: Some(Budget {
            name: args.name,
            by: args.by.unwrap_or_default(),
            max: args.max,
            selector: args.selector.unwrap_or_default(),
            fleet_lock: args.fleet_lock,
            reason: args.reason,
            ..Budget::default()
        }),
    };
    let answer = client.answered(doing, client.budgets().set_budget(request).await)?;
    let budget = promised(doing, answer.budget)?;
    session.screen.show(
        || json::Budget::from(&budget),
        |view| render::budget_set(view, &budget),
    )
}

async fn list(session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let answer = client.budgets().list_budgets(ListBudgetsRequest {}).await;
    let budgets = client.answered("list budgets", answer)?.budgets;
    session.screen.show(
        || json::Budgets::new(&budgets),
        |view| render::budgets(view, &budgets),
    )
}

async fn show(args: ShowArgs, session: &Session) -> Outcome<()> {
    let doing = "show the budget";
    let client = session.client().await?;
    let request = GetBudgetRequest { name: args.name };
    let answer = client.answered(doing, client.budgets().get_budget(request).await)?;
    let budget = promised(doing, answer.budget)?;
    session.screen.show(
        || json::BudgetDetail::new(&budget, &answer.locks),
        |view| render::budget(view, &budget, &answer.locks),
    )
}

async fn delete(args: DeleteArgs, session: &Session) -> Outcome<()> {
    let doing = "delete the budget";
    let client = session.client().await?;
    session.screen.confirm(
        args.confirm.yes,
        &format!("Delete the budget {}?", args.name),
    )?;
    let request = DeleteBudgetRequest { name: args.name };
    let answer = client.answered(doing, client.budgets().delete_budget(request).await)?;
    let budget = promised(doing, answer.budget)?;
    session.screen.show(
        || json::Budget::from(&budget),
        |_| format!("budget {} holds nobody any more\n", budget.name),
    )
}

async fn unlock(args: UnlockArgs, session: &Session) -> Outcome<()> {
    let doing = "give the lock back";
    let client = session.client().await?;
    session.screen.confirm(
        args.confirm.yes,
        &format!(
            "Give back the lock of {}? It counts as up from then on.",
            args.id
        ),
    )?;
    let request = ReleaseLockRequest { id: args.id };
    let answer = client.answered(doing, client.budgets().release_lock(request).await)?;
    let lock = promised(doing, answer.lock)?;
    session.screen.show(
        || json::Lock::from(&lock),
        |_| format!("the lock of {} is given back\n", lock.id),
    )
}
