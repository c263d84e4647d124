//! Why a release is not installed: the rule, in words for the host's administrator and the operator.

use std::io;
use std::path::PathBuf;

use comber_bundle::Refused;
use comber_model::{FailureClass, ReleaseId};
use comber_trust::{RecordError, Unlisted, VerifyError};
use thiserror::Error;

use super::place::PinError;

/// Why bytes, or an assignment, are not trusted.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The carried bytes.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The bundle breaks a rule or is another one.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A sound bundle of something else.
    #[error("the bundle says that it is {found}, {assigned} was assigned")]
    OtherRelease {
        /// What was assigned.
        assigned: ReleaseId,
        /// What the bundle's manifest says.
        found: ReleaseId,
    },
    /// Nobody said whom to believe.
    #[error(
        "no_root: this host knows no publisher and installs nothing; hand it the publisher's root with: comber-agent trust init FILE"
    )]
    NoRoot,
    /// The record was lost or damaged: nothing that was trusted before is forgotten by itself.
    #[error(
        "trust_record: nothing is installed until somebody on this host has looked and begins anew with: comber-agent trust reset FILE"
    )]
    Record(#[source] RecordError),
    /// Whoever controls the network hides newer metadata, or the publisher forgot to renew it.
    #[error("metadata_expired")]
    Expired(#[source] VerifyError),
    /// Somebody shows metadata that does not verify.
    #[error("metadata_refused")]
    Metadata(#[source] VerifyError),
    /// It cannot be had now.
    #[error("the publisher's metadata cannot be had, and what is kept does not list it")]
    Away(#[source] VerifyError),
    /// Signed, and still not to be installed.
    #[error("not_listed")]
    Unlisted(#[source] Unlisted),
    /// More bytes are announced than the signed length can ever need.
    #[error(
        "{carried} bytes are announced for a release of {length}; nothing carries it with so many"
    )]
    Endless {
        /// As announced.
        carried: u64,
        /// As signed.
        length: u64,
    },
    /// The lock or the marker beside the record.
    #[error(transparent)]
    Place(#[from] PinError),
}

impl TrustError {
    /// A disk or a network that fails is no fault of the publisher.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Open { .. } | Self::Away(_) | Self::Place(_) => FailureClass::Fetch,
            Self::Refused(refused) if refused.is_retryable() => FailureClass::Fetch,
            Self::Refused(_)
            | Self::OtherRelease { .. }
            | Self::NoRoot
            | Self::Record(_)
            | Self::Expired(_)
            | Self::Metadata(_)
            | Self::Unlisted(_)
            | Self::Endless { .. } => FailureClass::Trust,
        }
    }
}
