//! Wires one run together: command line, screen, async runtime, and the error at the end.
//!
//! Invariant: whatever goes wrong is told once, on standard error, and decides the exit code.

use std::ffi::OsString;
use std::io::Write as _;

use clap::Parser as _;
use clap::error::ErrorKind;
use comber_runtime::clock::Clock;
use comber_runtime::telemetry::{self, LogSettings};

use crate::args::{Cli, Command};
use crate::cmd;
use crate::error::{Outcome, failed};
use crate::exit::Exit;
use crate::render;
use crate::screen::Screen;
use crate::session::{Session, config_dir};

/// Runs the command line `args`, the program's name first, and says how it ended.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let clock = Clock::system();
    let columns = cli
        .globals
        .columns
        .as_deref()
        .and_then(|columns| columns.parse().ok());
    let screen = Screen::new(cli.globals.output, columns, &clock);
    match dispatch(cli, screen.clone(), clock) {
        Ok(exit) => exit,
        Err(error) => {
            if !error.what.is_empty() {
                screen.note(render::error(&screen.error_view(), &error).trim_end());
            }
            error.exit
        }
    }
}

fn dispatch(cli: Cli, screen: Screen, clock: Clock) -> Outcome<Exit> {
    let globals = cli.globals;
    if globals.verbose {
        let settings = LogSettings {
            level: "info,comber_ctl=debug,comber_runtime=debug,h2=info".to_owned(),
            ..LogSettings::default()
        };
        telemetry::init(&settings).map_err(|error| failed("cannot set up logging")(&error))?;
    }
    let session = Session {
        config: config_dir(
            globals.config.as_deref(),
            globals.xdg_config_home.as_deref(),
        )?,
        context: globals.context,
        patience: globals.connect_timeout,
        screen,
        clock,
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("cannot start")(&error))?
        .block_on(perform(cli.command, &session))
}

async fn perform(command: Command, session: &Session) -> Outcome<Exit> {
    let done = match command {
        Command::Init(args) => cmd::init::run(args, session).await,
        Command::Token(command) => cmd::token::run(command, session).await,
        Command::Certificate(command) => cmd::certificate::run(command, session).await,
        Command::Host(command) => cmd::host::run(command, session).await,
        Command::Key(command) => cmd::key::run(&command, session),
        Command::Repo(command) => cmd::repo::run(command, session).await,
        Command::Release(command) => cmd::release::run(command, session).await,
        Command::Rollout(command) => return cmd::rollout::run(command, session).await,
        Command::Budget(command) => cmd::budget::run(command, session).await,
        Command::Freeze(command) => cmd::freeze::run(command, session).await,
        Command::Why(command) => cmd::why::run(command, session).await,
        Command::Events(args) => cmd::events::run(args, session).await,
        Command::Context(command) => cmd::context::run(command, session),
        Command::Completion(args) => cmd::completion::run(&args, session),
        Command::Version(args) => cmd::version::run(&args, session),
        Command::Help(args) => cmd::help::run(&args, session),
    };
    done.map(|()| Exit::Ok)
}

/// Help and version are results; anything else is a mistake on the command line.
fn usage(error: &clap::Error) -> Exit {
    let code = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Ok,
        _ => Exit::Usage,
    };
    // Where even this cannot be written, the exit code is all that is left.
    if error.print().is_err() {
        let _ = writeln!(std::io::stderr(), "{error}");
    }
    code
}
