//! How the bytes of a release become active on a host: one recipe for each installer.
//!
//! Values only, with the checks of each; what they do stands with the agent's installers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Invalid, duration};

/// Longest text of a module's metadata, as JSON.
const METADATA_MAX: usize = 16 << 10;

/// How the bytes become active on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Installer {
    /// Unpacks beside the active version and switches a symbolic link.
    Archive(ArchiveInstaller),
    /// Gives the packages in the release to the host's own package manager.
    Package(PackageInstaller),
    /// Calls an executable that speaks the Update Modules protocol, version 3.
    Module(ModuleInstaller),
    /// Replaces Comber's own agent.
    Agent(AgentInstaller),
}

impl Installer {
    /// The word used in files, logs and tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Archive(_) => "archive",
            Self::Package(_) => "package",
            Self::Module(_) => "module",
            Self::Agent(_) => "agent",
        }
    }

    pub(super) fn problems(&self, found: &mut Vec<Invalid>) {
        match self {
            Self::Archive(archive) => archive.problems(found),
            Self::Package(package) => package.problems(found),
            Self::Module(module) => module.problems(found),
            Self::Agent(agent) => agent.problems(found),
        }
    }
}

/// The recipe of the `archive` installer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveInstaller {
    /// Absolute directory of the product: holds `releases/` and the link `current`.
    pub path: String,
    /// systemd units started after the switch and stopped before it.
    #[serde(default)]
    pub units: Vec<String>,
    /// Command that starts the product, run in `current`.
    #[serde(default)]
    pub start: Vec<String>,
    /// Command that stops the version that is active, run in its directory before the switch.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Command run after the switch in place of stop and start, where the product can change over by itself.
    #[serde(default)]
    pub restart: Vec<String>,
}

/// The recipe of the `package` installer. The packages are the release's `*.deb` and `*.rpm` files; a host takes those of
/// its own package manager and architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageInstaller {
    /// Where packages that are needed beside the carried ones may come from.
    #[serde(default)]
    pub dependencies: Dependencies,
    /// True where a package that the host does not have is not brought to it: the release is not applicable where the
    /// host has none of its packages.
    #[serde(default)]
    pub only_installed: bool,
    /// What becomes of a package that the host has in a newer version.
    #[serde(default)]
    pub newer: Newer,
    /// How long to wait for somebody else who holds the package manager's lock.
    #[serde(default = "default_lock_wait", with = "duration")]
    pub lock_wait: Duration,
}

/// Where packages that are needed beside the carried ones may come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dependencies {
    /// From the release only: a host that needs more refuses it before anything is changed.
    #[default]
    Carried,
    /// Also from the sources that the host has configured.
    Host,
}

/// What becomes of a package that the host has in a newer version than the release carries. One that an earlier release of
/// the same product brought is replaced in any case: that is going back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Newer {
    /// It stays, and satisfies the release.
    #[default]
    Keep,
    /// The carried one is installed in its place.
    Replace,
}

/// The recipe of the `module` installer. The payload is the release's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleInstaller {
    /// The payload type: the name of the executable among the host's modules.
    pub module: String,
    /// Path of the executable inside the release, below `files/`, where the release brings its own.
    #[serde(default)]
    pub carried: Option<String>,
    /// What the module finds in `header/meta-data`.
    #[serde(default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Longest time of each call.
    #[serde(default = "default_call", with = "duration")]
    pub timeout: Duration,
}

/// The recipe of the `agent` installer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentInstaller {
    /// Path of the agent's executable inside the release, below `files/`.
    #[serde(default = "default_binary")]
    pub binary: String,
    /// How long the new agent must run, connected to the controller, before it is kept.
    #[serde(default = "default_healthy_for", with = "duration")]
    pub healthy_for: Duration,
    /// When the new agent has not been kept by then, the watcher restores the old one.
    #[serde(default = "default_deadline", with = "duration")]
    pub deadline: Duration,
}

fn default_lock_wait() -> Duration {
    Duration::from_mins(10)
}

fn default_call() -> Duration {
    Duration::from_hours(4)
}

fn default_binary() -> String {
    "comber-agent".to_owned()
}

fn default_healthy_for() -> Duration {
    Duration::from_mins(2)
}

fn default_deadline() -> Duration {
    Duration::from_mins(10)
}

impl ArchiveInstaller {
    fn problems(&self, found: &mut Vec<Invalid>) {
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        let absolute = self
            .path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(plain));
        if !absolute || self.path.len() > 1024 || self.path.contains('\0') {
            found.push(Invalid::new(
                "installer.path",
                format!(
                    "{:?} must be an absolute directory without . or .. such as /opt/webapp",
                    self.path
                ),
            ));
        }
        for unit in &self.units {
            if !unit.contains('.') || unit.contains('/') {
                let problem = format!("{unit:?} must be a unit's full name such as webapp.service");
                found.push(Invalid::new("installer.units", problem));
            }
        }
        if !self.restart.is_empty() && !self.start.is_empty() {
            found.push(Invalid::new(
                "installer.restart",
                "stands beside start; give either restart, or start and stop",
            ));
        }
    }
}

impl PackageInstaller {
    fn problems(&self, found: &mut Vec<Invalid>) {
        within_a_day("installer.lock_wait", self.lock_wait, found);
    }
}

impl ModuleInstaller {
    fn problems(&self, found: &mut Vec<Invalid>) {
        if !is_module_name(&self.module) {
            let problem = format!(
                "{:?} must be the name of a module such as single-file",
                self.module
            );
            found.push(Invalid::new("installer.module", problem));
        }
        if let Some(carried) = &self.carried {
            inside("installer.carried", carried, found);
        }
        // A map of JSON values is always written.
        let length = serde_json::to_string(&self.metadata).map_or(usize::MAX, |text| text.len());
        if length > METADATA_MAX {
            let problem = format!("has {length} bytes as JSON, at most {METADATA_MAX} are allowed");
            found.push(Invalid::new("installer.metadata", problem));
        }
        within_a_day("installer.timeout", self.timeout, found);
    }
}

impl AgentInstaller {
    fn problems(&self, found: &mut Vec<Invalid>) {
        inside("installer.binary", &self.binary, found);
        within_a_day("installer.deadline", self.deadline, found);
        if self.healthy_for >= self.deadline {
            let problem = "must be shorter than installer.deadline";
            found.push(Invalid::new("installer.healthy_for", problem));
        }
    }
}

/// The name is looked up in a directory: it must not lead out of it, nor be taken for an option.
fn is_module_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len())
        && name.bytes().all(plain)
        && name.as_bytes()[0].is_ascii_alphanumeric()
}

/// A relative path that stays inside the release.
fn inside(field: &'static str, path: &str, found: &mut Vec<Invalid>) {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if path.len() > 1024 || path.contains('\0') || !path.split('/').all(plain) {
        let problem = format!("{path:?} must be a path inside the release without . or ..");
        found.push(Invalid::new(field, problem));
    }
}

fn within_a_day(field: &'static str, value: Duration, found: &mut Vec<Invalid>) {
    if value.is_zero() || value > Duration::from_hours(24) {
        found.push(Invalid::new(field, "must be longer than 0s and at most 1d"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(module: &str, more: &str) -> Vec<String> {
        let installer: Installer =
            toml::from_str(&format!("type = 'module'\nmodule = '{module}'\n{more}")).unwrap();
        let mut found = Vec::new();
        installer.problems(&mut found);
        found.into_iter().map(|invalid| invalid.field).collect()
    }

    #[test]
    fn the_name_of_a_module_cannot_lead_out_of_its_directory() {
        for good in ["single-file", "rootfs_v2", "a", "0.x"] {
            assert_eq!(problems(good, ""), [] as [&str; 0], "{good}");
        }
        let long = "a".repeat(65);
        for bad in [
            "", ".", "..", "../sh", "a/b", "-rf", ".hidden", "a b", &long,
        ] {
            assert_eq!(problems(bad, ""), ["installer.module"], "{bad}");
        }
    }

    #[test]
    fn a_module_recipe_is_checked_whole() {
        let long = format!("metadata = {{ a = '{}' }}", "x".repeat(METADATA_MAX));
        for (more, field) in [
            ("carried = '../m'", "installer.carried"),
            ("carried = '/bin/sh'", "installer.carried"),
            ("timeout = '0s'", "installer.timeout"),
            ("timeout = '25h'", "installer.timeout"),
            (long.as_str(), "installer.metadata"),
        ] {
            assert_eq!(problems("m", more), [field], "{more}");
        }
    }
}
