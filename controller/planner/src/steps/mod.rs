//! The steps of a plan, in the order in which they run.
//!
//! The first two look at what is new, once. The others run in rounds until a round changes nothing: then planning again
//! on the same input would change nothing either.

mod abort;
pub(crate) mod assign;
mod budget;
mod completion;
mod due;
mod membership;
pub(crate) mod observe;
mod permits;
mod preempt;
mod reports;
mod rollback;
mod settle;
mod silence;
mod supersede;
mod waves;

use crate::scratch::Scratch;
use crate::{PlanReport, StepReport};

type Step = (&'static str, fn(&mut Scratch<'_>));

const ONCE: [Step; 2] = [("membership", membership::run), ("reports", reports::run)];

const ROUND: [Step; 12] = [
    ("supersede", supersede::run),
    ("observe", observe::run),
    ("silence", silence::run),
    ("budget", budget::run),
    ("waves", waves::run),
    ("abort", abort::run),
    ("due", due::run),
    ("assign", assign::run),
    ("preempt", preempt::run),
    ("permits", permits::run),
    ("rollback", rollback::run),
    ("completion", completion::run),
];

/// Enough for a rollout of the most waves whose hosts all have the release already: two rounds per wave.
const ROUNDS_MAX: u32 = 128;

/// Runs all steps and says what each did.
pub(crate) fn run(scratch: &mut Scratch<'_>) -> PlanReport {
    let mut report = PlanReport::default();
    for (step, run) in ONCE {
        let changes = changes_of(scratch, run);
        report.steps.push(StepReport { step, changes });
    }
    report
        .steps
        .extend(ROUND.map(|(step, _)| StepReport { step, changes: 0 }));
    while report.rounds < ROUNDS_MAX && !report.settled {
        report.rounds += 1;
        scratch.begin_round();
        let before = scratch.changes;
        for (entry, (_, run)) in report.steps[ONCE.len()..].iter_mut().zip(ROUND) {
            entry.changes += changes_of(scratch, run);
        }
        report.settled = scratch.changes == before;
    }
    if !report.settled {
        scratch.wake_soon();
    }
    report
}

fn changes_of(scratch: &mut Scratch<'_>, run: fn(&mut Scratch<'_>)) -> u32 {
    let before = scratch.changes;
    run(scratch);
    scratch.changes - before
}
