//! Where log lines go and how they look: for people, for the journal, or as JSON.
//!
//! Lines go to standard error. For people there are no timestamps: the journal and container runtimes bring their own.
//! When the journal reads, each line begins with its syslog priority, so `journalctl -p warning` works.

mod format;

use std::{error::Error, fmt::Write};

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
};

use format::Lines;

use crate::config::{Section, Settings};
pub use format::LogFormat;

/// What to log and how; from `[log]` of the configuration or from flags.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogSettings {
    /// Filter directives: `info`, or `info,comber_controller::driver=debug`.
    pub level: String,
    /// How a line looks; `Human` becomes the journal's form by itself.
    pub format: LogFormat,
}

impl Default for LogSettings {
    /// `info` for people: each change of state once, nothing per beat.
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Human,
        }
    }
}

/// `level` and `format` of a `[log]` section.
impl Settings for LogSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let Self { level, format } = Self::default();
        let level: String = section.value("level", level);
        if let Err(error) = parse_level(&level) {
            section.refuse("level", &error.to_string());
        }
        let choices = [("human", LogFormat::Human), ("json", LogFormat::Json)];
        let format = section.choice("format", &choices, format);
        Some(Self { level, format })
    }
}

/// Logging could not be set up; the process should say so on standard error and exit.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The directives do not parse.
    #[error(
        "log level {level:?} is not understood; use error, warn, info, debug or trace, or directives like info,comber_agent=debug"
    )]
    Level {
        /// The directives as given.
        level: String,
        /// Which part was refused.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A program may set up logging once.
    #[error("logging is already set up in this process")]
    AlreadySet,
}

/// Sends all log lines of this process to standard error from now on. Called once, by `main`.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let journal = crate::environment::stderr_is_journal();
    let subscriber = subscriber(settings, journal, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::AlreadySet)
}

/// The subscriber that [`init`] installs, over any writer; `journal` asks for priorities.
pub fn subscriber<W>(
    settings: &LogSettings,
    journal: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let targets = parse_level(&settings.level)?;
    let highest = tracing_subscriber::Layer::<Registry>::max_level_hint(&targets);
    let lines = Lines::new(settings.format, journal);
    Ok(tracing_subscriber::fmt()
        .with_max_level(highest.unwrap_or(LevelFilter::TRACE))
        .with_writer(writer)
        .with_ansi(false)
        .fmt_fields(lines.fields())
        .event_format(lines)
        .finish()
        .with(targets))
}

/// An error with all its causes on one line, outermost first, each said once.
///
/// Some libraries repeat the cause in their own text; a cause already told at the end is not told again.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !told.ends_with(&text) {
            // Writing to a String cannot fail.
            let _ = write!(told, ": {text}");
        }
        cause = next.source();
    }
    told
}

/// Directives by target only: those by span would bring a machine for regular expressions into the agent.
fn parse_level(level: &str) -> Result<Targets, TelemetryError> {
    level
        .parse::<Targets>()
        .map_err(|source| TelemetryError::Level {
            level: level.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests;
