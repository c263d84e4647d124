//! What a host reports of itself. Slowly changing facts only: what changes by the minute would cost a write per host
//! and minute and select nothing.

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Longest text fact in bytes.
pub const TEXT_MAX: usize = 253;

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
        ];
        let likes = self.os.like.iter().map(|like| ("facts.os.like", like));
        for (field, text) in texts.into_iter().chain(likes) {
            if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
                return Err(Invalid::new(
                    field,
                    format!("must be at most {TEXT_MAX} bytes without control characters"),
                ));
            }
        }
        if self.os.like.len() > 16 {
            return Err(Invalid::new("facts.os.like", "has more than 16 entries"));
        }
        Ok(())
    }
}
