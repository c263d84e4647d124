//! The subcommands, and the one place that puts the agent together.
//!
//! ```text
//!   check-config, show-config ── settings
//!   enroll ── settings ── enrol ──> identity on disk
//!   status, check-now, history, trust ── settings ── what is on disk, and the agent that runs (see host)
//!   unenroll ── settings ── the agent that runs, or its lock ──> no identity (see unenroll)
//!   watch-update ── update (the watcher of an update of the agent; needs no settings)
//!   all others ── launcher: become the agent on the shelf where that is newer
//!   run ── lock ── first boot ── tasks: driver, link, renewal, facts, manager (see run)
//! ```

mod host;
mod run;
mod trust;
mod unenroll;

use std::{
    fmt, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use comber_runtime::{
    clock::Clock,
    config::{self, ConfigError, Loaded},
    fsx::FileError,
    telemetry::{self, LogSettings, TelemetryError},
    token::{InvalidToken, Token},
};
use http::Uri;
use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use crate::{
    cli::{Cli, Command, Enroll, Output, Shown, WatchUpdate},
    config::{AgentSettings, DEFAULT_STATE_DIR},
    driver::DriverError,
    enrol::{self, EnrolError, EnrolRequest, enrol},
    exit::Exit,
    first_boot::{FirstBootError, read_root},
    history::HistoryError,
    identity::{self, StoreError},
    ledger::LoadError,
    local::AskError,
    lock::{AGENT_LOCK, Lock, LockError},
    reboot::BootIdError,
    service::{Service, ServiceError, UNIT},
    trust::{PinError, Pinned},
    update::{FORM, LaunchError, WatchError, launch, watch},
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
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The agent that runs was asked.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// The controller cannot be reached, as the agent that runs has just found.
    #[error("no link to the controller: {0}")]
    NoLink(String),
    /// It must not be done now.
    #[error("{0}")]
    NotNow(String),
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
    /// The agent on the shelf.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The watcher of an update.
    #[error("the update of the agent is not watched")]
    Watch(#[from] WatchError),
    /// The publisher's root.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A bug: the state in memory could not be trusted any more. What is on disk is whole.
    #[error("the agent stopped because task {0} panicked")]
    Panicked(String),
}

impl AppError {
    /// The code that says so to scripts and to the service manager.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_)
            | Self::NoController
            | Self::Telemetry(_)
            | Self::Identity(_)
            | Self::FirstBoot(
                FirstBootError::File(_) | FirstBootError::NoController | FirstBootError::Root(_),
            )
            | Self::Pin(PinError::Root(_)) => Exit::Config,
            Self::Enrol(error) | Self::FirstBoot(FirstBootError::Enrol(error)) => enrol_exit(error),
            Self::NotNow(_) | Self::Pin(PinError::Before { .. }) => Exit::NotNow,
            Self::Token(_) => Exit::Token,
            Self::TokenFile { .. } => Exit::Usage,
            Self::Lock(LockError::Held { .. }) => Exit::Running,
            Self::Lock(LockError::File { .. })
            | Self::Ledger(_)
            | Self::Boot(_)
            | Self::Driver(_)
            | Self::File(_)
            | Self::History(_)
            | Self::Launch(_)
            | Self::Watch(_)
            | Self::Pin(_)
            | Self::Service(_)
            | Self::System { .. } => Exit::System,
            Self::Ask(AskError::NotRunning) | Self::NoLink(_) => Exit::Unavailable,
            Self::Ask(AskError::NotPermitted | AskError::Io(_) | AskError::Answer(_)) => {
                Exit::System
            }
            Self::Panicked(_) => Exit::Software,
        }
    }
}

fn enrol_exit(error: &EnrolError) -> Exit {
    match error {
        EnrolError::Unreachable { .. } | EnrolError::Controller { .. } => Exit::Unavailable,
        EnrolError::Token { .. } | EnrolError::Name { .. } => Exit::Token,
        EnrolError::Answer { .. } => Exit::Software,
        EnrolError::Root(PinError::Root(_)) => Exit::Config,
        EnrolError::Key(_) | EnrolError::Tls(_) | EnrolError::Save(_) | EnrolError::Root(_) => {
            Exit::System
        }
    }
}

/// Does what the command line says.
pub fn main(cli: &Cli) -> Result<(), AppError> {
    let state_dir = state_dir(cli);
    if let Some(Command::WatchUpdate(arguments)) = &cli.command {
        return watch_update(*arguments, &state_dir);
    }
    let serves = matches!(cli.command, None | Some(Command::Run(_)));
    launch::become_newest(&state_dir, serves)?;
    let loaded = load(cli)?;
    match &cli.command {
        None => run::run(&loaded.settings, None),
        Some(Command::Run(arguments)) => {
            run::run(&loaded.settings, arguments.enroll_file.as_deref())
        }
        Some(Command::Enroll(arguments)) => enroll(arguments, &loaded.settings),
        Some(Command::CheckConfig) => say("the configuration is valid\n"),
        Some(Command::ShowConfig) => say(&loaded.to_string()),
        Some(Command::Status(shown)) => host::status(*shown, &loaded.settings),
        Some(Command::CheckNow(shown)) => host::check_now(*shown, &loaded.settings),
        Some(Command::History(arguments)) => host::history(*arguments, &loaded.settings),
        Some(Command::Trust(arguments)) => trust::trust(arguments, &loaded.settings),
        Some(Command::Unenroll(arguments)) => unenroll::unenroll(*arguments, &loaded.settings),
        Some(Command::WatchUpdate(_)) => Ok(()),
    }
}

/// Where everything of this agent is, found whatever a newer agent may have brought into the configuration.
fn state_dir(cli: &Cli) -> PathBuf {
    let set = config::peek(&cli.sources(), "state_dir");
    set.map_or_else(|| DEFAULT_STATE_DIR.into(), PathBuf::from)
}

/// Watches an update of the agent; see `update`.
fn watch_update(arguments: WatchUpdate, state_dir: &Path) -> Result<(), AppError> {
    if arguments.form {
        return say(&format!("{FORM}\n"));
    }
    if arguments.detach {
        // Fails only where this process leads a group already, which nothing else belongs to then.
        let _ = rustix::process::setsid();
    }
    telemetry::init(&LogSettings::default())?;
    Ok(watch::run(state_dir)?)
}

fn load(cli: &Cli) -> Result<Loaded<AgentSettings>, AppError> {
    config::load(&cli.sources()).map_err(AppError::Config)
}

fn enroll(arguments: &Enroll, settings: &AgentSettings) -> Result<(), AppError> {
    let token = token(arguments)?;
    let controller = settings.controller.clone().ok_or(AppError::NoController)?;
    let root = arguments.root.as_deref().map(read_root).transpose()?;
    let request = EnrolRequest {
        controller: &controller,
        token: &token,
        name: &settings.name,
        state_dir: &settings.state_dir,
        channel: settings.link.channel(),
        root: root.as_deref(),
    };
    let enrol::Enrolled { identity, root } =
        run::runtime()?.block_on(enrol(&request, &Clock::system()))?;
    let runs = Lock::is_held(&settings.state_dir.join(AGENT_LOCK));
    let service = Service::system();
    let starts = !runs && service.runs(&settings.state_dir);
    if starts {
        service.enable_now()?;
    }
    let enrolled = Enrolled {
        host: settings.name.to_string(),
        controller: controller.to_string(),
        valid_until: identity.facts().not_after,
        publisher: publisher(root),
        next: match (runs, starts) {
            (true, _) => {
                "the agent that runs uses it from its next connection on; restart it to use it now"
                    .to_owned()
            }
            (false, true) => format!("its agent runs now and at each boot ({UNIT})"),
            (false, false) => "start its agent with: comber-agent run".to_owned(),
        },
    };
    show(arguments.shown, &enrolled)
}

/// What enrolling came to.
#[derive(Serialize)]
struct Enrolled {
    host: String,
    controller: String,
    valid_until: Timestamp,
    publisher: String,
    next: String,
}

/// Whom the host believes about releases, for people.
fn publisher(root: Option<Pinned>) -> String {
    match root {
        Some(Pinned::Now(facts)) => format!(
            "it installs what the publisher with this root signs: version {}, sha256 {}",
            facts.version, facts.sha256
        ),
        Some(Pinned::Before(sha256)) => {
            format!("it goes on with the publisher's root from before (sha256 {sha256})")
        }
        None => "the controller knows no publisher yet, so this host installs nothing; hand it the publisher's root with: \
                 comber-agent trust init FILE"
            .to_owned(),
    }
}

impl fmt::Display for Enrolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            controller,
            valid_until,
            publisher,
            next,
        } = self;
        writeln!(
            f,
            "this host is now {host} at {controller}; its certificate is valid until {valid_until} and renews itself"
        )?;
        writeln!(f, "{publisher}")?;
        writeln!(f, "{next}")
    }
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

/// Prints a result as it is wanted.
fn show<T: Serialize + fmt::Display>(shown: Shown, result: &T) -> Result<(), AppError> {
    match shown.output {
        Output::Text => say(&result.to_string()),
        Output::Json => {
            let text = serde_json::to_string_pretty(result).map_err(|error| AppError::System {
                step: "write the result as JSON",
                source: error.into(),
            })?;
            say(&format!("{text}\n"))
        }
    }
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
