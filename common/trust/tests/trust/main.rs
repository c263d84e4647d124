//! Publishers and verifiers on real files, and what somebody in between can try.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hostile;
mod publishing;
mod relay;
mod rotation;
