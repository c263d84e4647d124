//! Standard output and error: how wide, in colour or not, and whether a person is there to answer.
//!
//! The only file that writes to them, beside the live views. Invariant: colour goes to terminals only and never where
//! `NO_COLOR` is set; a reader that closes the pipe ends the output without an error.

use std::io::{self, BufRead, IsTerminal, Write};

use comber_runtime::clock::Clock;
use serde::Serialize;

use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::render::View;

/// Text between people and their terminal is unreadable below this width, so narrower ones wrap.
const NARROWEST: usize = 40;

/// How results are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs: one document, or one line per item where items keep coming.
    Json,
}

/// Where output goes.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    /// How results are shown.
    pub(crate) output: Output,
    clock: Clock,
    width: Option<usize>,
    stdout_tty: bool,
    stderr_tty: bool,
}

impl Screen {
    /// Looks at the terminal; `columns` overrides its width.
    pub(crate) fn new(output: Output, columns: Option<usize>, clock: &Clock) -> Self {
        let stdout_tty = io::stdout().is_terminal();
        let terminal = || {
            console::Term::stdout()
                .size_checked()
                .map(|(_, columns)| usize::from(columns))
        };
        let width = columns.or_else(|| stdout_tty.then(terminal).flatten());
        Self {
            output,
            clock: clock.clone(),
            width: width.map(|width| width.max(NARROWEST)),
            stdout_tty,
            stderr_tty: io::stderr().is_terminal(),
        }
    }

    /// What a renderer needs to know, at this moment.
    pub(crate) fn view(&self) -> View {
        View {
            width: self.width,
            color: self.stdout_tty && console::colors_enabled(),
            now: self.clock.wall(),
        }
    }

    /// The same for what goes to standard error.
    pub(crate) fn error_view(&self) -> View {
        View {
            color: self.stderr_tty && console::colors_enabled_stderr(),
            ..self.view()
        }
    }

    /// True where results are for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// True where a person watches standard output, so that it may be redrawn.
    pub(crate) fn is_live(&self) -> bool {
        self.stdout_tty && !self.is_json() && console::Term::stdout().features().is_attended()
    }

    /// True where a person watches standard error: progress bars go there.
    pub(crate) fn shows_progress(&self) -> bool {
        self.stderr_tty && !self.is_json()
    }

    /// A result; `text` ends with a line feed or is empty.
    #[expect(clippy::unused_self, reason = "the screen stands for both outputs")]
    pub(crate) fn print(&self, text: &str) -> Outcome<()> {
        let mut out = io::stdout().lock();
        checked(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    /// A result as one JSON document, indented.
    pub(crate) fn print_json(&self, value: &impl Serialize) -> Outcome<()> {
        let text = serde_json::to_string_pretty(value).map_err(|error| json_error(&error))?;
        self.print(&format!("{text}\n"))
    }

    /// One item of a stream, as one line.
    pub(crate) fn print_json_line(&self, value: &impl Serialize) -> Outcome<()> {
        let text = serde_json::to_string(value).map_err(|error| json_error(&error))?;
        self.print(&format!("{text}\n"))
    }

    /// Shows the one or the other, as asked for.
    pub(crate) fn show<T: Serialize>(
        &self,
        json: impl FnOnce() -> T,
        table: impl FnOnce(&View) -> String,
    ) -> Outcome<()> {
        if self.is_json() {
            self.print_json(&json())
        } else {
            self.print(&table(&self.view()))
        }
    }

    /// Something a person should know that is not the result.
    #[expect(clippy::unused_self, reason = "the screen stands for both outputs")]
    pub(crate) fn note(&self, text: &str) {
        // Nobody can be told that standard error is closed.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// True where somebody is there to be asked.
    pub(crate) fn can_ask(&self) -> bool {
        self.stderr_tty && io::stdin().is_terminal()
    }

    /// Asks for something that must not be seen.
    #[expect(clippy::unused_self, reason = "the screen stands for both outputs")]
    pub(crate) fn ask_secret(&self, question: &str) -> Outcome<String> {
        let _ = write!(io::stderr(), "{question}");
        let read = console::Term::stderr().read_secure_line();
        read.map_err(|error| {
            CliError::new(Exit::Failed, "cannot read the answer").because(error.to_string())
        })
    }

    /// Asks before something that cannot be undone; without a terminal to ask on, it goes ahead.
    pub(crate) fn confirm(&self, yes: bool, question: &str) -> Outcome<()> {
        if yes || !self.stderr_tty || !io::stdin().is_terminal() {
            return Ok(());
        }
        let _ = write!(io::stderr(), "{question} [y/N] ");
        let mut answer = String::new();
        let _ = io::stdin().lock().read_line(&mut answer);
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => {
                Err(CliError::new(Exit::Failed, "nothing was changed")
                    .hint("answer y, or give --yes"))
            }
        }
    }
}

fn json_error(error: &serde_json::Error) -> CliError {
    CliError::new(Exit::Failed, "cannot write the result as JSON").because(error.to_string())
}

/// `head` and pagers close the pipe when they have enough; that is not a failure.
fn checked(written: io::Result<()>) -> Outcome<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(CliError::new(Exit::Ok, String::new()))
        }
        Err(error) => {
            Err(CliError::new(Exit::Failed, "cannot write the result").because(error.to_string()))
        }
        Ok(()) => Ok(()),
    }
}
