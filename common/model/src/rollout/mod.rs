//! A rollout: one release to the hosts of one selector, by one strategy, in waves.

mod cover;
mod due;
mod limits;
mod member;
mod outcome;
mod question;
mod spec;
mod spread;
mod state;
mod windows;

pub use cover::{Cover, Coverage, ENVIRONMENTS_MAX, Environment, Trait};
pub use due::{Due, Urgency};
pub use limits::{ClassLimit, FailureLimit, Ramp, WaveBudget};
pub use member::{AttemptClock, Member, MemberState, RollBack};
pub use outcome::{ExcludedReason, Outcome, Outcomes};
pub use question::{
    ANSWER_WITHIN, Answer, Comparison, DryRule, PrometheusQuery, QUESTIONS_MAX, Question,
    REASON_MAX, Round, SourceKind, Verdict, Webhook,
};
pub(crate) use spec::check_selector;
pub use spec::{
    Budget, CountsAs, Gate, OnHalt, Pace, Priority, Retry, RolloutSpec, Silent, Unreached,
    WaveSize, WaveSpec,
};
pub use spread::Spread;
pub use state::{Halt, HaltReason, RollBackScope, Rollout, RolloutState, WaveProgress};
pub use windows::{AfterDeadline, WayBack, Windows};
