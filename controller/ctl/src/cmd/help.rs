//! `comber help [COMMAND...]`, and the topics that are no command.
//!
//! Touches nothing.

use clap::{Args, CommandFactory as _};

use crate::args::Cli;
use crate::error::{CliError, Outcome};
use crate::exit;
use crate::session::Session;

/// Shows help for a command, or about a topic: exit-codes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber help rollout create
  comber help exit-codes")]
pub(crate) struct HelpArgs {
    /// A command, or exit-codes
    #[arg(value_name = "COMMAND")]
    words: Vec<String>,
}

/// Shows it.
pub(crate) fn run(args: &HelpArgs, session: &Session) -> Outcome<()> {
    if args.words == ["exit-codes"] {
        return session
            .screen
            .print(&format!("Exit codes:\n{}", exit::table()));
    }
    let mut root = Cli::command();
    root.build();
    let mut command = &mut root;
    for word in &args.words {
        let names: Vec<String> = command
            .get_subcommands()
            .map(|sub| sub.get_name().to_owned())
            .collect();
        command = command.find_subcommand_mut(word).ok_or_else(|| {
            let error = CliError::usage(format!("there is no command {word:?}"));
            match comber_model::invalid::nearest(word, names.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean {near:?}?")),
                None => error.hint("comber help lists them all"),
            }
        })?;
    }
    let help = command.render_long_help();
    let text = if session.screen.view().color {
        help.ansi().to_string()
    } else {
        help.to_string()
    };
    session.screen.print(&text)
}
