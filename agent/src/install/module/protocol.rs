//! The words of the Update Modules protocol, version 3: what a module is told and what it may answer.
//!
//! Pure. Invariant: an answer is taken whole or not at all; a word that the protocol does not know is never taken for
//! its default.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was last begun of a change. In the order of the way forward, then of the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum State {
    /// No call: the tree is being made.
    Prepare,
    /// The module takes the payload, or leaves it to the agent.
    Download,
    /// Into its place.
    ArtifactInstall,
    /// A query, and a step of the way forward: its failure is one of the change.
    NeedsArtifactReboot,
    /// The module's own way to reboot, or the host's.
    ArtifactReboot,
    /// Whether the reboot came to what it should.
    ArtifactVerifyReboot,
    /// Makes it final; the way back stays until `Cleanup`.
    ArtifactCommit,
    /// Back to what was before.
    ArtifactRollback,
    /// A reboot out of the change.
    ArtifactRollbackReboot,
    /// Whether that came to what it should.
    ArtifactVerifyRollbackReboot,
    /// The change has failed; after the way back.
    ArtifactFailure,
    /// The end, whatever came before.
    Cleanup,
    /// No call: nothing is left to do.
    Done,
}

/// What a module is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    /// Whether it wants to know the sizes of what it reads.
    ProvidePayloadFileSizes,
    /// Whether it can go back.
    SupportsRollback,
    /// Whether what it did takes a reboot.
    NeedsArtifactReboot,
}

/// Whether a change takes a reboot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reboot {
    /// It does not.
    #[default]
    No,
    /// The module reboots something in `ArtifactReboot`.
    Yes,
    /// The host is to be rebooted.
    Automatic,
}

impl State {
    /// The first argument of the call.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "Prepare",
            Self::Download => "Download",
            Self::ArtifactInstall => "ArtifactInstall",
            Self::NeedsArtifactReboot => "NeedsArtifactReboot",
            Self::ArtifactReboot => "ArtifactReboot",
            Self::ArtifactVerifyReboot => "ArtifactVerifyReboot",
            Self::ArtifactCommit => "ArtifactCommit",
            Self::ArtifactRollback => "ArtifactRollback",
            Self::ArtifactRollbackReboot => "ArtifactRollbackReboot",
            Self::ArtifactVerifyRollbackReboot => "ArtifactVerifyRollbackReboot",
            Self::ArtifactFailure => "ArtifactFailure",
            Self::Cleanup => "Cleanup",
            Self::Done => "Done",
        }
    }
}

impl Query {
    /// The first argument of the call.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ProvidePayloadFileSizes => "ProvidePayloadFileSizes",
            Self::SupportsRollback => "SupportsRollback",
            Self::NeedsArtifactReboot => "NeedsArtifactReboot",
        }
    }

    /// The answers that there are, for messages.
    pub(super) fn allowed(self) -> &'static str {
        match self {
            Self::ProvidePayloadFileSizes | Self::SupportsRollback => "Yes or No",
            Self::NeedsArtifactReboot => "No, Yes or Automatic",
        }
    }

    /// Reads an answer; nothing is the default. `None` where it is none of the protocol.
    pub(super) fn parse(self, answer: &[u8]) -> Option<Reboot> {
        let line = answer.strip_suffix(b"\n").unwrap_or(answer);
        match (self, line) {
            (_, b"" | b"No") => Some(Reboot::No),
            (_, b"Yes") => Some(Reboot::Yes),
            (Self::NeedsArtifactReboot, b"Automatic") => Some(Reboot::Automatic),
            (_, _) => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_word_of_the_protocol_or_none() {
        for query in [
            Query::ProvidePayloadFileSizes,
            Query::SupportsRollback,
            Query::NeedsArtifactReboot,
        ] {
            for (answer, expected) in [
                ("", Some(Reboot::No)),
                ("\n", Some(Reboot::No)),
                ("No\n", Some(Reboot::No)),
                ("No", Some(Reboot::No)),
                ("Yes\n", Some(Reboot::Yes)),
                ("yes\n", None),
                ("Yes \n", None),
                ("Yes\nNo\n", None),
                ("Yes\n\n", None),
                ("\nYes\n", None),
                ("Yes\r\n", None),
                ("Maybe\n", None),
                ("\0", None),
            ] {
                assert_eq!(
                    query.parse(answer.as_bytes()),
                    expected,
                    "{query} {answer:?}"
                );
            }
        }
        let automatic = b"Automatic\n";
        assert_eq!(
            Query::NeedsArtifactReboot.parse(automatic),
            Some(Reboot::Automatic)
        );
        assert_eq!(Query::SupportsRollback.parse(automatic), None);
    }
}
