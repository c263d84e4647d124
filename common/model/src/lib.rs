//! The nouns of Comber, the same in every process: names, facts, labels, releases, rollouts, assignments and reports.
//!
//! Values here are made by parsing and stay valid: a `HostId` that exists is a well-formed one. Nothing in this crate
//! does I/O or reads a clock. Wire types live behind the feature `wire`, selectors (CEL) behind `selector`.

pub mod amount;
pub mod assignment;
pub mod calendar;
pub mod digest;
pub mod disruption;
pub mod duration;
pub mod event;
pub mod facts;
pub mod failure;
pub mod hold;
pub mod host;
pub mod invalid;
pub mod labels;
pub mod names;
pub mod order;
pub mod packages;
pub mod release;
pub mod report;
pub mod rollout;
#[cfg(feature = "selector")]
pub mod selector;
#[cfg(feature = "wire")]
pub mod wire;

pub use amount::{Amount, Percent};
pub use assignment::{Action, Artifact, Assignment, Desired, Grant, Nonce};
pub use digest::Digest;
pub use facts::Facts;
pub use failure::{Failure, FailureClass};
pub use hold::Hold;
pub use host::{
    AgentState, BarReason, Barred, Host, HostStatus, Installed, IssuedCertificate, Link,
};
pub use invalid::Invalid;
pub use labels::Labels;
pub use names::{
    BudgetName, FreezeName, Generation, HostId, ReleaseId, ReleaseName, RolloutId, Version,
};
pub use report::{Report, ReportResult};
