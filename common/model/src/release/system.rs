//! What must hold of the whole host after a release was activated, beside the release's own checks.
//!
//! Values only, with the safe defaults; who judges them stands with the agent's health.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Invalid, duration};

/// Most names in [`SystemChecks::may_fail`].
const MAY_FAIL_MAX: usize = 64;
/// systemd's own limit for the name of a unit.
const UNIT_MAX: usize = 255;
/// The start of everything, a check of the file systems included. The firmware is before it and not counted.
const UP: Duration = Duration::from_mins(5);

/// `[system]`: what must hold of the host, where it runs systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SystemChecks {
    /// What is made of units that are failed after the activation and were not before it.
    pub failed_units: FailedUnits,
    /// Units whose failure does not count, by their full names.
    pub may_fail: Vec<String>,
    /// After a reboot: how long systemd may take until it has tried to start everything.
    #[serde(with = "duration")]
    pub up: Duration,
    /// True where the host must also reach its controller over a connection made after the activation.
    pub controller: bool,
}

/// What is made of newly failed units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedUnits {
    /// None may be.
    #[default]
    NoneNew,
    /// They are not looked at.
    Ignore,
}

impl Default for SystemChecks {
    fn default() -> Self {
        Self {
            failed_units: FailedUnits::default(),
            may_fail: Vec::new(),
            up: UP,
            controller: false,
        }
    }
}

impl SystemChecks {
    /// True where the release says nothing of it. Such a table is not written, so that an agent older than the table
    /// reads what a newer one wrote.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn problems(&self, found: &mut Vec<Invalid>) {
        if self.up.is_zero() || self.up > Duration::from_hours(24) {
            let problem = "must be longer than 0s and at most 1d";
            found.push(Invalid::new("system.up", problem));
        }
        if self.may_fail.len() > MAY_FAIL_MAX {
            let problem = format!("at most {MAY_FAIL_MAX} units are allowed");
            found.push(Invalid::new("system.may_fail", problem));
        }
        for unit in &self.may_fail {
            if !unit.contains('.') || unit.contains('/') || unit.len() > UNIT_MAX {
                let problem = format!("{unit:?} must be a unit's full name such as webapp.service");
                found.push(Invalid::new("system.may_fail", problem));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Manifest;

    fn manifest(system: &str) -> Result<Manifest, Vec<Invalid>> {
        let source = format!(
            "name = 'a'\nversion = '1'\n[installer]\ntype = 'archive'\npath = '/opt/a'\n{system}"
        );
        Manifest::parse(&source)
    }

    #[test]
    fn the_default_is_the_safe_one_and_leaves_no_trace() {
        let silent = manifest("").unwrap();
        assert_eq!(silent.system.failed_units, FailedUnits::NoneNew);
        assert_eq!(silent.system.up, Duration::from_mins(5));
        let written = serde_json::to_string(&silent).unwrap();
        assert!(!written.contains("system"), "{written}");
        assert_eq!(manifest("[system]").unwrap(), silent);
    }

    #[test]
    fn a_release_may_say_otherwise() {
        let system = "[system]\nfailed_units = 'ignore'\nmay_fail = ['a.service']\nup = '20m'\ncontroller = true";
        let told = manifest(system).unwrap();
        assert!(told.system.controller && told.system.may_fail == ["a.service"]);
        let written = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&written).unwrap(), told);
    }

    #[test]
    fn every_mistake_is_told() {
        let wrong = manifest("[system]\nup = '0s'\nmay_fail = ['a', 'b/c.service']").unwrap_err();
        let fields: Vec<_> = wrong.iter().map(|wrong| wrong.field.as_str()).collect();
        assert_eq!(fields, ["system.up", "system.may_fail", "system.may_fail"]);
        assert!(manifest("[system]\nfailed = 'ignore'").is_err());
    }
}
