//! The quickstart: a real rollout on this machine in about a minute.
//!
//! A controller and twelve agents run as separate processes and speak mTLS on loopback; everything lies in a temporary
//! directory. What it does, it does with the `comber` command, which it shows before it runs it: nothing is faked, and
//! nothing goes around the product.

mod fleet;
mod scene;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Shows a real rollout on this machine: a good one, a better one, and a bad one that stops by itself.
#[derive(Debug, Parser)]
#[command(
    name = "cargo quickstart",
    after_help = "Example: cargo quickstart --keep"
)]
struct Arguments {
    /// Leave everything running afterwards, to try more.
    #[arg(long)]
    keep: bool,
    /// End what an earlier run left running, and remove its directory.
    #[arg(long, value_name = "DIR", conflicts_with = "keep")]
    stop: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.stop {
        Some(directory) => fleet::stop(directory),
        None => scene::play(arguments.keep),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
