//! Pure rollout planner: what every host shall run next, and why not yet.
//!
//! ```text
//!  hosts report, operators command          nudge or next_wake
//!              │                                   │
//!              ▼                                   ▼
//!         PlanInput ──────────── plan(&input, now) ─► Plan ── check(&input, &plan, now) ─► findings
//!              ▲                                   │                                        │ none Fatal
//!              └── apply(&plan) ◄── compare-and-set commit on plan.parent ◄─────────────────┘
//! ```
//!
//! The planner never mutates its input, knows no clock, no randomness and no I/O, and gives the same plan for the same
//! input. A plan holds whole records and leaves execution no choice. Planning again on what a plan left changes nothing.
//!
//! Steps (`steps/`, one file each, in this order; all but the first two in rounds until nothing changes):
//!
//! | step | decides |
//! |---|---|
//! | membership | who takes part: the first selection, late joiners, those who leave, retired hosts |
//! | reports | how attempts ended; every report is acknowledged, late ones correct what was concluded |
//! | supersede | a later rollout of the same product takes hosts over |
//! | observe | receipt, activation, waiting for a permit, coming back |
//! | silence | deadlines: unreached, silent, stuck |
//! | budget | halts: failures, silence, gates out of reach |
//! | waves | soaks, and which wave opens |
//! | abort | cancels, and closes the fence |
//! | due | which rollouts are past their due date |
//! | assign | who works on what: one assignment per host over all rollouts |
//! | preempt | which unused permits make room for an emergency |
//! | permits | who may activate now |
//! | rollback | who goes back, to what, and when that is over |
//! | completion | nothing more is planned |
//!
//! What the words promise:
//!
//! - A member's outcome follows from its state alone; the four outcomes and `excluded` add up to the members.
//! - `Member.generation` is the plan that last gave it work. Status of that generation is receipt; a report of it is the
//!   end; a report of an older one counts only where it says `Committed`.
//! - A grant stays with the member until its host is known to have used it or to be unable to. A member with a grant, or
//!   whose host is active for its generation, is in flight, however silent the host is and whatever was concluded.
//! - A work clock runs from receipt and stands still while the connected host waits for its permit.
//! - A host's work is taken away only while it is not in flight; once active it finishes alone.
//! - A gate that asks others is asked when all else of it holds, all its questions at once; an answer counts for its
//!   round only, and a round is forgotten when something else no longer holds.
//! - No permit is given outside the windows of its rollout or within a freeze, and none lives on beyond them; one that
//!   is in force when a freeze is added is taken back. Who began may end later.
//! - A resumed rollout counts its budgets from the resume. One whose next gate is out of reach cannot be resumed.
//! - A rollout that was rolled back rolls back again when a host returns late with the release.
//! - No permit is given where a wave, a spread or a disruption budget has no room, over all rollouts; asked in the order of
//!   urgency. What is counted of all hosts is kept up to date host by host (`hosts`, `books`).
//! - Members that have ended, and those of closed waves, cost nothing per plan (`attention`): the cost follows the hosts
//!   that move. Hosts are scanned for reports where they said something since the last plan.

#![warn(clippy::wildcard_enum_match_arm)]

mod attention;
mod books;
mod check;
mod command;
mod cover;
mod deadlines;
mod explain;
mod fence;
mod gate;
mod hold;
mod hosts;
mod input;
mod order;
mod overlay;
mod plan;
mod preview;
mod questions;
mod scratch;
mod select;
mod spread;
mod steps;
mod tally;
mod time;
mod windows;

use comber_model::rollout::Outcomes;
use jiff::Timestamp;

pub use books::{DomainState, budget_domains, lock_hold};
pub use check::{Finding, Severity, check};
pub use command::{Command, CommandEffect, CommandRefused, command, halt_refused};
pub use deadlines::deadline_problems;
pub use explain::{
    HostExplanation, MemberExplanation, RolloutExplanation, WaveExplanation, explain_host,
    explain_rollout,
};
pub use fence::{Fence, fence, held_too_late};
pub use hosts::{HostMut, Hosts};
pub use input::{HostView, PlanInput, RolloutView};
pub use plan::{Plan, PlanReport, StepReport};
pub use preview::{Preview, PreviewTimes, PreviewWave, exposure, preview, preview_as};
pub use questions::{Asked, AskedWhat, QuestionId, answer, asked, unknown_sources};
pub use select::asked_packages;

/// Plans everything that follows from the input at that time.
pub fn plan(input: &PlanInput, now: Timestamp) -> (Plan, PlanReport) {
    let mut scratch = scratch::Scratch::new(input, now);
    let report = steps::run(&mut scratch);
    (scratch.into_plan(), report)
}

/// Most hosts of a wave that may be down now, as far as its ramp has grown.
pub fn in_flight_limit(view: &RolloutView, wave: usize) -> usize {
    gate::in_flight_limit(&view.rollout.spec, wave, &view.tally.wave(wave)).1
}

/// How many hosts of a rollout stand where.
pub fn outcomes(view: &RolloutView) -> Outcomes {
    view.outcomes()
}
