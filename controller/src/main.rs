//! `comber-controller`.

use std::process::ExitCode;

use clap::Parser as _;
use comber_controller::app;
use comber_controller::cli::Cli;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => app::run(&cli),
        Err(error) if error.use_stderr() => {
            // Where the terminal is gone there is nobody to tell.
            let _told = error.print();
            ExitCode::from(app::EXIT_USAGE)
        }
        Err(help) => {
            let _told = help.print();
            ExitCode::SUCCESS
        }
    }
}
