//! Pure rollout planner: what every host shall run next, and why not yet.

#![warn(clippy::wildcard_enum_match_arm)]

mod attention;
mod check;
mod command;
mod explain;
mod fence;
mod gate;
mod hold;
mod input;
mod plan;
mod preview;
mod scratch;
mod select;
mod steps;
mod tally;
mod time;

use comber_model::rollout::Outcomes;
use jiff::Timestamp;

pub use check::{Finding, Severity, check};
pub use command::{Command, CommandEffect, CommandRefused, command, halt_refused};
pub use explain::{
    HostExplanation, MemberExplanation, RolloutExplanation, WaveExplanation, explain_host,
    explain_rollout,
};
pub use fence::{Fence, fence};
pub use input::{HostView, PlanInput, RolloutView};
pub use plan::{Plan, PlanReport, StepReport};
pub use preview::{Preview, PreviewWave, exposure, preview, preview_as};

/// Plans everything that follows from the input at that time.
pub fn plan(input: &PlanInput, now: Timestamp) -> (Plan, PlanReport) {
    let mut scratch = scratch::Scratch::new(input, now);
    let report = steps::run(&mut scratch);
    (scratch.into_plan(), report)
}

/// How many hosts of a rollout stand where.
pub fn outcomes(view: &RolloutView) -> Outcomes {
    view.outcomes()
}
