//! Facts and packages, each a call beside the link.

use std::collections::BTreeMap;

use comber_proto::agent::v1 as wire;

use super::{digest, required, time};
use crate::facts::{CpuFacts, DiskFacts, OsFacts};
use crate::packages::PackageSummary;
use crate::{Digest, Facts, Invalid};

impl From<&Facts> for wire::Facts {
    fn from(facts: &Facts) -> Self {
        let disks = facts.disks.iter().map(|(mount, disk)| wire::Disk {
            mount: mount.clone(),
            total_bytes: disk.total_bytes,
            free_bytes: disk.free_bytes,
        });
        Self {
            os_id: facts.os.id.clone(),
            os_version: facts.os.version.clone(),
            os_like: facts.os.like.clone(),
            kernel: facts.kernel.clone(),
            arch: facts.arch.clone(),
            cpu_count: facts.cpu.count,
            cpu_model: facts.cpu.model.clone(),
            memory_bytes: facts.memory_bytes,
            disk_bytes: facts.disk_bytes,
            hostname: facts.hostname.clone(),
            machine_id: facts.machine_id.clone(),
            virtualization: facts.virtualization.clone(),
            agent_version: facts.agent_version.clone(),
            timezone: facts.timezone.clone(),
            disks: disks.collect(),
            boot_id: facts.boot_id.clone(),
            booted_at: facts.booted_at.map(time::to_timestamp),
            failed_units: facts.failed_units.clone(),
            reboot_required: facts.reboot_required,
            reboot_required_by: facts.reboot_required_by.clone(),
            trust: facts.trust.clone(),
        }
    }
}

impl TryFrom<wire::Facts> for Facts {
    type Error = Invalid;

    fn try_from(facts: wire::Facts) -> Result<Self, Invalid> {
        let booted_at = facts
            .booted_at
            .map(|at| time::timestamp("facts.booted_at", Some(at)));
        let facts = Self {
            os: OsFacts {
                id: facts.os_id,
                version: facts.os_version,
                like: facts.os_like,
            },
            kernel: facts.kernel,
            arch: facts.arch,
            cpu: CpuFacts {
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
            disks: disks(facts.disks)?,
            boot_id: facts.boot_id,
            booted_at: booted_at.transpose()?,
            failed_units: facts.failed_units,
            reboot_required: facts.reboot_required,
            reboot_required_by: facts.reboot_required_by,
            trust: facts.trust,
        };
        facts.check()?;
        Ok(facts)
    }
}

fn disks(list: Vec<wire::Disk>) -> Result<BTreeMap<String, DiskFacts>, Invalid> {
    let mut disks = BTreeMap::new();
    for disk in list {
        let value = DiskFacts {
            total_bytes: disk.total_bytes,
            free_bytes: disk.free_bytes,
        };
        if disks.insert(disk.mount, value).is_some() {
            return Err(Invalid::new("facts.disks", "names a mount point twice"));
        }
    }
    Ok(disks)
}

/// Where a difference leads: the list it is against, none for a whole list, and the list that comes out.
pub fn package_change_from_wire(
    change: Option<&wire::PackageChange>,
) -> Result<(Option<Digest>, Digest), Invalid> {
    let change = required("change", change)?;
    let base = known_packages(&change.base).map_err(|error| error.within("change"))?;
    Ok((base, digest("change.result", &change.result)?))
}

/// The same for the wire.
pub fn package_change_to_wire(base: Option<Digest>, result: Digest) -> wire::PackageChange {
    wire::PackageChange {
        base: base.map_or_else(Vec::new, |digest| digest.0.to_vec()),
        result: result.0.to_vec(),
    }
}

/// The list that a controller says it holds; empty means none.
pub fn known_packages(bytes: &[u8]) -> Result<Option<Digest>, Invalid> {
    match bytes {
        [] => Ok(None),
        bytes => digest("digest", bytes).map(Some),
    }
}

/// The same for the wire.
pub fn known_packages_to_wire(held: Option<PackageSummary>) -> Vec<u8> {
    held.map_or_else(Vec::new, |held| held.digest.0.to_vec())
}
