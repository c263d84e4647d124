//! The one error that a person sees: what failed, why, and what to do.
//!
//! Pure. Invariant: each text is for people; no `Debug` form of anything gets in.

use std::error::Error;

use comber_model::Invalid;
use comber_runtime::telemetry::error_chain;

use crate::exit::Exit;

/// Why a command ended without doing what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CliError {
    /// Decides the exit code.
    pub(crate) exit: Exit,
    /// What failed, without a full stop.
    pub(crate) what: String,
    /// Why, one thing a line; may hold several lines each.
    pub(crate) causes: Vec<String>,
    /// What to do, one thing a line.
    pub(crate) hints: Vec<String>,
}

/// What every command returns.
pub(crate) type Outcome<T> = Result<T, CliError>;

impl CliError {
    /// An error that says only what failed so far.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// The command line asks for something that cannot be.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Files and contexts.
    pub(crate) fn configuration(what: impl Into<String>) -> Self {
        Self::new(Exit::Configuration, what)
    }

    /// Everything in `problems` is wrong with `what`; each gets its own line.
    pub(crate) fn invalid(what: impl Into<String>, problems: &[Invalid]) -> Self {
        let causes = problems.iter().map(ToString::to_string).collect();
        Self {
            causes,
            ..Self::configuration(what)
        }
    }

    /// Adds why.
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds why, from an error and all that it was caused by.
    pub(crate) fn caused_by(self, error: &(dyn Error + 'static)) -> Self {
        self.because(error_chain(error))
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// Turns `error` into what a person reads: `what` failed, caused by `error`.
pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(&(dyn Error + 'static)) -> CliError {
    let what = what.into();
    move |error| CliError::new(Exit::Failed, what).caused_by(error)
}
