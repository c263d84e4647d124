//! A rollout: one release to the hosts of one selector, by one strategy, in waves.

mod due;
mod member;
mod outcome;
mod spec;
mod spread;
mod state;
mod windows;

pub use due::{Due, Urgency};
pub use member::{AttemptClock, Member, MemberState, RollBack};
pub use outcome::{ExcludedReason, Outcome, Outcomes};
pub(crate) use spec::check_selector;
pub use spec::{
    Budget, CountsAs, FailureLimit, Gate, OnHalt, Pace, Priority, Retry, RolloutSpec, Silent,
    Unreached, WaveSize, WaveSpec,
};
pub use spread::Spread;
pub use state::{Halt, HaltReason, RollBackScope, Rollout, RolloutState, WaveProgress};
pub use windows::{AfterDeadline, WayBack, Windows};
