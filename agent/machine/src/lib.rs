//! Pure state machine of one host's agent: what to do next, given what happened.
//!
//! [`step`] and [`resume`] are total functions of values: no I/O, no clock, no randomness, no panic. The contract with
//! the driver that calls them: **the next ledger is durable before its effects run**, and effects run in their order,
//! one at a time. Then the agent may be killed at any instant, and [`resume`] goes on.
//!
//! ```text
//!             new assignment                 bytes staged             preflight passed
//!   Idle ───────────────────────> Fetching ───────────────> Staged ──────────────────> AwaitingPermit <─┐
//!    │ ^  ^                           │                        │                         │  │    └───────┘
//!    │ │  └── cancelled, or failed ───┴────────────────────────┴─────────────────────────┘  │  asks again
//!    │ │                                                                 permit of this     │
//!    │ │ report acknowledged                                             request in its life│  ^ lapsed before
//!    │ │                                                                                    v  │ it began
//!    │ └───── Committed <──── Verifying <───────────────────── Rebooting <───────────── Activating
//!    │                          ^ │  └─ drifted, nothing active ─> Fetching │                │
//!    └── nothing to do: look ───┘ │ check failed                            │ never rebooted │ failed
//!                                 v                                         v                │
//!   Idle <──── RolledBack <──── RollingBack <────────────────────────────────────────────────┘
//!   report                        │  ^    │  failed, or no way back
//!   acknowledged      Rebooting <─┘  │    └──────────────────────> Broken  (stays until somebody decides)
//!                         └──────────┘
//! ```
//!
//! - `Idle` → `Fetching`: an assignment of a generation not seen before. Also from `Committed`, `RolledBack` (their
//!   reports wait in the ledger, not in the state) and, where it says `retry_bad` or `rolls_back`, from `Broken`. Not
//!   taken up while [`REPORTS_MAX`] reports wait: the one it will make would have no place.
//! - `Idle` → `Idle` with a report: the release is locally bad and the assignment does not say `retry_bad`.
//! - `Idle` → `Verifying`: the ledger says that nothing is to be done. The host is only looked at: needs no permit,
//!   changes nothing, commits where it is healthy. Where the disk disagrees it goes to `Fetching` as any other. So it
//!   does from `Fetching`, `Staged` and `AwaitingPermit` where a look at the disk shows that somebody did it by hand.
//! - `Fetching`, `Staged`, `AwaitingPermit` → `Idle`: the step failed (report *not activated*), or a newer generation wants
//!   something else. That makes no report: the generation in the actual state is the receipt, and it is durable
//!   before it is shown, so a cancel that was acknowledged can never activate afterwards.
//! - `Staged` → `Idle`: also where the release turns out to be none for this host (report *not applicable*).
//! - `AwaitingPermit` → `AwaitingPermit`: a new request, with a new nonce, whenever the old one cannot be trusted: its
//!   permit came too late, the controller was away, the agent started anew. While the controller is away no request
//!   stands, unless the assignment says that its permit may be used then.
//! - `AwaitingPermit` → `Activating`: a permit of this request, within its life counted from when it was asked, on the
//!   boot clock, in the same boot. From here on the host finishes alone: what the controller says is accepted, kept
//!   in [`Ledger::next`] and taken up after the end.
//! - `Activating` → `AwaitingPermit`: making the ledger durable outlived the permit; nothing was begun.
//! - `Activating` → `Idle`: judged once more right before the switch, and refused by what the publisher signed; nothing was
//!   begun.
//! - `Activating` → `RollingBack` → `AwaitingPermit`: the agent was away before the switch was made, and the permit is
//!   over. What was active is made sure of, since the interrupted step may have stopped it; nothing has failed.
//! - `Activating` → `Rebooting` → `Verifying`: where the release needs a reboot. The boot to leave is noted before; any
//!   other boot is the proof. A refused reboot is asked for again until its deadline.
//! - → `RollingBack`: the switch, the reboot or a check failed, or was interrupted more often than
//!   [`Policy::resumes_max`], or was undone from outside while the agent was away. The release is locally bad from here
//!   on, until it is committed on this host.
//! - `RollingBack` → `Rebooting` → `RollingBack` → `RolledBack`: where the host may have booted into what is undone. After
//!   that reboot it only proves that it came up as before.
//! - → `Broken`: going back failed, the host did not come up from it as before, or the release is irreversible. What is
//!   active then is looked up on the disk.
//!
//! A deadline is a point on the clock of one boot, kept in the state ([`next_deadline`]): a jump of the wall clock does
//! not move it, and a start of agent or host gives the step a new one, a bounded number of times.
#![warn(clippy::wildcard_enum_match_arm)]

mod actual;
mod answer;
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
