//! `comber completion`: a script that completes commands and flags.
//!
//! Writes to standard output only.

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::Shell as Generator;

use crate::args::Cli;
use crate::error::Outcome;
use crate::session::Session;

/// Writes a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber completion bash > ~/.local/share/bash-completion/completions/comber
  comber completion zsh > ~/.zfunc/_comber
  comber completion fish > ~/.config/fish/completions/comber.fish")]
pub(crate) struct CompletionArgs {
    /// Which shell
    shell: Shell,
}

/// The shells that are tested.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// Writes the script.
pub(crate) fn run(args: &CompletionArgs, session: &Session) -> Outcome<()> {
    let generator = match args.shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut Cli::command(), "comber", &mut script);
    session.screen.print(&String::from_utf8_lossy(&script))
}
