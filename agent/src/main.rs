//! `comber-agent`: reads the command line, does what it says, and ends with a code that says how it went.

use std::process::ExitCode;

use clap::Parser;
use comber_agent::{app, cli::Cli, exit::Exit};
use comber_runtime::telemetry::error_chain;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            // Nobody is left to tell that standard output is closed.
            let _ = told.print();
            return if told.use_stderr() {
                Exit::Usage.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match app::main(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("comber-agent: {}", error_chain(&error));
            error.exit().into()
        }
    }
}
