//! Benchmarks: N simulated agents in one process, speaking the real protocol over mTLS to a real controller process.
//!
//! It measures how long it takes to connect them all, to push an assignment to all, to give all a permit, and to take
//! all their reports durably; and the controller's memory per connected host. Each is set against a floor measured in
//! the same run: bare TLS handshakes with the same server, and bare group commits to a store on the same disk. Figures
//! are printed, nothing is asserted but that the rollout succeeded on every host.

mod fleet;
mod floor;
mod host;
mod measure;

use std::process::ExitCode;

use clap::Parser;

/// Connects simulated agents to a real controller and rolls a release out to them.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "comber-bench",
    after_help = "Example: cargo run --release -p comber-bench -- --hosts 5000"
)]
struct Arguments {
    /// Simulated agents.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    hosts: u32,
    /// Handshakes and enrolments under way at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(measure::run(&arguments)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
