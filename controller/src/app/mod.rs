//! Wires the controller: the only place where its parts meet.

mod admin;
mod backup;
mod control;
mod serve;

use std::process::ExitCode;

use comber_runtime::telemetry;

use crate::cli::{Cli, Command};

/// The command line is wrong.
pub const EXIT_USAGE: u8 = 64;
/// It stopped because something failed while it ran.
pub const EXIT_FAILED: u8 = 70;
/// A disk or network step failed before it ran.
pub const EXIT_IO: u8 = 74;
/// The configuration is wrong.
pub const EXIT_CONFIG: u8 = 78;

/// Does what the command line says.
pub fn run(cli: &Cli) -> ExitCode {
    let loaded = match cli.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let settings = &loaded.settings;
    let result = match cli.command.clone().unwrap_or(Command::Serve) {
        Command::Serve => return serve::run(settings),
        Command::CheckConfig => {
            println!("the configuration is good");
            Ok(())
        }
        Command::ShowConfig => {
            print!("{loaded}");
            Ok(())
        }
        Command::Backup { directory } => backup::backup(settings, &directory),
        Command::Restore { directory } => backup::restore(settings, &directory),
        Command::AdminToken => admin::token(settings),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", telemetry::error_chain(error.as_ref()));
            ExitCode::from(EXIT_IO)
        }
    }
}
