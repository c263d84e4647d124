//! What the quickstart starts and ends: the controller, twelve agents, and the web servers that the agents started.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use comber_test_support::{AgentOptions, Lab};
use rustix::process::{Pid, Signal, kill_process};

/// Hosts of the fleet.
pub(crate) const HOSTS: usize = 12;
/// The list of processes that `--keep` left, in the directory.
const LIST: &str = "processes";

/// Name of a host.
pub(crate) fn name(number: usize) -> String {
    format!("web-{number:02}")
}

/// Enrols the hosts with one token and starts their agents.
pub(crate) fn start(lab: &mut Lab, token: &str) -> Result<()> {
    for number in 1..=HOSTS {
        let name = name(number);
        let tail = format!(
            "[variables]\nPORT = \"{}\"\nPIDFILE = {:?}\n",
            free_port()?,
            lab.host(&name).join("webapp.pid").to_string_lossy()
        );
        lab.enrol(
            &name,
            token,
            &AgentOptions {
                tail,
                ..AgentOptions::default()
            },
        )?;
        lab.start_agent(&name)?;
    }
    Ok(())
}

/// Ends the web servers, each by its own command, where there is one.
pub(crate) fn stop_web_servers(directory: &Path) {
    for number in 1..=HOSTS {
        let host = directory.join("hosts").join(name(number));
        let current = host.join("root/opt/webapp/current");
        let mut stop = Command::new(current.join("bin/webapp"));
        stop.arg("stop").env("PIDFILE", host.join("webapp.pid"));
        // A host on which nothing was ever started has no such command.
        let _none = stop.status();
    }
}

/// Notes what runs, so that [`stop`] finds it.
pub(crate) fn remember(lab: &Lab) -> Result<()> {
    let mut text = String::new();
    for (name, process) in lab.processes() {
        let _ = writeln!(text, "{process} {name}");
    }
    fs::write(lab.directory().join(LIST), text).context("cannot note the processes")
}

/// Ends what an earlier run left running and removes its directory.
pub(crate) fn stop(directory: &Path) -> Result<()> {
    let list = directory.join(LIST);
    let text = fs::read_to_string(&list);
    let text =
        text.with_context(|| format!("{} is no quickstart's directory", directory.display()))?;
    stop_web_servers(directory);
    for line in text.lines() {
        let process = line
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok());
        if let Some(pid) = process
            .and_then(Pid::from_raw)
            .filter(|pid| is_ours(*pid, directory))
        {
            // It may end by itself meanwhile.
            let _ended = kill_process(pid, Signal::TERM);
        }
    }
    fs::remove_dir_all(directory).context("cannot remove the directory")?;
    println!("Stopped, and removed {}.", directory.display());
    Ok(())
}

/// The number may have gone to another process since: ours names the directory in its command line.
fn is_ours(pid: Pid, directory: &Path) -> bool {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&*directory.to_string_lossy())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Writes one version of the web application as a directory for `comber release build`.
pub(crate) fn write_version(lab: &Lab, webapp: &Path, version: &str) -> Result<PathBuf> {
    let directory = lab.directory().join(format!("webapp-{version}"));
    let files = directory.join("files");
    fs::create_dir_all(files.join("bin"))?;
    fs::create_dir_all(files.join("templates"))?;
    fs::copy(webapp, files.join("bin/webapp")).context("cannot copy the web application")?;
    // Version 3 asks for a template that nobody put into the release: the mistake that checks are for.
    let template = if version == "3.0.0" {
        "templates/new-page.html"
    } else {
        "templates/page.html"
    };
    fs::write(
        files.join("webapp.conf"),
        format!("template = {template}\n"),
    )?;
    fs::write(
        files.join("templates/page.html"),
        format!("<h1>webapp {version}</h1>\n"),
    )?;
    let counter = version.split('.').next().unwrap_or("0");
    let manifest = include_str!("release.toml")
        .replace("@VERSION@", version)
        .replace("@COUNTER@", counter);
    fs::write(directory.join("release.toml"), manifest)?;
    Ok(directory)
}
