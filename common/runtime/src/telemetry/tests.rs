//! What a log line looks like in each format, and what an error chain says.

use std::{
    io,
    sync::{Arc, Mutex},
};

use super::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written when a warning and a debug line are logged within a span.
fn logged(format: LogFormat, journal: bool) -> String {
    let captured = Captured::default();
    let writer = captured.clone();
    let settings = LogSettings {
        format,
        ..LogSettings::default()
    };
    let subscriber = subscriber(&settings, journal, move || writer.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let _span = tracing::info_span!("rollout", id = 7).entered();
        tracing::warn!(host = "web-1", "went silent");
        tracing::debug!("not logged at info");
    });
    String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn people_get_no_timestamp() {
    let line = logged(LogFormat::Human, false);
    assert_eq!(
        line,
        " WARN rollout{id=7}: comber_runtime::telemetry::tests: went silent host=\"web-1\"\n"
    );
}

#[test]
fn the_journal_gets_the_priority_in_place_of_the_level() {
    let line = logged(LogFormat::Human, true);
    assert_eq!(
        line,
        "<4>rollout{id=7}: comber_runtime::telemetry::tests: went silent host=\"web-1\"\n"
    );
}

#[test]
fn json_is_one_object_a_line_with_the_span() {
    let line = logged(LogFormat::Json, true);
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in [
        "{\"timestamp\":\"",
        "\"host\":\"web-1\"",
        "\"span\":{\"id\":7,\"name\":\"rollout\"}",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[test]
fn a_bad_level_says_what_is_allowed() {
    let settings = LogSettings {
        level: "info,comber=loud".into(),
        ..LogSettings::default()
    };
    let Err(error) = subscriber(&settings, false, io::sink) else {
        panic!("accepted")
    };
    assert!(
        error
            .to_string()
            .starts_with("log level \"info,comber=loud\" is not understood"),
        "{error}"
    );
}

#[derive(Debug, Error)]
#[error("cannot fetch the manifest")]
struct Outer(#[source] Middle);

#[derive(Debug, Error)]
#[error("the stream broke: {0}")]
struct Middle(#[source] io::Error);

#[test]
fn a_chain_tells_each_cause_once() {
    let error = Outer(Middle(io::Error::other("connection reset")));
    assert_eq!(
        error_chain(&error),
        "cannot fetch the manifest: the stream broke: connection reset"
    );
}
