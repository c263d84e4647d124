//! Explanations.

use comber_proto::host::v1 as host;
use comber_proto::rollout::v1 as rollout;
use serde::Serialize;

use super::Host;
use super::rollout::{Hold, Member, Rollout};

/// Why a host is where it is.
#[derive(Debug, Serialize)]
pub(crate) struct HostExplanation {
    host: Option<Host>,
    rollouts: Vec<HostPart>,
}

#[derive(Debug, Serialize)]
struct HostPart {
    rollout: String,
    release: String,
    member: Option<Member>,
    holds: Vec<Hold>,
}

/// Why a rollout is where it is.
#[derive(Debug, Serialize)]
pub(crate) struct RolloutExplanation {
    rollout: Option<Rollout>,
    holds: Vec<Hold>,
    waves: Vec<WaveHolds>,
    failed: Vec<Member>,
    next: Vec<String>,
}

#[derive(Debug, Serialize)]
struct WaveHolds {
    number: u32,
    holds: Vec<Hold>,
    hosts: Vec<HeldHosts>,
}

#[derive(Debug, Serialize)]
struct HeldHosts {
    hold: Option<Hold>,
    count: u32,
    example: String,
}

impl From<&host::ExplainHostResponse> for HostExplanation {
    fn from(answer: &host::ExplainHostResponse) -> Self {
        let part = |part: &host::HostExplanation| HostPart {
            rollout: part.rollout.clone(),
            release: part.release.clone(),
            member: part.member.as_ref().map(Member::from),
            holds: part.holds.iter().map(Hold::from).collect(),
        };
        Self {
            host: answer.host.as_ref().map(Host::from),
            rollouts: answer.rollouts.iter().map(part).collect(),
        }
    }
}

impl From<&rollout::ExplainRolloutResponse> for RolloutExplanation {
    fn from(answer: &rollout::ExplainRolloutResponse) -> Self {
        let held = |held: &rollout::HeldHosts| HeldHosts {
            hold: held.hold.as_ref().map(Hold::from),
            count: held.count,
            example: held.example.clone(),
        };
        let wave = |wave: &rollout::WaveHolds| WaveHolds {
            number: wave.number,
            holds: wave.holds.iter().map(Hold::from).collect(),
            hosts: wave.hosts.iter().map(held).collect(),
        };
        Self {
            rollout: answer.rollout.as_ref().map(Rollout::from),
            holds: answer.holds.iter().map(Hold::from).collect(),
            waves: answer.waves.iter().map(wave).collect(),
            failed: answer.failed.iter().map(Member::from).collect(),
            next: answer.next.clone(),
        }
    }
}
