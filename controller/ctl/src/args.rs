//! The command line: every command, its flags and its examples.
//!
//! Pure. Invariant: each command's help ends with an example that parses (a test holds it to that).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::cmd;
use crate::screen::Output;

const ABOUT: &str = "Rolls releases across a fleet of hosts in waves";
const EXAMPLES: &str = "\
Examples:
  comber init --controller https://comber.example:7443 --token-file token
  comber release publish ./webapp
  comber rollout create webapp.toml --start --watch
  comber why host web-1

Exit codes: comber help exit-codes";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "comber", version, about = ABOUT, after_help = EXAMPLES, disable_help_subcommand = true)]
#[command(
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The command line as data, for completions and manual pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Flags that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// How results are shown
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Context to work in, in place of the current one
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "COMBER_CONTEXT",
        hide_env_values = true
    )]
    pub(crate) context: Option<String>,
    /// Directory of contexts and identities [default: ~/.config/comber]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "COMBER_CONFIG",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,
    /// How long to try to connect
    #[arg(long, global = true, value_name = "TIME", default_value = "3s", value_parser = time)]
    pub(crate) connect_timeout: Duration,
    /// Shows on standard error what the command does
    #[arg(long, global = true)]
    pub(crate) verbose: bool,
    /// Base of the configuration directory, by the XDG rules.
    #[arg(
        long,
        global = true,
        hide = true,
        env = "XDG_CONFIG_HOME",
        hide_env = true
    )]
    pub(crate) xdg_config_home: Option<PathBuf>,
    /// Columns to fit tables to where standard output is no terminal.
    #[arg(long, global = true, hide = true, env = "COLUMNS", hide_env = true)]
    pub(crate) columns: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Enrol as an operator with a token
    Init(cmd::init::InitArgs),
    /// Make, list and revoke enrolment tokens
    #[command(subcommand)]
    Token(cmd::token::TokenCommand),
    /// Revoke certificates
    #[command(subcommand)]
    Certificate(cmd::certificate::CertificateCommand),
    /// List, label, revoke and retire hosts
    #[command(subcommand)]
    Host(cmd::host::HostCommand),
    /// Make and show the keys that sign releases
    #[command(subcommand)]
    Key(cmd::key::KeyCommand),
    /// Keep the signed repository of releases
    #[command(subcommand)]
    Repo(cmd::repo::RepoCommand),
    /// Build, list and publish releases
    #[command(subcommand)]
    Release(cmd::release::ReleaseCommand),
    /// Plan, start, watch and steer rollouts
    #[command(subcommand)]
    Rollout(cmd::rollout::RolloutCommand),
    /// Say when nothing may move in the whole fleet
    #[command(subcommand)]
    Freeze(cmd::freeze::FreezeCommand),
    /// Say how many hosts may be down at once
    #[command(subcommand)]
    Budget(cmd::budget::BudgetCommand),
    /// Explain why a host or rollout is where it is
    #[command(subcommand)]
    Why(cmd::why::WhyCommand),
    /// Show what happened
    Events(cmd::events::EventsArgs),
    /// List contexts and change between them
    #[command(subcommand)]
    Context(cmd::context::ContextCommand),
    /// Write a completion script for a shell
    Completion(cmd::completion::CompletionArgs),
    /// Show the version
    Version(cmd::version::VersionArgs),
    /// Show help for a command, or about exit-codes
    Help(cmd::help::HelpArgs),
}

/// A length of time as everywhere in Comber.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    comber_model::duration::parse(text).map_err(|error| error.problem)
}

/// `key=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must have the form key=value".to_owned()),
    }
}

/// Asks nothing before what cannot be undone.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Confirm {
    /// Do it without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[cfg(test)]
mod tests;
