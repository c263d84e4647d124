//! Edges that every Comber process shares: clocks, tasks, configuration, files, identity, TLS, telemetry, metrics.
//!
//! ```text
//!   /usr/lib, /run, /etc ──> config ──> settings of one process
//!   identity.toml ─────────> identity ──> tls ──> channel (gRPC), download (bytes)
//!   SIGTERM, a panic ──────> shutdown <── task
//!   the kernel ────────────> clock, fsx, metrics
//! ```
//!
//! The pure crates never depend on this one: what it reads from the world enters them as values. It is the only
//! crate that reads clocks and the environment and the only one that spawns tasks; clippy holds the others to that.
//! The agent links all of it, so nothing here may bring a heavy dependency.

pub mod backoff;
pub mod bearer;
pub mod channel;
pub mod clock;
pub mod config;
pub mod download;
pub mod environment;
pub mod fsx;
pub mod identity;
pub mod metrics;
pub mod peer;
pub mod range;
pub mod shutdown;
pub mod systemd;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod units;
