//! The messages of the agent link: desired state down, actual state up.

use std::collections::BTreeMap;

use comber_proto::agent::v1 as wire;
use jiff::Timestamp;

use super::{bounded, digest, parsed, required, short, time};
use crate::assignment::Desired;
use crate::host::AttemptStatus;
use crate::{
    Action, AgentState, Artifact, Assignment, Generation, Grant, HostStatus, Installed, Invalid,
    Nonce, ReleaseId, ReleaseName, Report,
};

/// Most products of one host on the wire.
const INSTALLED_MAX: usize = 64;
/// Most locally bad releases on the wire.
const BAD_MAX: usize = 16;
/// Most reports in one message; the others follow once these are acknowledged.
pub(super) const REPORTS_MAX: usize = 4;

/// The desired state as the controller sends it.
pub fn desired_to_wire(epoch: [u8; 16], desired: &Desired) -> wire::DesiredState {
    wire::DesiredState {
        epoch: epoch.to_vec(),
        generation: desired.generation.0,
        assignment: desired.assignment.as_ref().map(assignment_to_wire),
        permit: desired.grant.map(|grant| wire::Permit {
            nonce: grant.nonce.0,
            ttl: Some(time::to_span(grant.ttl)),
        }),
        acknowledged_report: desired.acknowledged,
        packages: None,
    }
}

/// The desired state as an agent reads it. `granted_at` of its grant means nothing to a host and is the epoch.
pub fn desired_from_wire(state: wire::DesiredState) -> Result<([u8; 16], Desired), Invalid> {
    let epoch = state.epoch.as_slice();
    let epoch = epoch
        .try_into()
        .map_err(|_| Invalid::new("epoch", "must be 16 bytes"))?;
    let grant = state.permit.map(|permit| {
        let ttl = time::span("permit.ttl", permit.ttl)?;
        Ok(Grant {
            nonce: Nonce(permit.nonce),
            granted_at: Timestamp::UNIX_EPOCH,
            ttl,
        })
    });
    let assignment = state.assignment.map(assignment_from_wire);
    let desired = Desired {
        generation: Generation(state.generation),
        assignment: assignment
            .transpose()
            .map_err(|error| error.within("assignment"))?,
        grant: grant.transpose()?,
        acknowledged: state.acknowledged_report,
    };
    Ok((epoch, desired))
}

fn assignment_to_wire(assignment: &Assignment) -> wire::Assignment {
    let action = match &assignment.action {
        Action::Install { artifact } => wire::assignment::Action::Install(wire::Install {
            digest: artifact.digest.0.to_vec(),
            length: artifact.length,
            carried_length: artifact.carried_length,
        }),
        Action::Remove => wire::assignment::Action::Remove(wire::Remove {}),
    };
    wire::Assignment {
        rollout: assignment.rollout.to_string(),
        release: assignment.release.to_string(),
        action: Some(action),
        rolls_back: assignment.rolls_back,
        attempt: assignment.attempt,
        retry_bad: assignment.retry_bad,
        disconnected: assignment.disconnected,
    }
}

fn assignment_from_wire(assignment: wire::Assignment) -> Result<Assignment, Invalid> {
    let action = match required("action", assignment.action)? {
        wire::assignment::Action::Install(install) => Action::Install {
            artifact: Artifact {
                digest: digest("install.digest", &install.digest)?,
                length: install.length,
                carried_length: install.carried_length,
            },
        },
        wire::assignment::Action::Remove(wire::Remove {}) => Action::Remove,
    };
    if assignment.attempt == 0 {
        return Err(Invalid::new("attempt", "is 0, counts from 1"));
    }
    Ok(Assignment {
        rollout: parsed("rollout", &assignment.rollout)?,
        release: parsed("release", &assignment.release)?,
        action,
        rolls_back: assignment.rolls_back,
        attempt: assignment.attempt,
        retry_bad: assignment.retry_bad,
        disconnected: assignment.disconnected,
    })
}

impl From<&HostStatus> for wire::ActualState {
    fn from(status: &HostStatus) -> Self {
        let reports = status
            .reports
            .iter()
            .take(REPORTS_MAX)
            .cloned()
            .map(Into::into);
        Self {
            generation: status.generation.0,
            state: wire::AgentState::from(status.state).into(),
            since: Some(time::to_timestamp(status.since)),
            attempt: status.attempt.as_ref().map(attempt_to_wire),
            installed: status
                .installed
                .iter()
                .take(INSTALLED_MAX)
                .map(installed_to_wire)
                .collect(),
            locally_bad: status
                .locally_bad
                .iter()
                .rev()
                .take(BAD_MAX)
                .map(ToString::to_string)
                .collect(),
            reports: reports.collect(),
            boot_id: status.boot_id.clone(),
            agent_version: status.agent_version.clone(),
        }
    }
}

impl TryFrom<wire::ActualState> for HostStatus {
    type Error = Invalid;

    fn try_from(state: wire::ActualState) -> Result<Self, Invalid> {
        let machine = wire::AgentState::try_from(state.state)
            .map_err(|_| Invalid::new("state", format!("{} is unknown", state.state)))?;
        let attempt = state.attempt.as_ref().map(attempt_from_wire).transpose();
        Ok(Self {
            generation: Generation(state.generation),
            state: machine.try_into()?,
            since: time::timestamp("since", state.since)?,
            attempt: attempt.map_err(|error| error.within("attempt"))?,
            installed: installed_from_wire(state.installed)?,
            locally_bad: bounded("locally_bad", state.locally_bad, BAD_MAX)?
                .iter()
                .map(|text| parsed("locally_bad", text))
                .collect::<Result<_, _>>()?,
            reports: reports_from_wire(state.reports)?,
            boot_id: short("boot_id", state.boot_id, 64)?,
            agent_version: short("agent_version", state.agent_version, 64)?,
        })
    }
}

fn attempt_to_wire(attempt: &AttemptStatus) -> wire::Attempt {
    wire::Attempt {
        generation: attempt.generation.0,
        rollout: attempt.rollout.to_string(),
        release: attempt.release.to_string(),
        number: attempt.number,
        nonce: attempt.nonce.map_or(0, |nonce| nonce.0),
    }
}

fn attempt_from_wire(attempt: &wire::Attempt) -> Result<AttemptStatus, Invalid> {
    Ok(AttemptStatus {
        generation: Generation(attempt.generation),
        rollout: parsed("rollout", &attempt.rollout)?,
        release: parsed("release", &attempt.release)?,
        number: attempt.number,
        nonce: (attempt.nonce != 0).then_some(Nonce(attempt.nonce)),
    })
}

fn installed_to_wire((name, installed): (&ReleaseName, &Installed)) -> wire::InstalledRelease {
    wire::InstalledRelease {
        release: ReleaseId {
            name: name.clone(),
            version: installed.version.clone(),
        }
        .to_string(),
        digest: installed.digest.0.to_vec(),
        previous_version: installed
            .previous
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
    }
}

fn installed_from_wire(
    list: Vec<wire::InstalledRelease>,
) -> Result<BTreeMap<ReleaseName, Installed>, Invalid> {
    let mut installed = BTreeMap::new();
    for entry in bounded("installed", list, INSTALLED_MAX)? {
        let release: ReleaseId = parsed("installed.release", &entry.release)?;
        let previous = match entry.previous_version.as_str() {
            "" => None,
            text => Some(parsed("installed.previous_version", text)?),
        };
        let digest = digest("installed.digest", &entry.digest)?;
        let value = Installed {
            version: release.version,
            digest,
            previous,
        };
        if installed.insert(release.name.clone(), value).is_some() {
            let problem = format!("{} is there twice", release.name);
            return Err(Invalid::new("installed", problem));
        }
    }
    Ok(installed)
}

fn reports_from_wire(list: Vec<wire::Report>) -> Result<Vec<Report>, Invalid> {
    let reports = bounded("reports", list, REPORTS_MAX)?
        .into_iter()
        .enumerate()
        .map(|(index, report)| {
            report
                .try_into()
                .map_err(|e: Invalid| e.within(&format!("reports[{index}]")))
        })
        .collect::<Result<Vec<Report>, _>>()?;
    if reports
        .windows(2)
        .any(|pair| pair[0].number >= pair[1].number)
    {
        return Err(Invalid::new(
            "reports",
            "are not in the order of their numbers",
        ));
    }
    Ok(reports)
}

impl From<AgentState> for wire::AgentState {
    fn from(state: AgentState) -> Self {
        match state {
            AgentState::Idle => Self::Idle,
            AgentState::Fetching => Self::Fetching,
            AgentState::Staged => Self::Staged,
            AgentState::AwaitingPermit => Self::AwaitingPermit,
            AgentState::Activating => Self::Activating,
            AgentState::Rebooting => Self::Rebooting,
            AgentState::Verifying => Self::Verifying,
            AgentState::Committed => Self::Committed,
            AgentState::RollingBack => Self::RollingBack,
            AgentState::RolledBack => Self::RolledBack,
            AgentState::Broken => Self::Broken,
        }
    }
}

impl TryFrom<wire::AgentState> for AgentState {
    type Error = Invalid;

    fn try_from(state: wire::AgentState) -> Result<Self, Invalid> {
        match state {
            wire::AgentState::Unspecified => Err(Invalid::new("state", "is missing")),
            wire::AgentState::Idle => Ok(Self::Idle),
            wire::AgentState::Fetching => Ok(Self::Fetching),
            wire::AgentState::Staged => Ok(Self::Staged),
            wire::AgentState::AwaitingPermit => Ok(Self::AwaitingPermit),
            wire::AgentState::Activating => Ok(Self::Activating),
            wire::AgentState::Rebooting => Ok(Self::Rebooting),
            wire::AgentState::Verifying => Ok(Self::Verifying),
            wire::AgentState::Committed => Ok(Self::Committed),
            wire::AgentState::RollingBack => Ok(Self::RollingBack),
            wire::AgentState::RolledBack => Ok(Self::RolledBack),
            wire::AgentState::Broken => Ok(Self::Broken),
        }
    }
}
