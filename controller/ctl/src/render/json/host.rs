//! Hosts.

use std::collections::BTreeMap;

use comber_proto::agent::v1 as agent;
use comber_proto::host::v1 as wire;
use serde::Serialize;

use super::packages::PackageSummary;
use super::rollout::Member;
use super::{filled, moment};
use crate::render::host::{agent_word, bar_word};

/// A host.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    id: String,
    labels: BTreeMap<String, String>,
    connected: bool,
    link_since: Option<String>,
    state: Option<String>,
    installed: Vec<String>,
    locally_bad: Vec<String>,
    desired_release: Option<String>,
    desired_rollout: Option<String>,
    desired_generation: u64,
    enrolled_at: Option<String>,
    retired_at: Option<String>,
    bar: Option<Bar>,
    facts: Option<Facts>,
    packages: Option<PackageSummary>,
}

/// Why a host is let in no more.
#[derive(Debug, Serialize)]
struct Bar {
    reason: Option<String>,
    since: Option<String>,
    detail: String,
}

#[derive(Debug, Serialize)]
struct Facts {
    os: Os,
    kernel: String,
    arch: String,
    cpu: Cpu,
    memory_bytes: u64,
    disk_bytes: u64,
    hostname: String,
    machine_id: String,
    virtualization: String,
    agent_version: String,
    timezone: String,
    disks: BTreeMap<String, Disk>,
    boot_id: String,
    booted_at: Option<String>,
    failed_units: Vec<String>,
    trust: String,
    reboot_required: bool,
    reboot_required_by: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Disk {
    total_bytes: u64,
    free_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Os {
    id: String,
    version: String,
    like: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Cpu {
    count: u32,
    model: String,
}

/// Hosts that match.
#[derive(Debug, Serialize)]
pub(crate) struct Hosts {
    hosts: Vec<Host>,
    /// How many match in all; more than are listed where the limit cut them.
    total: u32,
}

/// A host and its part in rollouts.
#[derive(Debug, Serialize)]
pub(crate) struct HostDetail {
    #[serde(flatten)]
    host: Host,
    rollouts: Vec<Part>,
}

#[derive(Debug, Serialize)]
struct Part {
    rollout: String,
    release: String,
    member: Option<Member>,
}

/// Hosts whose labels are different now.
#[derive(Debug, Serialize)]
pub(crate) struct Changed {
    /// By name.
    pub(crate) changed: Vec<String>,
}

impl From<&wire::Host> for Host {
    fn from(host: &wire::Host) -> Self {
        let actual = host.actual.clone().unwrap_or_default();
        let installed = actual
            .installed
            .iter()
            .map(|installed| installed.release.clone());
        Self {
            id: host.id.clone(),
            labels: host.labels.clone().into_iter().collect(),
            connected: host.connected,
            link_since: moment(host.link_since),
            state: filled(agent_word(host.actual.as_ref())),
            installed: installed.collect(),
            locally_bad: actual.locally_bad,
            desired_release: filled(&host.desired_release),
            desired_rollout: filled(&host.desired_rollout),
            desired_generation: host.desired_generation,
            enrolled_at: moment(host.enrolled_at),
            retired_at: moment(host.retired_at),
            bar: host.bar.as_ref().map(|bar| Bar {
                reason: filled(bar_word(host)),
                since: moment(bar.since),
                detail: bar.detail.clone(),
            }),
            facts: host.facts.as_ref().map(Facts::from),
            packages: host.packages.as_ref().map(PackageSummary::from),
        }
    }
}

impl From<&agent::Facts> for Facts {
    /// Nested as selectors name them: `facts.os.id`.
    fn from(facts: &agent::Facts) -> Self {
        let facts = facts.clone();
        let disks = facts.disks.into_iter().map(|disk| {
            let sizes = Disk {
                total_bytes: disk.total_bytes,
                free_bytes: disk.free_bytes,
            };
            (disk.mount, sizes)
        });
        Self {
            os: Os {
                id: facts.os_id,
                version: facts.os_version,
                like: facts.os_like,
            },
            kernel: facts.kernel,
            arch: facts.arch,
            cpu: Cpu {
                count: facts.cpu_count,
                model: facts.cpu_model,
            },
            memory_bytes: facts.memory_bytes,
            disk_bytes: facts.disk_bytes,
            hostname: facts.hostname,
            machine_id: facts.machine_id,
            virtualization: facts.virtualization,
            agent_version: facts.agent_version,
            timezone: facts.timezone,
            disks: disks.collect(),
            boot_id: facts.boot_id,
            booted_at: moment(facts.booted_at),
            failed_units: facts.failed_units,
            trust: facts.trust,
            reboot_required: facts.reboot_required,
            reboot_required_by: facts.reboot_required_by,
        }
    }
}

impl Hosts {
    /// Of a list that the limit may have cut.
    pub(crate) fn new(hosts: &[wire::Host], total: u32) -> Self {
        Self {
            hosts: hosts.iter().map(Host::from).collect(),
            total,
        }
    }
}

impl From<&wire::GetHostResponse> for HostDetail {
    fn from(answer: &wire::GetHostResponse) -> Self {
        let part = |part: &wire::HostRollout| Part {
            rollout: part.rollout.clone(),
            release: part.release.clone(),
            member: part.member.as_ref().map(Member::from),
        };
        Self {
            host: (&answer.host.clone().unwrap_or_default()).into(),
            rollouts: answer.rollouts.iter().map(part).collect(),
        }
    }
}
