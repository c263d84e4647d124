//! Failures on the wire.

use comber_proto::agent::v1 as wire;

use crate::{Failure, FailureClass, Invalid};

impl From<FailureClass> for wire::FailureClass {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Fetch => Self::Fetch,
            FailureClass::Trust => Self::Trust,
            FailureClass::Preflight => Self::Preflight,
            FailureClass::Install => Self::Install,
            FailureClass::Reboot => Self::Reboot,
            FailureClass::Health => Self::Health,
            FailureClass::Rollback => Self::Rollback,
            FailureClass::Timeout => Self::Timeout,
            FailureClass::Silent => Self::Silent,
            FailureClass::Rejected => Self::Rejected,
        }
    }
}

impl TryFrom<wire::FailureClass> for FailureClass {
    type Error = Invalid;

    fn try_from(class: wire::FailureClass) -> Result<Self, Invalid> {
        match class {
            wire::FailureClass::Unspecified => Err(Invalid::new("class", "is missing")),
            wire::FailureClass::Fetch => Ok(Self::Fetch),
            wire::FailureClass::Trust => Ok(Self::Trust),
            wire::FailureClass::Preflight => Ok(Self::Preflight),
            wire::FailureClass::Install => Ok(Self::Install),
            wire::FailureClass::Reboot => Ok(Self::Reboot),
            wire::FailureClass::Health => Ok(Self::Health),
            wire::FailureClass::Rollback => Ok(Self::Rollback),
            wire::FailureClass::Timeout => Ok(Self::Timeout),
            wire::FailureClass::Silent => Ok(Self::Silent),
            wire::FailureClass::Rejected => Ok(Self::Rejected),
        }
    }
}

impl From<Failure> for wire::Failure {
    fn from(failure: Failure) -> Self {
        let class = wire::FailureClass::from(failure.class);
        Self {
            class: class.into(),
            detail: failure.detail,
        }
    }
}

impl TryFrom<wire::Failure> for Failure {
    type Error = Invalid;

    /// A detail that is too long is cut, not refused: the report must not be lost for it.
    fn try_from(failure: wire::Failure) -> Result<Self, Invalid> {
        let class = wire::FailureClass::try_from(failure.class)
            .map_err(|_| Invalid::new("class", format!("{} is unknown", failure.class)))?;
        let detail: String = failure
            .detail
            .chars()
            .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
            .collect();
        Ok(Self::new(class.try_into()?, detail))
    }
}
