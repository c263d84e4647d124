//! The operator's command `comber`.
//!
//! ```text
//!   argv ──> args ──> cmd/* ──> client ──> controller (gRPC over the operator's identity)
//!                       │          ^
//!                       │          └── context: which controller, as whom; renewed when due
//!                       v
//!                    render/* (pure: messages to text or JSON) ──> screen (stdout, stderr)
//! ```
//!
//! One file per subcommand under `cmd`; what it shows is made by a pure function under `render`, in its table form and
//! its JSON form; `watch` follows a rollout live. Nothing here decides about hosts: the controller does, and what it
//! refuses is told in words with what to do next.
//! Invariant: results go to standard output, everything else to standard error, and the exit code is an [`Exit`].

mod app;
mod args;
mod client;
mod cmd;
mod context;
mod error;
mod exit;
mod render;
mod screen;
mod session;
mod status;
mod toml_file;
mod watch;

pub use app::run;
pub use args::command;
pub use exit::Exit;
