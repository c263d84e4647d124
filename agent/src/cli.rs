//! The command line: what can be asked of `comber-agent`, and which settings its flags stand for.
//!
//! Pure. A flag counts above every file, and `show-config` names it as the origin of its value.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use comber_runtime::config::Sources;

/// Installs what a Comber controller assigns to this host, proves it healthy, and keeps it or goes back.
#[derive(Debug, Parser)]
#[command(name = "comber-agent", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Where settings come from.
    #[command(flatten)]
    pub common: Common,
    /// What to do; `run` where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_CODES: &str = "Exit codes: 64 usage, 65 token refused, 69 controller not reachable, 70 internal error, \
    71 system error, 73 not possible now, 75 already running, 78 configuration or enrolment missing.";

/// Flags of every subcommand.
#[derive(Debug, Args)]
pub struct Common {
    /// A file that counts above /etc/comber/agent.toml and agent.d
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read no other file than the one of --config
    #[arg(long, global = true, requires = "config")]
    pub only_config: bool,
    /// Directory of the ledger, the identity and staged releases
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or directives such as info,tonic=warn
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: hold the link to the controller and do what it assigns (the default)
    Run(RunArgs),
    /// Get this host an identity, or replace the one it has
    #[command(after_help = ENROLL_HELP)]
    Enroll(Enroll),
    /// Say everything that is wrong with the configuration
    CheckConfig,
    /// Print every effective setting and where it comes from
    ShowConfig,
    /// Say where this host stands, since when, what for and what comes next
    #[command(after_help = STATUS_HELP)]
    Status(Shown),
    /// Say how the last attempts on this host ended
    #[command(after_help = HISTORY_HELP)]
    History(HistoryArgs),
    /// Connect to the controller now, or tell it the facts and the state once more, and say what came of it
    #[command(after_help = CHECK_NOW_HELP)]
    CheckNow(Shown),
    /// Say whom this host trusts: its controller, its authority, its publisher; or hand it the publisher's root
    #[command(after_help = TRUST_HELP)]
    Trust(TrustArgs),
    /// Leave the fleet: stop the agent and remove this host's identity; what is installed stays
    #[command(after_help = UNENROLL_HELP)]
    Unenroll(UnenrollArgs),
    /// Watch an update of the agent to its end; started by the agent, and at boot
    #[command(hide = true)]
    WatchUpdate(WatchUpdate),
}

/// Flags of `watch-update`.
#[derive(Clone, Copy, Debug, Args)]
pub struct WatchUpdate {
    /// Leave the session of whoever started it
    #[arg(long)]
    pub detach: bool,
    /// Print which form of updates it can watch, and do nothing
    #[arg(long)]
    pub form: bool,
}

const ENROLL_HELP: &str =
    "Example: comber-agent enroll --controller https://comber.example:7443 --token-file token";
const STATUS_HELP: &str = "Works also without an agent; one that runs adds how its link is.\n\
    Example: comber-agent status --output json";
const HISTORY_HELP: &str = "The newest comes first; the last 100 are kept.\n\
    Example: comber-agent history --limit 5";
const CHECK_NOW_HELP: &str = "Ends with 69 where the controller cannot be reached.\n\
    Example: comber-agent check-now";
const TRUST_HELP: &str =
    "Examples:\n  comber-agent trust --output json\n  comber-agent trust init root.json";
const INIT_HELP: &str = "Compare the sha256 that it prints with the publisher's.\nExample: comber-agent trust init root.json";
const RESET_HELP: &str = "For a host whose record is damaged or that shall believe another publisher: what was trusted before \
    is forgotten, so find out first why it is needed.\nExample: comber-agent trust reset root.json --yes";
const UNENROLL_HELP: &str = "Refused while a release is being activated, unless --force is given: that leaves the host \
    between two releases.\nExample: comber-agent unenroll --yes";

/// Flags of `run`.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Enrol by this file where the host is not enrolled, then remove it: TOML with token, controller and perhaps name
    #[arg(long, value_name = "FILE")]
    pub enroll_file: Option<PathBuf>,
}

/// Flags of `enroll`.
#[derive(Debug, Args)]
pub struct Enroll {
    /// Address of the controller, https://host:port
    #[arg(long, value_name = "URL")]
    pub controller: Option<String>,
    /// A token made by `comber token create`; other users of this host see it in the list of processes
    #[arg(long, value_name = "TOKEN", required_unless_present = "token_file")]
    pub token: Option<String>,
    /// A file that holds the token; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// What this host is to be called in the fleet; its own name where nothing is said
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The publisher's root, N.root.json, in place of the one that the controller offers
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// How the result is shown.
    #[command(flatten)]
    pub shown: Shown,
}

/// How the result is shown.
#[derive(Clone, Copy, Debug, Args)]
pub struct Shown {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Flags of `trust`.
#[derive(Clone, Debug, Args)]
pub struct TrustArgs {
    /// What to do; `status` where nothing is said.
    #[command(subcommand)]
    pub command: Option<TrustCommand>,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    pub output: Output,
}

/// What to do about trust.
#[derive(Clone, Debug, Subcommand)]
pub enum TrustCommand {
    /// Say whom this host trusts
    #[command(after_help = "Example: comber-agent trust status")]
    Status,
    /// Begin with this root of the publisher, on a host that has none
    #[command(after_help = INIT_HELP)]
    Init {
        /// A file N.root.json of the publisher
        root: PathBuf,
    },
    /// Forget what was trusted and begin anew with this root
    #[command(after_help = RESET_HELP)]
    Reset {
        /// A file N.root.json of the publisher
        root: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Flags of `history`.
#[derive(Clone, Copy, Debug, Args)]
pub struct HistoryArgs {
    /// Say no more than the newest N
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// How the result is shown.
    #[command(flatten)]
    pub shown: Shown,
}

/// Flags of `unenroll`.
#[derive(Clone, Copy, Debug, Args)]
pub struct UnenrollArgs {
    /// Also while a release is being activated; the host then stays between two releases
    #[arg(long)]
    pub force: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// How the result is shown.
    #[command(flatten)]
    pub shown: Shown,
}

/// How something is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Cli {
    /// The fragments of the configuration that this command line names.
    pub fn sources(&self) -> Sources {
        let Common {
            config,
            only_config,
            state_dir,
            log_level,
        } = &self.common;
        let mut sources = if *only_config {
            Sources::default()
        } else {
            Sources::system("agent")
        };
        if let Some(file) = config {
            sources = sources.with_file(file);
        }
        let state_dir = state_dir.as_ref().map(|dir| dir.display().to_string());
        let mut flags = vec![
            ("--state-dir", "state_dir", state_dir),
            ("--log-level", "log.level", log_level.clone()),
        ];
        if let Some(Command::Enroll(enroll)) = &self.command {
            flags.push(("--controller", "controller", enroll.controller.clone()));
            flags.push(("--name", "name", enroll.name.clone()));
        }
        for (flag, key, value) in flags {
            if let Some(value) = value {
                sources = sources.with_flag(flag, key, value);
            }
        }
        sources
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_and_enrolling_needs_a_token() {
        assert!(Cli::parse_from(["comber-agent"]).command.is_none());
        let refused = Cli::try_parse_from(["comber-agent", "enroll", "--controller", "https://c"]);
        assert!(refused.unwrap_err().to_string().contains("--token"));
    }

    #[test]
    fn flags_are_settings() {
        let cli = Cli::parse_from([
            "comber-agent",
            "enroll",
            "--controller",
            "https://c.example:1",
            "--token",
            "t",
            "--name",
            "web-1",
            "--state-dir",
            "/s",
        ]);
        let loaded = comber_runtime::config::load::<crate::config::AgentSettings>(&cli.sources());
        let settings = loaded.unwrap().settings;
        assert_eq!(settings.name.as_str(), "web-1");
        assert_eq!(settings.state_dir, PathBuf::from("/s"));
        assert_eq!(
            settings.controller.unwrap().to_string(),
            "https://c.example:1/"
        );
    }
}
