//! One controller with its operator and its hosts.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{Binaries, Comber, Network, Process, Product, wait};

/// How long a process may take to be ready on a busy machine.
const READY: Duration = Duration::from_mins(1);

/// How a lab is made.
#[derive(Debug, Clone, Default)]
pub struct LabOptions {
    /// More lines of the controller's configuration.
    pub controller: String,
    /// Where it is made; a temporary directory where absent.
    pub directory: Option<PathBuf>,
    /// Where the controller listens and its operator works.
    pub network: Network,
}

/// How an agent differs from the others.
#[derive(Debug, Clone, Default)]
pub struct AgentOptions {
    /// More lines of its configuration, before its tables.
    pub head: String,
    /// More tables of its configuration.
    pub tail: String,
    /// Port that it connects to, where that is not the controller's own.
    pub port: Option<u16>,
}

/// A controller, an operator and any number of agents.
#[derive(Debug)]
pub struct Lab {
    directory: PathBuf,
    temporary: Option<tempfile::TempDir>,
    binaries: Binaries,
    network: Network,
    port: u16,
    metrics: u16,
    controller: Option<Process>,
    agents: BTreeMap<String, Process>,
}

impl Lab {
    /// A lab whose controller runs and whose operator may do everything.
    pub fn new() -> Result<Self> {
        Self::with(&LabOptions::default())
    }

    /// The same with options.
    pub fn with(options: &LabOptions) -> Result<Self> {
        let binaries = Binaries::get()?;
        let temporary = match options.directory {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("comber-").tempdir()?),
        };
        let directory = match (&options.directory, &temporary) {
            (Some(directory), _) => directory.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => bail!("no directory"),
        };
        let (port, metrics) = options.network.free_ports()?;
        let mut lab = Self {
            directory,
            temporary,
            binaries,
            network: options.network.clone(),
            port,
            metrics,
            controller: None,
            agents: BTreeMap::new(),
        };
        lab.write_controller_config(&options.controller)?;
        lab.start_controller()?;
        lab.init()?;
        Ok(lab)
    }

    /// Where everything of it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The controller's address.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.network.name(), self.port)
    }

    /// The controller's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its metrics are read: `host:port`.
    pub fn metrics(&self) -> String {
        format!("127.0.0.1:{}", self.metrics)
    }

    /// The command of its operator.
    pub fn comber(&self) -> Comber {
        Comber {
            binary: self.binaries.comber.clone(),
            config: self.directory.join("operator"),
            network: self.network.clone(),
        }
    }

    /// The binaries that it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The controller's process, while it runs.
    pub fn controller(&mut self) -> Option<&mut Process> {
        self.controller.as_mut()
    }

    /// A command of the controller's binary with the lab's configuration.
    pub fn controller_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.network.command(&self.binaries.controller);
        command
            .arg("--config")
            .arg(self.directory.join("controller.toml"))
            .args(arguments);
        command
    }

    /// Starts the controller and waits until it accepts connections.
    pub fn start_controller(&mut self) -> Result<()> {
        let log = self.directory.join("controller.log");
        let mut process = Process::start(&mut self.controller_command(&["serve"]), &log)?;
        let ready = wait::until(READY, || {
            let up = self.network.is_open(self.port);
            (up || !process.is_running()).then_some(up)
        });
        ensure!(
            ready == Some(true),
            "the controller does not start:\n{}",
            tail(&log)
        );
        self.controller = Some(process);
        Ok(())
    }

    /// Ends the controller as a crash does.
    pub fn kill_controller(&mut self) {
        if let Some(mut process) = self.controller.take() {
            process.kill();
        }
    }

    /// Stops the controller in good order.
    pub fn stop_controller(&mut self) -> Result<()> {
        let mut process = self
            .controller
            .take()
            .context("the controller does not run")?;
        let status = process.stop()?;
        ensure!(
            status.success(),
            "the controller ended with {status}:\n{}",
            tail(process.log())
        );
        Ok(())
    }

    /// A new token for hosts.
    pub fn token(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["token", "create"];
        all.extend(arguments);
        let made = self.comber().json(&all)?;
        let token = made["token"]
            .as_str()
            .with_context(|| format!("no token in {made}"))?;
        Ok(token.to_owned())
    }

    /// Enrols a host and writes its configuration; does not start its agent.
    pub fn enrol(&self, name: &str, token: &str, options: &AgentOptions) -> Result<()> {
        let home = self.host(name);
        fs::create_dir_all(home.join("root"))?;
        fs::write(home.join("boot_id"), "first-boot\n")?;
        fs::write(home.join("agent.toml"), self.agent_config(name, options))?;
        let output = self
            .agent_command(
                name,
                &["enroll", "--controller", &self.url(), "--token", token],
            )
            .output()
            .context("cannot run comber-agent")?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{name} cannot enrol: {text}");
        Ok(())
    }

    /// Enrols hosts `{prefix}1` to `{prefix}{count}`, labelled with `labels` (`key=value`), and starts their agents.
    pub fn start_agents(&mut self, prefix: &str, count: usize, labels: &[&str]) -> Result<()> {
        let uses = count.to_string();
        let mut arguments = vec!["--uses", &uses];
        for label in labels {
            arguments.extend(["--label", label]);
        }
        let token = self.token(&arguments)?;
        for number in 1..=count {
            let name = format!("{prefix}{number}");
            self.enrol(&name, &token, &AgentOptions::default())?;
            self.start_agent(&name)?;
        }
        Ok(())
    }

    /// Starts the agent of an enrolled host.
    pub fn start_agent(&mut self, name: &str) -> Result<()> {
        let log = self.host(name).join("agent.log");
        let process = Process::start(&mut self.agent_command(name, &["run"]), &log)?;
        self.agents.insert(name.to_owned(), process);
        Ok(())
    }

    /// Ends an agent as a crash does.
    pub fn kill_agent(&mut self, name: &str) {
        if let Some(mut process) = self.agents.remove(name) {
            process.kill();
        }
    }

    /// Stops an agent in good order.
    pub fn stop_agent(&mut self, name: &str) -> Result<()> {
        let mut process = self
            .agents
            .remove(name)
            .with_context(|| format!("{name} is not up"))?;
        process.stop().map(|_status| ())
    }

    /// A command of the agent's binary with one host's configuration.
    pub fn agent_command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binaries.agent);
        command
            .arg("--config")
            .arg(self.host(name).join("agent.toml"))
            .args(arguments);
        command
    }

    /// The directory of one host: its configuration, state, log, and `root`, under which it installs.
    pub fn host(&self, name: &str) -> PathBuf {
        self.directory.join("hosts").join(name)
    }

    /// Starts agents again that ended by themselves: what a boot does after the reboot command ended them.
    pub fn revive_agents(&mut self) -> Result<()> {
        let mut ended = Vec::new();
        for (name, process) in &mut self.agents {
            if !process.is_running() {
                ended.push(name.clone());
            }
        }
        ended.iter().try_for_each(|name| self.start_agent(name))
    }

    /// Sends a signal to an agent; it must run.
    pub fn signal_agent(&self, name: &str, signal: Signal) -> Result<()> {
        let process = self.agents.get(name).and_then(Process::id);
        let pid = process
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{name} is not up"))?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {name}"))
    }

    /// Numbers and command lines of every process that runs for a host, whoever started it: those whose command line
    /// names the host's directory.
    pub fn processes_of(&self, name: &str) -> Vec<(u32, String)> {
        let home = format!("{}/", self.host(name).display());
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        numbers
            .filter_map(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                line.contains(&home).then_some((pid, line))
            })
            .collect()
    }

    /// Ends every process of a host at once, as a power cut does.
    pub fn cut_power(&mut self, name: &str) {
        self.kill_agent(name);
        // One that is about to start another is caught by the next look.
        while let found @ [_, ..] = self.processes_of(name).as_slice() {
            for (pid, _) in found {
                if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                    // An error means that it has ended already.
                    let _ended = kill_process(pid, Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What an agent says of itself, as JSON.
    pub fn agent_status(&self, name: &str) -> Result<Value> {
        let output = self
            .agent_command(name, &["status", "--output", "json"])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }

    /// The controller's metrics, as text.
    pub fn scrape(&self) -> Result<String> {
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        self.network.ask(self.metrics, request)
    }

    /// The version of the test product that a host runs: what its link `current` leads to.
    pub fn running(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.host(name).join("root/app/current/version")).ok()
    }

    /// Builds and publishes a version of the test product.
    pub fn publish(&self, product: &Product) -> Result<()> {
        let directory = self.directory.join("products").join(&product.version);
        product.write(&directory)?;
        self.publish_directory(&directory)
    }

    /// Builds and publishes the release that stands in a directory.
    pub fn publish_directory(&self, directory: &Path) -> Result<()> {
        let mut bundle = directory.as_os_str().to_owned();
        bundle.push(".comber");
        let (from, to) = (directory.as_os_str(), bundle.as_os_str());
        self.comber().ok(&[
            "release".as_ref(),
            "build".as_ref(),
            from,
            "--out".as_ref(),
            to,
        ])?;
        self.comber()
            .ok(&["release".as_ref(), "publish".as_ref(), to])?;
        Ok(())
    }

    /// Creates a rollout from its file's text; gives its id.
    pub fn create(&self, spec: &str) -> Result<String> {
        // A file of its own each time: rollouts may be created at the same time.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(spec.as_bytes())?;
        let path = file.path().as_os_str();
        let arguments = ["rollout".as_ref(), "create".as_ref(), path];
        let made = self.comber().json(&arguments)?;
        let id = made["id"]
            .as_str()
            .with_context(|| format!("no id in {made}"))?;
        Ok(id.to_owned())
    }

    /// Creates and starts a rollout.
    pub fn roll_out(&self, spec: &str) -> Result<String> {
        let id = self.create(spec)?;
        self.comber().ok(&["rollout", "start", &id])?;
        Ok(id)
    }

    /// A rollout's status as JSON.
    pub fn status(&self, id: &str) -> Result<Value> {
        self.comber().json(&["rollout", "status", id])
    }

    /// Waits until a rollout's status satisfies a condition, and gives it; fails with the last one otherwise.
    pub fn wait_for(
        &self,
        id: &str,
        limit: Duration,
        condition: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Ok(Value::Null);
        let found = wait::until(limit, || {
            // The controller may be away for a moment; that is not what is waited for.
            last = self.status(id);
            last.as_ref()
                .ok()
                .filter(|status| condition(status))
                .cloned()
        });
        match (found, last) {
            (Some(status), _) => Ok(status),
            (None, Ok(status)) => bail!("rollout {id} did not get there; it is at\n{status:#}"),
            (None, Err(error)) => Err(error.context(format!("rollout {id} did not get there"))),
        }
    }

    /// Keeps the directory and leaves every process running.
    pub fn keep(mut self) -> PathBuf {
        if let Some(process) = self.controller.take() {
            process.release();
        }
        for (_, process) in std::mem::take(&mut self.agents) {
            process.release();
        }
        if let Some(temporary) = self.temporary.take() {
            return temporary.keep();
        }
        self.directory.clone()
    }

    /// Numbers of the processes that run now, by the name of what they are.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let controller = self.controller.iter().map(|p| ("controller".to_owned(), p));
        let agents = self.agents.iter().map(|(name, p)| (name.clone(), p));
        controller
            .chain(agents)
            .filter_map(|(name, p)| Some((name, p.id()?)))
            .collect()
    }

    fn write_controller_config(&self, more: &str) -> Result<()> {
        let data = quoted(&self.directory.join("controller"));
        let text = format!(
            "listen = \"{}:{}\"\nnames = {:?}\ndata_dir = {data}\n{more}\n[metrics]\nlisten = \"127.0.0.1:{}\"\n",
            self.network.address(),
            self.port,
            self.network.names(),
            self.metrics
        );
        fs::create_dir_all(&self.directory)?;
        fs::write(self.directory.join("controller.toml"), text).context("cannot configure")
    }

    fn agent_config(&self, name: &str, options: &AgentOptions) -> String {
        let home = self.host(name);
        format!(
            "name = \"{name}\"\nstate_dir = {}\n{}\n[install]\nroot = {}\n[link]\nbackoff_min = \"100ms\"\nbackoff_max = \"1s\"\n[reboot]\ncommand = [\"/bin/sh\", \"-c\", {:?}]\nboot_id_file = {}\n{}\n",
            quoted(&home.join("state")),
            options.head,
            quoted(&home.join("root")),
            format!(
                "echo boot-$$ > {}; kill -9 $PPID",
                home.join("boot_id").display()
            ),
            quoted(&home.join("boot_id")),
            options.tail,
        )
    }

    fn init(&self) -> Result<()> {
        let token = self.directory.join("controller/admin-token");
        let there = wait::until(READY, || token.exists().then_some(()));
        ensure!(
            there.is_some(),
            "the controller wrote no {}",
            token.display()
        );
        let url = self.url();
        let arguments = ["init".as_ref(), "--controller".as_ref(), url.as_ref()];
        let more = [
            "--name".as_ref(),
            "ada".as_ref(),
            "--token-file".as_ref(),
            token.as_os_str(),
        ];
        self.comber().ok(&[&arguments[..], &more[..]].concat())?;
        // Signs what the lab publishes; its hosts begin with its root when they enrol.
        self.comber().ok(&["repo", "init", "--dev"])?;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // An agent that replaced itself is nobody's child; only where the lab is kept do its processes stay.
        let names: Vec<String> = self.agents.keys().cloned().collect();
        if self.controller.is_some() || !names.is_empty() {
            for name in &names {
                self.cut_power(name);
            }
        }
        self.agents.clear();
        self.controller = None;
        if std::thread::panicking()
            && let Some(temporary) = self.temporary.take()
        {
            eprintln!(
                "everything of the failed test is in {}",
                temporary.keep().display()
            );
        }
    }
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// The end of a log, for an error.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
