//! Exit codes: what a script can tell apart.
//!
//! Pure. Invariant: a number, once documented, never changes its meaning.

use std::process::ExitCode;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; for a watch, the rollout completed and no host is failed or unreached.
    Ok = 0,
    /// It failed for a reason that no other code names.
    Failed = 1,
    /// The controller refused: invalid, not found, or not possible in the present state. Nothing was changed.
    Refused = 2,
    /// Watched to the end: completed, with failed or unreached hosts.
    HostsFailed = 3,
    /// Watched to the end: halted by a gate or budget.
    Halted = 4,
    /// Watched to the end: aborted.
    Aborted = 5,
    /// The watch ended before the rollout did: interrupted, or its time was over.
    Interrupted = 6,
    /// The command line cannot be understood.
    Usage = 64,
    /// The controller cannot be reached.
    Unavailable = 69,
    /// The controller does not let this operator do it, or does not know the operator.
    NotPermitted = 77,
    /// The configuration or a file given is not valid.
    Configuration = 78,
}

/// Every code with its meaning, for help and documentation.
pub(crate) const MEANINGS: [(Exit, &str); 11] = [
    (
        Exit::Ok,
        "done; a watched rollout completed without failed or unreached hosts",
    ),
    (Exit::Failed, "failed for a reason that no other code names"),
    (
        Exit::Refused,
        "refused by the controller: invalid, not found, or not possible now",
    ),
    (
        Exit::HostsFailed,
        "watch: completed, with failed or unreached hosts",
    ),
    (Exit::Halted, "watch: halted by a gate or budget"),
    (Exit::Aborted, "watch: aborted"),
    (
        Exit::Interrupted,
        "watch: interrupted or --timeout over, the rollout goes on",
    ),
    (Exit::Usage, "the command line cannot be understood"),
    (Exit::Unavailable, "the controller cannot be reached"),
    (
        Exit::NotPermitted,
        "not permitted, or the operator's certificate is not accepted",
    ),
    (
        Exit::Configuration,
        "the configuration or a file given is not valid",
    ),
];

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table of `comber help exit-codes`.
pub(crate) fn table() -> String {
    let rows = MEANINGS.map(|(exit, meaning)| format!("{:>4}  {meaning}", exit.code()));
    format!("{}\n", rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_documented() {
        let codes: Vec<u8> = MEANINGS.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 64, 69, 77, 78]);
        let page = include_str!("../../../docs/cli.md");
        for (exit, meaning) in MEANINGS {
            let row = format!("| {} | {meaning} |", exit.code());
            assert!(page.contains(&row), "docs/cli.md lacks: {row}");
        }
    }
}
