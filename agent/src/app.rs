//! The subcommands, and the one place that puts the agent together.
//!
//! ```text
//!   check-config, show-config ── settings
//!   enroll ── settings ── enrol ──> identity on disk
//!   status ── settings ── ledger, identity and lock on disk
//!   run ── lock ── first boot ── tasks: driver, link, renewal, facts, manager (see run)
//! ```

mod run;

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use comber_machine::Now;
use comber_model::Nonce;
use comber_runtime::{
    clock::Clock,
    config::{self, ConfigError, Loaded},
    fsx::FileError,
    telemetry::TelemetryError,
    token::{InvalidToken, Token},
};
use http::Uri;
use thiserror::Error;

use crate::{
    cli::{Cli, Command, Enroll, Output, StatusArgs},
    config::AgentSettings,
    driver::DriverError,
    enrol::{EnrolError, EnrolRequest, enrol},
    exit::Exit,
    first_boot::FirstBootError,
    identity::{self, StoreError},
    ledger::{LedgerFile, LoadError},
    lock::{AGENT_LOCK, Lock, LockError},
    reboot::BootIdError,
    service::{Service, ServiceError, UNIT},
    status::Report,
};

/// A token is 85 characters; a file with more than this holds something else.
const TOKEN_FILE_MAX: u64 = 4096;

/// Why a subcommand did not do what it says.
#[derive(Debug, Error)]
pub enum AppError {
    /// One line for each mistake.
    #[error("the configuration is wrong\n{0}")]
    Config(ConfigError),
    /// Neither a setting nor an enrolment names the controller.
    #[error(
        "no controller is set; write controller = \"https://host:port\" in agent.toml, or enrol with --controller"
    )]
    NoController,
    /// Logging.
    #[error("logging cannot be set up")]
    Telemetry(#[from] TelemetryError),
    /// The identity and what belongs to it.
    #[error(transparent)]
    Identity(#[from] StoreError),
    /// Enrolment.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// Enrolment from a file.
    #[error(transparent)]
    FirstBoot(#[from] FirstBootError),
    /// The host is enrolled, and its agent does not run.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The text of a token.
    #[error("this is no token")]
    Token(#[from] InvalidToken),
    /// The file of a token.
    #[error("the token in {path} cannot be read", path = path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another agent, or no lock at all.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LoadError),
    /// Which boot this is.
    #[error("cannot tell which boot this is")]
    Boot(#[from] BootIdError),
    /// The driver ended.
    #[error("the agent ends")]
    Driver(#[from] DriverError),
    /// The state directory.
    #[error("the state directory is not usable")]
    File(#[from] FileError),
    /// Threads, signals or standard output.
    #[error("cannot {step}")]
    System {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A bug: the state in memory could not be trusted any more. What is on disk is whole.
    #[error("the agent stopped because task {0} panicked")]
    Panicked(String),
}

impl AppError {
    /// The code that says so to scripts and to the service manager.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::NoController | Self::Telemetry(_) | Self::Identity(_) => {
                Exit::Config
            }
            Self::Enrol(error) | Self::FirstBoot(FirstBootError::Enrol(error)) => enrol_exit(error),
            Self::FirstBoot(FirstBootError::File(_) | FirstBootError::NoController) => Exit::Config,
            Self::Token(_) => Exit::Token,
            Self::TokenFile { .. } => Exit::Usage,
            Self::Lock(LockError::Held { .. }) => Exit::Running,
            Self::Lock(LockError::File { .. })
            | Self::Ledger(_)
            | Self::Boot(_)
            | Self::Driver(_)
            | Self::File(_)
            | Self::Service(_)
            | Self::System { .. } => Exit::System,
            Self::Panicked(_) => Exit::Software,
        }
    }
}

fn enrol_exit(error: &EnrolError) -> Exit {
    match error {
        EnrolError::Unreachable { .. } | EnrolError::Controller { .. } => Exit::Unavailable,
        EnrolError::Token { .. } | EnrolError::Name { .. } => Exit::Token,
        EnrolError::Answer { .. } => Exit::Software,
        EnrolError::Key(_) | EnrolError::Tls(_) | EnrolError::Save(_) => Exit::System,
    }
}

/// Does what the command line says.
pub fn main(cli: &Cli) -> Result<(), AppError> {
    let loaded = load(cli)?;
    match &cli.command {
        None => run::run(&loaded.settings, None),
        Some(Command::Run(arguments)) => {
            run::run(&loaded.settings, arguments.enroll_file.as_deref())
        }
        Some(Command::Enroll(arguments)) => enroll(arguments, &loaded.settings),
        Some(Command::CheckConfig) => say("the configuration is valid\n"),
        Some(Command::ShowConfig) => say(&loaded.to_string()),
        Some(Command::Status(arguments)) => print_status(*arguments, &loaded.settings),
    }
}

fn load(cli: &Cli) -> Result<Loaded<AgentSettings>, AppError> {
    config::load(&cli.sources()).map_err(AppError::Config)
}

fn enroll(arguments: &Enroll, settings: &AgentSettings) -> Result<(), AppError> {
    let token = token(arguments)?;
    let controller = settings.controller.clone().ok_or(AppError::NoController)?;
    let request = EnrolRequest {
        controller: &controller,
        token: &token,
        name: &settings.name,
        state_dir: &settings.state_dir,
        channel: settings.link.channel(),
    };
    let identity = run::runtime()?.block_on(enrol(&request, &Clock::system()))?;
    let (name, until) = (&settings.name, identity.facts().not_after);
    say(&format!(
        "this host is now {name} at {controller}; its certificate is valid until {until} and renews itself\n"
    ))?;
    if Lock::is_held(&settings.state_dir.join(AGENT_LOCK)) {
        return say(
            "the agent that runs uses it from its next connection on; restart it to use it now\n",
        );
    }
    let service = Service::system();
    if !service.runs(&settings.state_dir) {
        return say("start its agent with: comber-agent run\n");
    }
    service.enable_now()?;
    say(&format!("its agent runs now and at each boot ({UNIT})\n"))
}

fn token(arguments: &Enroll) -> Result<Token, AppError> {
    let text = match (&arguments.token, &arguments.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) => token_text(path).map_err(|source| AppError::TokenFile {
            path: path.clone(),
            source,
        })?,
        (None, None) => String::new(),
    };
    Ok(text.parse()?)
}

fn token_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().take(TOKEN_FILE_MAX).read_to_string(&mut text)?;
    } else {
        fs::File::open(path)?
            .take(TOKEN_FILE_MAX)
            .read_to_string(&mut text)?;
    }
    Ok(text)
}

fn print_status(arguments: StatusArgs, settings: &AgentSettings) -> Result<(), AppError> {
    let clock = Clock::system();
    let controller = controller(settings).ok().map(|url| url.to_string());
    let ledger = LedgerFile::new(&settings.state_dir)
        .load(clock.wall())?
        .ledger;
    let now = Now {
        wall: clock.wall(),
        boot: clock.boot(),
        boot_id: run::boot_id(settings)?,
        nonce: Nonce(0),
        connected: false,
    };
    let report = Report::new(&ledger, &settings.state_dir, controller, &clock, &now);
    match arguments.output {
        Output::Text => say(&report.to_string()),
        Output::Json => {
            let text = serde_json::to_string_pretty(&report).map_err(|error| AppError::System {
                step: "write the status as JSON",
                source: error.into(),
            })?;
            say(&format!("{text}\n"))
        }
    }
}

/// The controller of this host: a setting counts above what its enrolment recorded.
fn controller(settings: &AgentSettings) -> Result<Uri, AppError> {
    if let Some(controller) = &settings.controller {
        return Ok(controller.clone());
    }
    let recorded = identity::enrolment(&settings.state_dir)?;
    recorded
        .and_then(|enrolment| enrolment.controller())
        .ok_or(AppError::NoController)
}

/// Prints; a reader that went away (`| head`) is no failure.
fn say(text: &str) -> Result<(), AppError> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(AppError::System {
            step: "write to standard output",
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}
