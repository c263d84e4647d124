//! Checks: what must hold on a host before a release is activated, and after.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Invalid, duration};

/// One check. It passes once its probe passed `successes` times in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Check {
    /// What people call it; unique within a release.
    pub name: String,
    /// Before activation (as part of the preflight) or after it.
    pub when: When,
    /// What is asked of the host.
    pub probe: Probe,
    /// Longest time that one run of the probe may take.
    pub timeout: Duration,
    /// Pause between two runs of the probe.
    pub interval: Duration,
    /// Runs in a row that must pass, 1 to 100.
    pub successes: u32,
}

/// A check as it is written: the probe is the one table among four that is there.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    when: When,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exec: Option<Exec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<Tcp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<Http>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
    #[serde(default = "default_timeout", with = "duration")]
    timeout: Duration,
    #[serde(default = "default_interval", with = "duration")]
    interval: Duration,
    #[serde(default = "default_successes")]
    successes: u32,
}

impl TryFrom<Written> for Check {
    type Error = Invalid;

    fn try_from(written: Written) -> Result<Self, Invalid> {
        let probe = match (written.exec, written.tcp, written.http, written.unit) {
            (Some(exec), None, None, None) => Probe::Exec(exec),
            (None, Some(tcp), None, None) => Probe::Tcp(tcp),
            (None, None, Some(http), None) => Probe::Http(http),
            (None, None, None, Some(unit)) => Probe::Unit(unit),
            _ => {
                let problem = "must have exactly one of exec, tcp, http and unit";
                return Err(Invalid::new(format!("check {:?}", written.name), problem));
            }
        };
        Ok(Self {
            name: written.name,
            when: written.when,
            probe,
            timeout: written.timeout,
            interval: written.interval,
            successes: written.successes,
        })
    }
}

impl From<Check> for Written {
    fn from(check: Check) -> Self {
        let mut written = Self {
            name: check.name,
            when: check.when,
            exec: None,
            tcp: None,
            http: None,
            unit: None,
            timeout: check.timeout,
            interval: check.interval,
            successes: check.successes,
        };
        match check.probe {
            Probe::Exec(exec) => written.exec = Some(exec),
            Probe::Tcp(tcp) => written.tcp = Some(tcp),
            Probe::Http(http) => written.http = Some(http),
            Probe::Unit(unit) => written.unit = Some(unit),
        }
        written
    }
}

/// When a check is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// In the preflight: a failure leaves the host as it was, class `preflight`.
    Before,
    /// After activation: a failure rolls the host back, class `health`.
    #[default]
    After,
}

/// What a check does. `${NAME}` in a text is replaced by the host's variable of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is documented at its type")]
pub enum Probe {
    Exec(Exec),
    Tcp(Tcp),
    Http(Http),
    Unit(Unit),
}

/// Runs a command in the directory of the active release; exit status 0 passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// Program and arguments; a program without a slash is searched in `PATH`, a relative one in the release.
    pub command: Vec<String>,
}

/// Connects; an accepted connection passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// `host:port`.
    pub address: String,
}

/// Sends one GET over plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// `http://host:port/path`.
    pub url: String,
    /// The status that passes.
    #[serde(default = "default_status")]
    pub status: u16,
    /// Text that the first 64 KiB of the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
}

/// Asks systemd; `active` passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// The unit's full name, for example `webapp.service`.
    pub name: String,
}

fn default_timeout() -> Duration {
    Duration::from_secs(5)
}

fn default_interval() -> Duration {
    Duration::from_secs(2)
}

fn default_successes() -> u32 {
    1
}

fn default_status() -> u16 {
    200
}

impl Check {
    pub(super) fn problems(&self, found: &mut Vec<Invalid>) {
        if self.name.is_empty() || self.name.len() > 64 || self.name.chars().any(char::is_control) {
            found.push(Invalid::new(
                "name",
                "must be 1 to 64 bytes without control characters",
            ));
        }
        if !(1..=100).contains(&self.successes) {
            found.push(Invalid::new(
                "successes",
                format!("is {}, must be 1 to 100", self.successes),
            ));
        }
        if self.timeout.is_zero() {
            found.push(Invalid::new("timeout", "is 0s, must be longer"));
        }
        if self.interval.is_zero() {
            found.push(Invalid::new("interval", "is 0s, must be longer"));
        }
        self.probe.problems(found);
    }
}

impl Probe {
    fn problems(&self, found: &mut Vec<Invalid>) {
        match self {
            Self::Exec(exec) if exec.command.first().is_none_or(String::is_empty) => {
                let problem = "is empty; write [\"program\", \"argument\"]";
                found.push(Invalid::new("exec.command", problem));
            }
            Self::Exec(_) => {}
            Self::Tcp(Tcp { address }) => {
                let parts = address.rsplit_once(':');
                if parts.is_none_or(|(host, port)| host.is_empty() || port.is_empty()) {
                    found.push(Invalid::new(
                        "tcp.address",
                        format!("{address:?} must be host:port"),
                    ));
                }
            }
            Self::Http(Http { url, status, .. }) => {
                if !url.starts_with("http://") {
                    let problem = format!("{url:?} must begin with http://");
                    found.push(Invalid::new("http.url", problem));
                }
                if !(100..=599).contains(status) {
                    let problem = format!("is {status}, must be 100 to 599");
                    found.push(Invalid::new("http.status", problem));
                }
            }
            Self::Unit(Unit { name }) => {
                if !name.contains('.') || name.contains('/') {
                    let problem =
                        format!("{name:?} must be a unit's full name such as webapp.service");
                    found.push(Invalid::new("unit.name", problem));
                }
            }
        }
    }
}
