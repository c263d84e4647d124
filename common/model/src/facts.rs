//! What a host reports of itself. Slowly changing facts only: what changes by the minute would cost a write per host
//! and minute and select nothing. So free space is told in steps, and when the host booted in place of its uptime.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Longest text fact in bytes.
pub const TEXT_MAX: usize = 253;

/// Most file systems of one host.
pub const DISKS_MAX: usize = 16;
/// Most names of failed units, and most reasons for a reboot.
pub const NAMES_MAX: usize = 32;
/// Longest path of a mount point in bytes.
pub const MOUNT_MAX: usize = 253;
/// Free space is told in steps of this part of the whole.
const FREE_STEPS: u64 = 20;

/// The facts of one host. Field names are the names in selectors: `facts.os.id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The operating system as in os-release(5).
    pub os: OsFacts,
    /// Kernel release, as `uname -r`.
    pub kernel: String,
    /// Machine architecture, as `uname -m`: `x86_64`, `aarch64`.
    pub arch: String,
    /// The processors.
    pub cpu: CpuFacts,
    /// Memory installed, in bytes.
    pub memory_bytes: u64,
    /// Size of the file system that releases are installed on, in bytes.
    pub disk_bytes: u64,
    /// The name the host gives itself, which need not be its identity.
    pub hostname: String,
    /// `/etc/machine-id`; equal on two hosts where an image was cloned.
    pub machine_id: String,
    /// Kind of virtualisation or container, empty on bare metal.
    pub virtualization: String,
    /// Version of the agent.
    pub agent_version: String,
    /// The time zone of its clock: a name such as `Europe/Berlin`, or the rule itself; empty where it shows UTC.
    pub timezone: String,
    /// File systems on disks of the host, by mount point.
    pub disks: BTreeMap<String, DiskFacts>,
    /// The boot that the host runs in.
    pub boot_id: String,
    /// When that boot began, to the minute; its uptime follows from it.
    pub booted_at: Option<Timestamp>,
    /// Names of systemd units that failed, sorted; the first 32.
    pub failed_units: Vec<String>,
    /// True where the host asks for a reboot.
    pub reboot_required: bool,
    /// The packages that ask for it, sorted, where that is known; the first 32.
    pub reboot_required_by: Vec<String>,
    /// Whether the agent can judge what the publisher signed: `ok`, `no_root`, `expired` or `damaged`; empty where it does
    /// not say.
    pub trust: String,
}

/// One file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskFacts {
    /// Its size in bytes.
    pub total_bytes: u64,
    /// What can still be written, in bytes, in steps of a twentieth of the size.
    pub free_bytes: u64,
}

/// From os-release(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OsFacts {
    /// `ID`, for example `debian`.
    pub id: String,
    /// `VERSION_ID`, for example `12`.
    pub version: String,
    /// `ID_LIKE`, split at spaces.
    pub like: Vec<String>,
}

/// The processors of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuFacts {
    /// Logical processors.
    pub count: u32,
    /// Name of the first one.
    pub model: String,
}

impl Facts {
    /// Refuses what no host would say: texts that are too long or hold control characters.
    pub fn check(&self) -> Result<(), Invalid> {
        let texts = [
            ("facts.os.id", &self.os.id),
            ("facts.os.version", &self.os.version),
            ("facts.kernel", &self.kernel),
            ("facts.arch", &self.arch),
            ("facts.cpu.model", &self.cpu.model),
            ("facts.hostname", &self.hostname),
            ("facts.machine_id", &self.machine_id),
            ("facts.virtualization", &self.virtualization),
            ("facts.agent_version", &self.agent_version),
            ("facts.timezone", &self.timezone),
            ("facts.boot_id", &self.boot_id),
            ("facts.trust", &self.trust),
        ];
        let likes = self.os.like.iter().map(|like| ("facts.os.like", like));
        let mounts = self.disks.keys().map(|mount| ("facts.disks", mount));
        let units = self
            .failed_units
            .iter()
            .map(|unit| ("facts.failed_units", unit));
        let reasons = self
            .reboot_required_by
            .iter()
            .map(|name| ("facts.reboot_required_by", name));
        let lists = likes.chain(mounts).chain(units).chain(reasons);
        for (field, text) in texts.into_iter().chain(lists) {
            if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
                return Err(Invalid::new(
                    field,
                    format!("must be at most {TEXT_MAX} bytes without control characters"),
                ));
            }
        }
        for (field, count, max) in [
            ("facts.os.like", self.os.like.len(), 16),
            ("facts.disks", self.disks.len(), DISKS_MAX),
            ("facts.failed_units", self.failed_units.len(), NAMES_MAX),
            (
                "facts.reboot_required_by",
                self.reboot_required_by.len(),
                NAMES_MAX,
            ),
        ] {
            if count > max {
                return Err(Invalid::new(field, format!("has more than {max} entries")));
            }
        }
        Ok(())
    }

    /// Takes over from what was `told` before whatever differs only by measuring: free space that has moved by less than
    /// a step, and the beginning of the same boot, which wavers with the clock. Without this a value on the edge of a
    /// step would be news at each reading.
    #[must_use]
    pub fn settled(mut self, told: &Self) -> Self {
        for (mount, disk) in &mut self.disks {
            match told.disks.get(mount) {
                Some(before) if before.is_still(*disk) => *disk = *before,
                Some(_) | None => {
                    let step = disk.step();
                    disk.free_bytes = disk.free_bytes / step * step;
                }
            }
        }
        if !self.boot_id.is_empty() && self.boot_id == told.boot_id && told.booted_at.is_some() {
            self.booted_at = told.booted_at;
        }
        self
    }
}

impl DiskFacts {
    fn step(self) -> u64 {
        (self.total_bytes / FREE_STEPS).max(1)
    }

    /// True while what was told holds: what is measured now lies in the step that was told, or half a step beside it.
    fn is_still(self, measured: Self) -> bool {
        let margin = self.step() / 2;
        let low = self.free_bytes.saturating_sub(margin);
        let high = self.free_bytes.saturating_add(self.step() + margin);
        self.total_bytes == measured.total_bytes && (low..high).contains(&measured.free_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_free(free_bytes: u64) -> Facts {
        let disk = DiskFacts {
            total_bytes: 2000,
            free_bytes,
        };
        Facts {
            disks: BTreeMap::from([("/".to_owned(), disk)]),
            ..Facts::default()
        }
    }

    #[test]
    fn free_space_on_the_edge_of_a_step_is_told_once() {
        let mut told = Facts::default();
        let mut news = Vec::new();
        for free in [1000, 999, 1000, 951, 1100, 1149, 949, 990, 1001, 300] {
            let present = with_free(free).settled(&told);
            if present != told {
                news.push(present.disks["/"].free_bytes);
            }
            told = present;
        }
        assert_eq!(news, [1000, 900, 300]);
    }

    #[test]
    fn a_clock_that_wavers_does_not_change_when_the_host_booted() {
        let booted = |boot: &str, second| Facts {
            boot_id: boot.to_owned(),
            booted_at: Timestamp::from_second(second).ok(),
            ..Facts::default()
        };
        let told = booted("a", 60);
        assert_eq!(booted("a", 120).settled(&told), told);
        assert_eq!(booted("b", 120).settled(&told), booted("b", 120));
        assert_eq!(booted("", 120).settled(&booted("", 60)), booted("", 120));
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let many = Facts {
            failed_units: vec!["a.service".to_owned(); NAMES_MAX + 1],
            ..Facts::default()
        };
        assert_eq!(many.check().unwrap_err().field, "facts.failed_units");
        let control = Facts {
            disks: BTreeMap::from([("/a\n".to_owned(), DiskFacts::default())]),
            ..Facts::default()
        };
        assert_eq!(control.check().unwrap_err().field, "facts.disks");
        assert!(with_free(u64::MAX).settled(&with_free(3)).check().is_ok());
    }
}
