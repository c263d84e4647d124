//! The look of one log line in each format.
//!
//! Decides only text; the filter and the writer are set around it. Invariant: one event is one write.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, DefaultFields, Format, Json, JsonFields, Writer},
    },
    registry::LookupSpan,
};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// One readable line without a timestamp.
    Human,
    /// One JSON object a line, with a timestamp and the fields of all spans; for log shippers.
    Json,
}

/// Formats events; the second value of `Human` asks for the journal's priority in front.
pub(super) enum Lines {
    Human(Format<format::Full, ()>, bool),
    Json(Format<Json>),
}

/// Formats the fields of spans as the lines around them.
pub(super) enum Fields {
    Human(DefaultFields),
    Json(JsonFields),
}

impl Lines {
    pub(super) fn new(format: LogFormat, journal: bool) -> Self {
        match format {
            LogFormat::Human => Self::Human(
                format::format()
                    .without_time()
                    .with_ansi(false)
                    .with_level(!journal),
                journal,
            ),
            LogFormat::Json => Self::Json(format::format().json()),
        }
    }

    pub(super) fn fields(&self) -> Fields {
        match self {
            Self::Human(..) => Fields::Human(DefaultFields::new()),
            Self::Json(_) => Fields::Json(JsonFields::new()),
        }
    }
}

impl<S> FormatEvent<S, Fields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Fields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self {
            Self::Human(format, journal) => {
                if *journal {
                    write!(writer, "<{}>", priority(*event.metadata().level()))?;
                }
                format.format_event(context, writer, event)
            }
            Self::Json(format) => format.format_event(context, writer, event),
        }
    }
}

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        match self {
            Self::Human(human) => human.format_fields(writer, fields),
            Self::Json(json) => json.format_fields(writer, fields),
        }
    }
}

/// The syslog priority of a level, as `sd-daemon(3)` numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
