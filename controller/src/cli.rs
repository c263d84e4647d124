//! The command line of `comber-controller`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use comber_runtime::config::{self, ConfigError, Loaded, Sources};

use crate::config::ControllerSettings;

/// The Comber controller: plans rollouts and tells every host what to run.
#[derive(Debug, Parser)]
#[command(
    name = "comber-controller",
    version,
    after_help = "Examples:\n  comber-controller --config /etc/comber/controller.toml\n  comber-controller check-config\n  comber-controller backup /var/backups/comber\n\nExit codes: 0 stopped in good order, 64 usage, 70 stopped by a failure, 74 disk or network, 78 configuration"
)]
pub struct Cli {
    /// A configuration file that counts above those of the system.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or directives like
    /// `info,comber_controller=debug`.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// What to do; `serve` where absent.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What the controller's binary can do.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Serve until stopped.
    #[command(after_help = "Example: comber-controller serve --config controller.toml")]
    Serve,
    /// Check the configuration and say everything that is wrong with it.
    #[command(after_help = "Example: comber-controller check-config --config controller.toml")]
    CheckConfig,
    /// Print every setting with where it comes from.
    #[command(after_help = "Example: comber-controller show-config")]
    ShowConfig,
    /// Back up the state and the CA, whether the controller runs or not. Artifacts are not in it: copy their directory.
    #[command(after_help = "Example: comber-controller backup /var/backups/comber/2026-11-24")]
    Backup {
        /// A directory that is made; it holds the CA's key, so keep it safe.
        directory: PathBuf,
    },
    /// Make the state and the CA anew from a backup. The controller must not run, and must have no state.
    #[command(after_help = "Example: comber-controller restore /var/backups/comber/2026-11-24")]
    Restore {
        /// What `backup` made.
        directory: PathBuf,
    },
    /// Make a token for an operator, for when nobody has a certificate any more.
    #[command(
        after_help = "Example: comber-controller admin-token >token && comber init --controller https://localhost:7443 --token-file token"
    )]
    AdminToken,
}

impl Cli {
    /// Reads the configuration as these flags say.
    pub(crate) fn load(&self) -> Result<Loaded<ControllerSettings>, ConfigError> {
        let mut sources = Sources::system("controller");
        if let Some(file) = &self.config {
            sources = sources.with_file(file);
        }
        if let Some(level) = &self.log_level {
            sources = sources.with_flag("--log-level", "log.level", level.clone());
        }
        config::load(&sources)
    }
}
