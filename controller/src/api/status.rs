//! Errors as gRPC statuses: the one place where that is decided.

use comber_model::Invalid;
use tonic::Status;

use crate::artifact::ArtifactError;
use crate::core::CoreError;
use crate::pki::IssueError;

impl From<CoreError> for Status {
    fn from(error: CoreError) -> Self {
        let text = error.to_string();
        match error {
            CoreError::NotFound { .. } => Self::not_found(text),
            CoreError::Refused(_) => Self::failed_precondition(text),
            CoreError::Invalid(_) => Self::invalid_argument(text),
            CoreError::Exists(_) => Self::already_exists(text),
            CoreError::Unauthenticated(_) => Self::unauthenticated(text),
            CoreError::OutOfRange { .. } => Self::out_of_range(text),
            CoreError::Stopped(_) => Self::unavailable(text),
        }
    }
}

impl From<ArtifactError> for Status {
    fn from(error: ArtifactError) -> Self {
        let text = comber_runtime::telemetry::error_chain(&error);
        match error {
            ArtifactError::Full { .. } => Self::resource_exhausted(text),
            ArtifactError::TooLarge { .. } | ArtifactError::Offset { .. } => {
                Self::failed_precondition(text)
            }
            ArtifactError::Bundle { .. } | ArtifactError::OtherDigest { .. } => {
                Self::invalid_argument(text)
            }
            ArtifactError::Busy { .. } => Self::aborted(text),
            ArtifactError::Missing { .. } => Self::not_found(text),
            ArtifactError::Io { .. } => {
                tracing::error!(error = text, "the artifact directory failed");
                Self::internal(text)
            }
        }
    }
}

/// One field that does not do.
pub(super) fn invalid(error: &Invalid) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Fields that do not do, a line each.
pub(super) fn all_invalid(errors: &[Invalid]) -> Status {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Status::invalid_argument(lines.join("\n"))
}

/// A certificate that could not be issued.
pub(super) fn not_issued(error: &IssueError) -> Status {
    Status::invalid_argument(comber_runtime::telemetry::error_chain(error))
}
