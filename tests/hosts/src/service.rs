//! A product with a systemd unit, for the `archive` installer: each version chooses how its service behaves.
//!
//! The unit is the host's own and runs whatever `current` leads to, also at boot. Invariant: the service itself writes
//! down which version it is, so what runs is known without asking the agent.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use comber_test_support::Product;

use crate::vendor::{Made, Vendor, Wish};
use crate::{Host, HostLab};

/// The unit of the product.
pub const SERVICE_UNIT: &str = "app.service";

const UNIT: &str = "\
[Unit]
Description=The product that is rolled out
ConditionPathExists=/app/current/run

[Service]
ExecStart=/bin/sh /app/current/run

[Install]
WantedBy=multi-user.target
";

/// Where the running service says which version it is; gone after a reboot.
const SAYS: &str = "/run/app.version";

/// A line for each crash of the host that a version made.
const CRASHES: &str = "/var/lib/app.crashes";

/// Real reboots and services on a busy machine, and still soon noticed where something hangs.
const TIMEOUTS: &str = "activate = \"30s\"\nreboot = \"60s\"\n";

/// Makes releases of it.
#[derive(Debug, Default)]
pub struct Service {
    number: AtomicU32,
}

/// What a version does beyond running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// It runs.
    #[default]
    Good,
    /// It runs, and its check says that it does not work.
    Unhealthy,
    /// It runs until the host has rebooted, and does not start from then on.
    DiesAtBoot,
    /// It runs until the host has rebooted; from then on it crashes the host some seconds after each boot.
    CrashesHost,
}

impl Service {
    /// A version, to be changed further before it is published.
    pub fn version(version: &str, behaviour: Behaviour) -> Product {
        let mark = format!("/var/lib/app.started-{version}");
        let on_later_boots = match behaviour {
            Behaviour::Good | Behaviour::Unhealthy => None,
            Behaviour::DiesAtBoot => Some("exit 1".to_owned()),
            Behaviour::CrashesHost => Some(format!(
                "{{ sleep 3; echo >>{CRASHES}; sync {CRASHES}; systemctl reboot --force --force; }} &"
            )),
        };
        let first = on_later_boots.map_or_else(String::new, |then| {
            format!(
                "boot=$(cat /proc/sys/kernel/random/boot_id)\n[ -e {mark} ] || {{ echo $boot >{mark}; sync {mark}; }}\n[ $boot = $(cat {mark}) ] || {then}\n"
            )
        });
        let run = format!("{first}cat /app/current/version >{SAYS}\nexec sleep infinity\n");
        // What never works is waited for no longer than it takes to see that.
        let (works, verify) = match behaviour {
            Behaviour::Good | Behaviour::CrashesHost => ("", "20s"),
            Behaviour::Unhealthy => ("; echo the page is missing; exit 1", "2s"),
            Behaviour::DiesAtBoot => ("", "5s"),
        };
        Product {
            check: format!("[ \"$(cat {SAYS})\" = {version} ]{works}"),
            units: vec![SERVICE_UNIT.to_owned()],
            files: vec![("run".to_owned(), run.into_bytes())],
            timeouts: format!("{TIMEOUTS}verify = \"{verify}\"\n"),
            tail: format!(
                "[[check]]\nname = \"unit\"\ninterval = \"100ms\"\nunit = {{ name = \"{SERVICE_UNIT}\" }}\n"
            ),
            ..Product::good(version)
        }
    }

    /// Puts the unit onto a host, as its image would bring it.
    pub fn install_unit(host: &Host) -> Result<()> {
        host.write(
            &format!("/etc/systemd/system/{SERVICE_UNIT}"),
            UNIT.as_bytes(),
        )?;
        host.shell(&format!("systemctl enable -q {SERVICE_UNIT}; sync"))
            .map(drop)
    }

    /// The version that `current` leads to.
    pub fn installed(host: &Host) -> Option<String> {
        let version = host.read("/app/current/version")?;
        String::from_utf8(version).ok()
    }

    /// The version that runs, as it says itself.
    pub fn says(host: &Host) -> Option<String> {
        String::from_utf8(host.read(SAYS)?).ok()
    }
}

impl Vendor for Service {
    fn prepare(&self, host: &Host) -> Result<()> {
        Self::install_unit(host)
    }

    fn make(&self, lab: &HostLab, wish: &Wish) -> Result<Made> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let version = format!("{number}");
        let behaviour = if wish.good {
            Behaviour::Good
        } else {
            Behaviour::Unhealthy
        };
        let mut product = Self::version(&version, behaviour);
        product.files.push(("data".to_owned(), wish.bytes()));
        product.head = wish.head();
        lab.lab().publish(&product)?;
        Ok(Made {
            release: format!("app@{version}"),
            version,
        })
    }

    fn installed(&self, host: &Host) -> Result<Option<String>> {
        Ok(Self::installed(host))
    }

    fn prove_whole(&self, host: &Host) -> Result<()> {
        let Some(installed) = Self::installed(host) else {
            return Ok(());
        };
        let says = Self::says(host);
        ensure!(
            says.as_ref() == Some(&installed),
            "{}: {installed} is installed and {says:?} runs",
            host.name()
        );
        let data = host.read("/app/current/data").context("no data")?;
        Wish::prove(&data)
    }
}
