//! Pure state machine of one host's agent.
#![warn(clippy::wildcard_enum_match_arm)]

mod actual;
mod attempt;
mod desired;
mod effect;
mod ending;
mod event;
mod ledger;
mod policy;
mod resume;
mod state;
mod step;
mod time;
mod transition;

pub use actual::actual;
pub use effect::{Change, Effect};
pub use event::{Active, Answer, Event, Found};
pub use ledger::{
    Bad, Epoch, LOCALLY_BAD_MAX, Ledger, LedgerError, Next, Product, REPORTS_MAX, next_deadline,
};
pub use policy::{Policy, Recipe};
pub use resume::resume;
pub use state::{Request, State, Way, Work};
pub use step::step;
pub use time::{BootId, Moment, Now};
pub use transition::{Note, Reason, Transition};
