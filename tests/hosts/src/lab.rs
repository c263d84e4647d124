//! A controller with real hosts: the fleet, the controller and `comber` in its namespace, an agent on each host.
//!
//! Invariant: where it goes, the hosts' journals go into the directory of a test that failed before the hosts go.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use comber_test_support::{Binaries, Comber, Lab, LabOptions, wait};

use crate::agent::{self, Origin};
use crate::script::FleetOptions;
use crate::{AGENT_UNIT, Fleet, Host};

/// Long enough for anything that a busy machine does with real hosts; nothing waits for it when all is well.
pub const LONG: Duration = Duration::from_mins(3);

/// Half-open connections of hosts that lost power are seen to be so within seconds.
const CONTROLLER: &str = "[limits]\nkeepalive = \"2s\"\nkeepalive_timeout = \"2s\"\n";

/// How a lab with hosts is made.
#[derive(Debug, Clone, Default)]
pub struct HostLabOptions {
    /// More lines of the agents' configuration.
    pub agent: String,
    /// The agents' package; where absent, the binary of this build with the files that packages install.
    pub package: Option<PathBuf>,
    /// Another program than that of this build, with the same files.
    pub program: Option<PathBuf>,
    /// What the hosts have that others have not.
    pub fleet: FleetOptions,
}

/// A controller with real hosts.
#[derive(Debug)]
pub struct HostLab {
    // In this order: the controller ends before the namespace that it runs in.
    lab: Lab,
    fleet: Fleet,
}

impl HostLab {
    /// So many hosts, each with an agent that is connected.
    pub fn new(hosts: usize) -> Result<Self> {
        Self::with(hosts, &HostLabOptions::default())
    }

    /// The same with options.
    pub fn with(hosts: usize, options: &HostLabOptions) -> Result<Self> {
        let this = Self::without_agents_on(hosts, &options.fleet)?;
        let token = this.lab.token(&["--uses", &hosts.to_string()])?;
        let installed = std::thread::scope(|scope| {
            let install = |host| {
                let (this, token) = (&this, &token);
                scope.spawn(move || this.install_agent(host, token, options))
            };
            let threads: Vec<_> = this.fleet.hosts().iter().map(install).collect();
            let ends = threads.into_iter().map(|thread| thread.join().ok());
            ends.collect::<Option<Result<()>>>()
        });
        installed.context("an installation panicked")??;
        this.wait_connected(hosts)?;
        Ok(this)
    }

    /// So many bare hosts, and a controller that knows none of them.
    pub fn without_agents(hosts: usize) -> Result<Self> {
        Self::without_agents_on(hosts, &FleetOptions::default())
    }

    /// The same on hosts with options.
    pub fn without_agents_on(hosts: usize, options: &FleetOptions) -> Result<Self> {
        // Built before anything is up: it may take minutes.
        Binaries::get()?;
        let fleet = Fleet::with(hosts, options)?;
        let lab = Lab::with(&LabOptions {
            controller: CONTROLLER.to_owned(),
            directory: None,
            network: fleet.network()?,
        })?;
        Ok(Self { lab, fleet })
    }

    /// Installs the agent on a host, enrols it and starts it.
    pub fn install_agent(&self, host: &Host, token: &str, options: &HostLabOptions) -> Result<()> {
        let origin = match (&options.package, &options.program) {
            (Some(deb), _) => Origin::Deb(deb),
            (None, Some(program)) => Origin::Binary(program),
            (None, None) => Origin::Binary(&self.lab.binaries().agent),
        };
        agent::install(host, origin, &self.controller_url(), token, &options.agent)
            .with_context(|| format!("no agent on {}", host.name()))
    }

    /// Waits until so many hosts are connected.
    pub fn wait_connected(&self, hosts: usize) -> Result<()> {
        let connected = wait::until(LONG, || {
            let list = self.comber().json(&["host", "list"]).ok()?;
            let list = list["hosts"].as_array()?;
            let up = list.iter().filter(|host| host["connected"] == true);
            (up.count() == hosts).then_some(())
        });
        connected.context("the hosts do not connect")
    }

    /// The controller, its operator and what is rolled out.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The same, to stop and start the controller.
    pub fn lab_mut(&mut self) -> &mut Lab {
        &mut self.lab
    }

    /// The hosts.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// A host by its number, from 1.
    pub fn host(&self, number: usize) -> &Host {
        self.fleet.host(number)
    }

    /// The operator's command.
    pub fn comber(&self) -> Comber {
        self.lab.comber()
    }

    /// What hosts connect to.
    pub fn controller_url(&self) -> String {
        format!("https://controller:{}", self.lab.port())
    }

    /// Keeps what the hosts themselves know of a failure.
    fn keep_journals(&self) {
        let directory = self.lab.directory().join("journals");
        if fs::create_dir_all(&directory).is_err() {
            return;
        }
        for host in self.fleet.hosts() {
            let text = host
                .journal(AGENT_UNIT)
                .unwrap_or_else(|error| format!("{error:#}"));
            let name = host.name();
            // The failure itself is what counts.
            let _kept = fs::write(directory.join(name), text);
            let logs = self.fleet.directory().join("hosts").join(name);
            for log in ["console", "supervisor"] {
                let kept = directory.join(format!("{name}.{log}"));
                let _kept = fs::copy(logs.join(format!("{log}.log")), kept);
            }
        }
    }
}

impl Drop for HostLab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_journals();
        }
    }
}
