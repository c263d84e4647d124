//! Why an attempt failed. The class decides budgets and retries; the detail is for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The step that failed, each with its own budget and its own bound on retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The bytes could not be brought to the host.
    Fetch,
    /// The bytes are not what was published.
    Trust,
    /// The host does not meet the release's needs now: space, a check before.
    Preflight,
    /// The installer failed before, during or after the switch.
    Install,
    /// The host did not come up on a new boot.
    Reboot,
    /// A check after activation did not pass.
    Health,
    /// Going back failed: the host is broken and needs a person.
    Rollback,
    /// The attempt took longer than its deadline.
    Timeout,
    /// The host had received its assignment and then fell silent.
    Silent,
    /// The host refused: the release is locally bad, or the assignment is not for it.
    Rejected,
}

impl FailureClass {
    /// Every class, in the order in which an attempt can meet them.
    pub const ALL: [Self; 10] = [
        Self::Fetch,
        Self::Trust,
        Self::Preflight,
        Self::Install,
        Self::Reboot,
        Self::Health,
        Self::Rollback,
        Self::Timeout,
        Self::Silent,
        Self::Rejected,
    ];

    /// The word used in files, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Trust => "trust",
            Self::Preflight => "preflight",
            Self::Install => "install",
            Self::Reboot => "reboot",
            Self::Health => "health",
            Self::Rollback => "rollback",
            Self::Timeout => "timeout",
            Self::Silent => "silent",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Longest detail kept, in bytes; the rest is cut. Keeps a report small enough for the agent stream.
pub const DETAIL_MAX: usize = 512;

/// One failure: its class and what a person needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which step failed.
    pub class: FailureClass,
    /// What happened, in one or few lines, at most [`DETAIL_MAX`] bytes.
    pub detail: String,
}

impl Failure {
    /// A failure whose detail is cut to [`DETAIL_MAX`] bytes at a character's boundary.
    pub fn new(class: FailureClass, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        if detail.len() > DETAIL_MAX {
            let mut end = DETAIL_MAX;
            while !detail.is_char_boundary(end) {
                end -= 1;
            }
            detail.truncate(end);
        }
        Self { class, detail }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            self.class.fmt(f)
        } else {
            write!(f, "{}: {}", self.class, self.detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let failure = Failure::new(FailureClass::Health, "ä".repeat(DETAIL_MAX));
        assert_eq!(failure.detail.len(), DETAIL_MAX);
        let failure = Failure::new(FailureClass::Health, format!("x{}", "ä".repeat(DETAIL_MAX)));
        assert_eq!(failure.detail.len(), DETAIL_MAX - 1);
    }
}
