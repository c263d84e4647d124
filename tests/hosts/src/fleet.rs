//! A fleet of running hosts that ends with its handle.
//!
//! Makes namespaces, cgroups and disks under the fleet's own name, below `target/hosts` (or `FLEET_DIR`), where base
//! trees are cached for all. Invariant: a directory there whose `owner` file nobody has locked belongs to a process
//! that is gone; only such a fleet is ever taken down by another one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use comber_test_support::{Network, target_directory};

use crate::Host;
use crate::script::{FleetOptions, Script};

/// Held locked by the process whose fleet it is.
const OWNER: &str = "owner";
/// Held locked while directories are made and removed.
const GATE: &str = ".gate";

/// Hosts `h1` to `hN`, booted, on one switch.
#[derive(Debug)]
pub struct Fleet {
    script: Script,
    directory: PathBuf,
    hosts: Vec<Host>,
    /// Unlocks when it goes.
    _owner: File,
}

impl Fleet {
    /// Creates and boots so many hosts; the first fleet of all also makes the base tree, which takes a minute.
    pub fn up(count: usize) -> Result<Self> {
        Self::with(count, &FleetOptions::default())
    }

    /// The same with options; the first fleet with other packages makes another base tree.
    pub fn with(count: usize, options: &FleetOptions) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let root = root()?;
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("comber-{}-{number}", std::process::id());
        let directory = root.join(&name);
        let owner = {
            let gate = File::create(root.join(GATE))?;
            gate.lock()?;
            sweep(&root)?;
            fs::create_dir_all(&directory)?;
            let owner = File::create(directory.join(OWNER))?;
            owner.lock()?;
            owner
        };
        let script = Script::new(&name, &directory, &root).with(options);
        let mut fleet = Self {
            script,
            directory,
            hosts: Vec::new(),
            _owner: owner,
        };
        fleet.script.ok(&["up", &count.to_string()])?;
        let hosts = (1..=count).map(|number| Host::new(&fleet.script, &format!("h{number}")));
        fleet.hosts = hosts.collect::<Result<_>>()?;
        Ok(fleet)
    }

    /// All hosts, in their order.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// A host by its number, from 1.
    ///
    /// # Panics
    ///
    /// Where the fleet has no such host.
    pub fn host(&self, number: usize) -> &Host {
        let host = number
            .checked_sub(1)
            .and_then(|index| self.hosts.get(index));
        host.expect("a number of a host of this fleet")
    }

    /// Where a controller for these hosts belongs; they call it `controller`.
    pub fn network(&self) -> Result<Network> {
        Ok(Network::Namespace {
            name: format!("{}-ctl", self.script.fleet()),
            address: self.script.ok(&["addr", "ctl"])?.trim().to_owned(),
            controller: "controller".to_owned(),
        })
    }

    /// Where the hosts' disks and the logs of their consoles are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        take_down(&self.script, &self.directory);
    }
}

/// `target/hosts`, or what `FLEET_DIR` says.
#[expect(
    clippy::disallowed_methods,
    reason = "where hosts are kept is said by the environment of a test"
)]
fn root() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("FLEET_DIR") {
        return Ok(directory.into());
    }
    let profile = target_directory()?;
    Ok(profile.parent().unwrap_or(&profile).join("hosts"))
}

/// Takes down what processes left that were killed.
fn sweep(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root)? {
        let directory = entry?.path();
        let Ok(owner) = File::open(directory.join(OWNER)) else {
            continue;
        };
        if owner.try_lock().is_ok()
            && let Some(name) = directory.file_name().and_then(|name| name.to_str())
        {
            take_down(&Script::new(name, &directory, root), &directory);
        }
    }
    Ok(())
}

/// Says what is wrong and goes on: the next fleet tries again.
fn take_down(script: &Script, directory: &Path) {
    if let Err(error) = script.ok(&["down"]) {
        eprintln!("fleet {} stays: {error:#}", script.fleet());
        return;
    }
    if let Err(error) = fs::remove_dir_all(directory) {
        eprintln!("cannot remove {}: {error}", directory.display());
    }
}
