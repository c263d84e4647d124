//! Wires the controller: the only place where its parts meet.

mod admin;
mod backup;
mod control;
mod manager;
mod serve;

use std::process::ExitCode;

use comber_runtime::telemetry;

use crate::cli::{Cli, Command};
use crate::core::LoadError;
use crate::pki::CaError;
use crate::store::{BackupError, OpenError};

/// The command line is wrong.
pub const EXIT_USAGE: u8 = 64;
/// The stored state or a backup is damaged, or of a newer version.
pub const EXIT_DATA: u8 = 65;
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
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Damaged files are told apart: trying again does not help, a backup does.
fn exit_code(error: &anyhow::Error) -> u8 {
    let damaged = error.chain().any(|cause| {
        let opened = cause.downcast_ref::<OpenError>();
        let backed_up = cause.downcast_ref::<BackupError>();
        matches!(
            opened,
            Some(OpenError::Damaged { .. } | OpenError::Lost { .. } | OpenError::TooNew { .. })
        ) || matches!(
            backed_up,
            Some(
                BackupError::Damaged(_)
                    | BackupError::Open(OpenError::Damaged { .. } | OpenError::TooNew { .. })
            )
        ) || matches!(
            cause.downcast_ref::<LoadError>(),
            Some(LoadError::Record { .. })
        ) || matches!(
            cause.downcast_ref::<CaError>(),
            Some(
                CaError::Missing { .. }
                    | CaError::Incomplete { .. }
                    | CaError::Mismatch { .. }
                    | CaError::Damaged { .. }
                    | CaError::NotACa { .. }
            )
        )
    });
    if damaged { EXIT_DATA } else { EXIT_IO }
}
