//! The planner and the agent's machine together: a whole fleet in one thread, under a virtual clock and a faulty network.
//!
//! Nothing here waits or does I/O. Every message, effect and fault is an event at a virtual time, drawn from one seed:
//! the same seed plays the same run. After each event the invariants are looked at: they are told in terms of what really
//! happened on the simulated disks, which neither side can see.
//!
//! ```text
//!   Controller (planner) <── messages, delayed, lost with their connection ──> Host (machine, ledger, disk)
//!        └── crashes, restarts from its records          └── crashes at any effect, reboots, is cut off
//! ```

pub mod controller;
pub mod dice;
pub mod fleet;
pub mod host;
pub mod product;

pub use dice::Dice;
pub use fleet::{Faults, Fleet};
pub use product::Behaviour;
