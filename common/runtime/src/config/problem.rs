//! What is wrong with a configuration: every mistake, each with where it stands and what would be right.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The file or flag that holds it; for a missing key, where it may be written.
    pub origin: String,
    /// The path of the key, `link.url`; empty for a file that cannot be read at all.
    pub key: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// All mistakes of a configuration; there is at least one.
#[derive(Debug)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// In the order of the files, then of reading.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        if problems.is_empty() {
            // A `Settings::read` that gives nothing without saying why must still not pass as success.
            let message = "the settings could not be read".to_owned();
            problems.push(Problem {
                origin: "the program".into(),
                key: String::new(),
                message,
            });
        }
        Self { problems }
    }
}

impl std::error::Error for ConfigError {}

/// One line for each mistake.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.problems.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            origin,
            key,
            message,
        } = self;
        if key.is_empty() {
            write!(f, "{origin}: {message}")
        } else {
            write!(f, "{origin}: {key}: {message}")
        }
    }
}
