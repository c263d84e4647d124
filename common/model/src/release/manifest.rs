//! `release.toml`: what a release says of itself. It travels inside the bundle, so its digest covers it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AGENT_PRODUCT, Check, Installer, SystemChecks, When};
use crate::{Invalid, ReleaseId, ReleaseName, Version, duration};

/// Most checks of one release.
pub(super) const CHECKS_MAX: usize = 32;
/// Most entries of `requires` and `advisories`.
pub(super) const LIST_MAX: usize = 64;
/// Longest `release.toml` in bytes.
pub(super) const SOURCE_MAX: usize = 64 << 10;

/// A release's own description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The product.
    pub name: ReleaseName,
    /// Which version of it.
    pub version: Version,
    /// Orders the releases of one product; a higher one is newer. 0 where the publisher keeps no order.
    #[serde(default)]
    pub counter: u64,
    /// One line for people.
    #[serde(default)]
    pub summary: String,
    /// How bad it is to be without it.
    #[serde(default)]
    pub severity: Severity,
    /// What kind of change it is.
    #[serde(default)]
    pub category: Category,
    /// Advisories that it fixes, for example `CVE-2026-1234`.
    #[serde(default)]
    pub advisories: Vec<String>,
    /// Selector over facts: hosts it is applicable to. Absent: all.
    #[serde(default)]
    pub platforms: Option<String>,
    /// Releases that must be installed on the host before.
    #[serde(default)]
    pub requires: Vec<ReleaseId>,
    /// Whether activation needs a reboot.
    #[serde(default)]
    pub reboot: RebootPolicy,
    /// True where no way back exists. Such a release is never rolled back; a failure leaves the host `broken`.
    #[serde(default)]
    pub irreversible: bool,
    /// How the bytes become active.
    pub installer: Installer,
    /// What must hold before and after.
    #[serde(default, rename = "check")]
    pub checks: Vec<Check>,
    /// How long each step may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What must hold of the whole host after activation.
    #[serde(default, skip_serializing_if = "SystemChecks::is_default")]
    pub system: SystemChecks,
}

/// Vendors' classes of severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the vendors' own")]
pub enum Severity {
    Critical,
    Important,
    #[default]
    Moderate,
    Low,
}

/// What kind of change a release is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Closes a vulnerability.
    Security,
    /// Mends what did not work.
    #[default]
    Fix,
    /// Brings something new.
    Feature,
}

/// Whether activation needs a reboot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebootPolicy {
    /// It never does.
    #[default]
    Never,
    /// It always does; the boot id must change.
    Required,
    /// Only where the installer or the host says so.
    Auto,
}

/// How long each step of an attempt may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Each of stop, switch and start.
    #[serde(with = "duration")]
    pub activate: Duration,
    /// From the reboot request until the host is up on a new boot.
    #[serde(with = "duration")]
    pub reboot: Duration,
    /// Until every check after activation has passed.
    #[serde(with = "duration")]
    pub verify: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            activate: Duration::from_mins(5),
            reboot: Duration::from_mins(15),
            verify: Duration::from_mins(5),
        }
    }
}

impl Manifest {
    /// Reads `release.toml` and checks it whole; every problem found is told at once.
    pub fn parse(source: &str) -> Result<Self, Vec<Invalid>> {
        if source.len() > SOURCE_MAX {
            let problem = format!(
                "has {} bytes, at most {SOURCE_MAX} are allowed",
                source.len()
            );
            return Err(vec![Invalid::new("", problem)]);
        }
        let manifest: Self = toml::from_str(source)
            .map_err(|error| vec![Invalid::new("", error.to_string().trim_end().to_owned())])?;
        let problems = manifest.problems();
        if problems.is_empty() {
            Ok(manifest)
        } else {
            Err(problems)
        }
    }

    /// `name@version`.
    pub fn id(&self) -> ReleaseId {
        ReleaseId {
            name: self.name.clone(),
            version: self.version.clone(),
        }
    }

    /// The checks made at that time, in the order of the manifest.
    pub fn checks_when(&self, when: When) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.when == when)
    }

    /// Everything that is wrong with it beyond its syntax. Also run on a manifest that came over the network.
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if self.summary.len() > 200 || self.summary.chars().any(char::is_control) {
            found.push(Invalid::new(
                "summary",
                "must be one line of at most 200 bytes",
            ));
        }
        if self.requires.len() > LIST_MAX || self.advisories.len() > LIST_MAX {
            found.push(Invalid::new(
                "requires",
                format!("at most {LIST_MAX} entries are allowed here and in advisories"),
            ));
        }
        if self
            .advisories
            .iter()
            .any(|text| text.is_empty() || text.len() > 64)
        {
            found.push(Invalid::new("advisories", "each must be 1 to 64 bytes"));
        }
        if self
            .requires
            .iter()
            .any(|release| release.name == self.name)
        {
            found.push(Invalid::new("requires", "names the release's own product"));
        }
        self.platform_problems(&mut found);
        self.check_problems(&mut found);
        self.installer.problems(&mut found);
        self.system.problems(&mut found);
        self.agent_problems(&mut found);
        for (field, timeout) in [
            ("timeouts.activate", self.timeouts.activate),
            ("timeouts.reboot", self.timeouts.reboot),
            ("timeouts.verify", self.timeouts.verify),
        ] {
            if timeout.is_zero() || timeout > Duration::from_hours(24) {
                found.push(Invalid::new(field, "must be longer than 0s and at most 1d"));
            }
        }
        found
    }

    /// What the agent's watcher counts on.
    fn agent_problems(&self, found: &mut Vec<Invalid>) {
        let Installer::Agent(_) = &self.installer else {
            return;
        };
        if self.name.as_str() != AGENT_PRODUCT {
            let problem = format!("must be {AGENT_PRODUCT} with the agent installer");
            found.push(Invalid::new("name", problem));
        }
        if self.reboot != RebootPolicy::Never {
            let problem = "must be \"never\" with the agent installer, which needs none";
            found.push(Invalid::new("reboot", problem));
        }
        if self.irreversible {
            let problem = "must be false with the agent installer, which always goes back";
            found.push(Invalid::new("irreversible", problem));
        }
    }

    #[cfg(feature = "selector")]
    fn platform_problems(&self, found: &mut Vec<Invalid>) {
        if let Some(source) = &self.platforms
            && let Err(error) = crate::selector::Selector::parse(source)
        {
            found.push(error.within("platforms"));
        }
    }

    /// Without selectors compiled in, the expression is data that was checked by the controller.
    #[cfg(not(feature = "selector"))]
    fn platform_problems(&self, found: &mut Vec<Invalid>) {
        if self
            .platforms
            .as_ref()
            .is_some_and(|source| source.len() > 4096)
        {
            found.push(Invalid::new("platforms", "has more than 4096 bytes"));
        }
    }

    fn check_problems(&self, found: &mut Vec<Invalid>) {
        if self.checks.len() > CHECKS_MAX {
            found.push(Invalid::new(
                "check",
                format!("at most {CHECKS_MAX} checks are allowed"),
            ));
        }
        for (index, check) in self.checks.iter().enumerate() {
            let mut inner = Vec::new();
            check.problems(&mut inner);
            if self.checks[..index]
                .iter()
                .any(|other| other.name == check.name)
            {
                inner.push(Invalid::new(
                    "name",
                    format!("{:?} is used twice", check.name),
                ));
            }
            found.extend(
                inner
                    .into_iter()
                    .map(|error| error.within(&format!("check[{index}]"))),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Probe;

    const SMALL: &str = r#"
        name = "webapp"
        version = "2.4.1"
        [installer]
        type = "archive"
        path = "/opt/webapp"
    "#;

    #[test]
    fn the_smallest_manifest_has_safe_defaults() {
        let manifest = Manifest::parse(SMALL).unwrap();
        assert_eq!(manifest.id().to_string(), "webapp@2.4.1");
        assert_eq!(manifest.reboot, RebootPolicy::Never);
        assert!(!manifest.irreversible);
    }

    #[test]
    fn a_check_names_its_probe() {
        let source = format!(
            "{SMALL}\n[[check]]\nname = \"page\"\nhttp = {{ url = \"http://localhost:${{PORT}}/\" }}\nsuccesses = 3"
        );
        let manifest = Manifest::parse(&source).unwrap();
        assert_eq!(manifest.checks[0].successes, 3);
        assert!(matches!(&manifest.checks[0].probe, Probe::Http(http) if http.status == 200));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = Manifest::parse(&format!("sevrity = \"low\"\n{SMALL}")).unwrap_err();
        assert!(error[0].problem.contains("sevrity"), "{error:?}");
        assert!(error[0].problem.contains("line 1"), "{error:?}");
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let source = r#"
            name = "webapp"
            version = "2"
            requires = ["webapp@1"]
            [installer]
            type = "archive"
            path = "opt/../etc"
            [[check]]
            name = "a"
            successes = 0
            tcp = { address = "nowhere" }
            [timeouts]
            verify = "0s"
        "#;
        let fields: Vec<String> = Manifest::parse(source)
            .unwrap_err()
            .into_iter()
            .map(|e| e.field)
            .collect();
        let expected = [
            "requires",
            "check[0].successes",
            "check[0].tcp.address",
            "installer.path",
            "timeouts.verify",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn the_agent_s_own_release_has_one_name_no_reboot_and_a_way_back() {
        let source = r#"
            name = "comber-agent"
            version = "1.4.0"
            [installer]
            type = "agent"
        "#;
        let Installer::Agent(agent) = Manifest::parse(source).unwrap().installer else {
            panic!("another installer");
        };
        assert_eq!(agent.binary, "comber-agent");
        assert!(agent.healthy_for < agent.deadline);
        let source = r#"
            name = "agent"
            version = "1.4.0"
            reboot = "auto"
            irreversible = true
            [installer]
            type = "agent"
            binary = "../comber-agent"
            healthy_for = "20m"
        "#;
        let problems = Manifest::parse(source).unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|one| one.field.as_str()).collect();
        let expected = [
            "installer.binary",
            "installer.healthy_for",
            "name",
            "reboot",
            "irreversible",
        ];
        assert_eq!(fields, expected);
    }
}
