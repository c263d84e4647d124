//! Environments: what hosts differ in that may matter to a release, and which of them a rollout has tried.
//!
//! An environment is one value of one trait, such as kernel 6.1.0-18. They are listed once, when a rollout selects its
//! hosts, since a release may change the very facts that were looked at.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::packages::Versions;
use crate::{Host, Invalid};

/// Most environments of one rollout: they stand in its record, and a trait with more values tells hosts apart, not
/// environments.
pub const ENVIRONMENTS_MAX: usize = 200;
/// Most traits of one rollout.
pub(super) const TRAITS_MAX: usize = 10;

/// Something in which hosts differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trait {
    /// Operating system and its version.
    Os,
    /// Kernel release.
    Kernel,
    /// Machine architecture.
    Arch,
    /// Kind of virtualisation.
    Virtualization,
    /// Version of the agent.
    Agent,
    /// The set of all packages, by its digest.
    Packages,
    /// Version of one package.
    Package(String),
    /// Value of one label.
    Label(String),
}

impl Trait {
    /// What is looked at where a rollout says nothing.
    pub fn default_list() -> Vec<Self> {
        vec![Self::Os, Self::Kernel, Self::Arch]
    }

    /// The host's value; what it does not have is a value too.
    pub fn of(&self, host: &Host, versions: &Versions) -> String {
        let facts = &host.facts;
        let text = match self {
            Self::Os => format!("{} {}", facts.os.id, facts.os.version)
                .trim()
                .to_owned(),
            Self::Kernel => facts.kernel.clone(),
            Self::Arch => facts.arch.clone(),
            Self::Virtualization => facts.virtualization.clone(),
            Self::Agent => facts.agent_version.clone(),
            Self::Packages => host
                .packages
                .as_ref()
                .map_or_else(String::new, |set| set.digest.to_string()[..12].to_owned()),
            Self::Package(name) => versions.get(name).unwrap_or_default().to_owned(),
            Self::Label(key) => host.labels.get(key).unwrap_or_default().to_owned(),
        };
        if text.is_empty() {
            "none".to_owned()
        } else {
            text
        }
    }
}

impl fmt::Display for Trait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os => f.write_str("os"),
            Self::Kernel => f.write_str("kernel"),
            Self::Arch => f.write_str("arch"),
            Self::Virtualization => f.write_str("virtualization"),
            Self::Agent => f.write_str("agent"),
            Self::Packages => f.write_str("packages"),
            Self::Package(name) => write!(f, "packages.{name}"),
            Self::Label(key) => write!(f, "labels.{key}"),
        }
    }
}

impl FromStr for Trait {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let named = |rest: &str| !rest.is_empty() && rest.len() <= 128;
        match text {
            "os" => Ok(Self::Os),
            "kernel" => Ok(Self::Kernel),
            "arch" => Ok(Self::Arch),
            "virtualization" => Ok(Self::Virtualization),
            "agent" => Ok(Self::Agent),
            "packages" => Ok(Self::Packages),
            other => match (
                other.strip_prefix("packages."),
                other.strip_prefix("labels."),
            ) {
                (Some(name), _) if named(name) => Ok(Self::Package(name.to_owned())),
                (_, Some(key)) if named(key) => Ok(Self::Label(key.to_owned())),
                _ => {
                    let problem = format!(
                        "{text:?} is none of os, kernel, arch, virtualization, agent, packages, packages.NAME, labels.KEY"
                    );
                    Err(Invalid::new("", problem))
                }
            },
        }
    }
}

impl Serialize for Trait {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Trait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One value of one trait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// In what hosts differ.
    #[serde(rename = "trait")]
    pub kind: Trait,
    /// The value.
    pub value: String,
    /// Hosts that had it when the rollout selected its hosts.
    pub hosts: u32,
    /// Those of them in the first wave.
    pub first_wave: u32,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.value)
    }
}

/// The environments among the hosts of a rollout, in the order in which members name them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cover {
    /// Each one once.
    pub environments: Vec<Environment>,
}

impl Cover {
    /// How many of them a test is true for, and the names of the others.
    pub fn count(&self, is_covered: impl Fn(usize) -> bool) -> Coverage {
        let environments = self.environments.iter().enumerate();
        let missing: Vec<String> = environments
            .filter(|(index, _)| !is_covered(*index))
            .map(|(_, environment)| format!("{environment} ({} hosts)", environment.hosts))
            .collect();
        Coverage {
            covered: self.environments.len() - missing.len(),
            environments: self.environments.len(),
            missing,
        }
    }

    /// What the first wave covers.
    pub fn of_first_wave(&self) -> Coverage {
        self.count(|index| self.environments[index].first_wave > 0)
    }
}

/// How many environments of how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// So many.
    pub covered: usize,
    /// Of so many.
    pub environments: usize,
    /// The others, for people.
    pub missing: Vec<String>,
}

/// Environments that are named in one line.
const MISSING_SHOWN: usize = 5;

impl Coverage {
    /// The ones that are not covered, in one line; empty where all are.
    pub fn missing(&self) -> String {
        let mut shown: Vec<String> = self.missing.iter().take(MISSING_SHOWN).cloned().collect();
        let more = self.missing.len().saturating_sub(MISSING_SHOWN);
        if more > 0 {
            shown.push(format!("and {more} more"));
        }
        shown.join(", ")
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (covered, environments) = (self.covered, self.environments);
        write!(f, "covers {covered} of {environments} environments")?;
        if self.missing.is_empty() {
            return Ok(());
        }
        write!(f, "; not covered: {}", self.missing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traits_read_back_as_written() {
        for text in [
            "os",
            "kernel",
            "arch",
            "virtualization",
            "agent",
            "packages",
            "packages.openssl",
            "labels.role",
        ] {
            assert_eq!(text.parse::<Trait>().unwrap().to_string(), text);
        }
        for bad in ["", "role", "labels.", "facts.kernel", "packages."] {
            assert!(bad.parse::<Trait>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn what_is_not_covered_is_named_in_one_line() {
        let environment = |number: usize| Environment {
            kind: Trait::Kernel,
            value: format!("6.{number}"),
            hosts: 3,
            first_wave: u32::from(number < 2),
        };
        let cover = Cover {
            environments: (0..9).map(environment).collect(),
        };
        assert_eq!(
            cover.of_first_wave().to_string(),
            "covers 2 of 9 environments; not covered: kernel 6.2 (3 hosts), kernel 6.3 (3 hosts), \
             kernel 6.4 (3 hosts), kernel 6.5 (3 hosts), kernel 6.6 (3 hosts), and 2 more"
        );
        assert_eq!(
            cover.count(|_| true).to_string(),
            "covers 9 of 9 environments"
        );
    }
}
