//! The agent's own loader of signed releases, as a command that public client test suites can drive.
//!
//! ```text
//!   comber-tuf-client --metadata-dir D init ROOT
//!   comber-tuf-client --metadata-dir D --metadata-url U refresh
//!   comber-tuf-client --metadata-dir D --metadata-url U --target-name N --target-base-url B --target-dir T download
//! ```
//!
//! The command line is that of <https://github.com/theupdateframework/tuf-conformance>; it ends with 0 or 1. What is trusted
//! is decided by `comber_trust` and kept in its record, exactly as an agent keeps it; after each command the files of that
//! record are also written under their plain role names, for those suites to look at.

mod client;
mod http;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::client::{Client, Targets};

/// A client of a repository of signed releases.
#[derive(Debug, Parser)]
#[command(name = "comber-tuf-client")]
struct Arguments {
    /// Where what is trusted is kept.
    #[arg(long, value_name = "DIR")]
    metadata_dir: PathBuf,
    /// Where the repository's metadata is.
    #[arg(long, value_name = "URL")]
    metadata_url: Option<String>,
    /// Targets to download, in this order.
    #[arg(long, value_name = "NAME")]
    target_name: Vec<String>,
    /// Where the repository's targets are.
    #[arg(long, value_name = "URL")]
    target_base_url: Option<String>,
    /// Where downloaded targets go.
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pin the first root.
    Init {
        /// The root metadata that somebody trusted handed over.
        root: PathBuf,
    },
    /// Look at the repository.
    Refresh,
    /// Look at the repository and fetch targets.
    Download,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprint!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = Client::at(arguments.metadata_dir);
    let needed = |option: &'static str| move || anyhow::anyhow!("{option} is needed");
    let url = arguments.metadata_url.ok_or_else(needed("--metadata-url"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments.command {
        Command::Init { root } => client.init(&root),
        Command::Refresh => runtime.block_on(client.refresh(&url?)),
        Command::Download => {
            let targets = Targets {
                names: arguments.target_name,
                base: arguments
                    .target_base_url
                    .ok_or_else(needed("--target-base-url"))?,
                dir: arguments.target_dir.ok_or_else(needed("--target-dir"))?,
            };
            runtime.block_on(client.download(&url?, &targets))
        }
    }
}
