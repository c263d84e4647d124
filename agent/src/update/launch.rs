//! The launcher: which agent this host runs, the package's or the one on the shelf.
//!
//! The package's program looks, and becomes the agent on the shelf where that is the newer one: same process, same
//! arguments, so that a service manager sees one service. An agent on the shelf that cannot be executed is passed over,
//! unless an update waits for it: then that update has failed. Invariant: nothing is launched while the watcher is between
//! stopping one agent and switching to the other.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use comber_model::release::AGENT_PRODUCT;
use comber_runtime::clock::Clock;
use comber_runtime::environment;
use comber_runtime::fsx;
use comber_runtime::telemetry::error_chain;
use serde::Deserialize;
use thiserror::Error;

use super::{Child, Decision, Order, Phase, UpdateError, UpdateFiles, is_newer};
use crate::install::layout::{Layout, Link};
use crate::lock::Lock;

/// Where releases are kept that are not archives, in the state directory.
pub(crate) const SHELVES: &str = "shelves";
/// A record is not longer.
const RECORD_MAX: u64 = 1 << 20;
/// How long a watcher may take to say how far it is.
const SETTLE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);

/// An update waits for an agent that cannot be launched: this process must end, the watcher goes back.
#[derive(Debug, Error)]
#[error("the update to {version} of the agent is taken back: {why}")]
pub struct LaunchError {
    /// Of the new agent.
    pub version: String,
    /// What was wrong.
    pub why: String,
}

/// The agent on the shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shelved {
    pub slot: String,
    pub version: String,
    pub program: PathBuf,
}

/// What of an older or newer agent's record must be readable; that much stays in every form.
#[derive(Deserialize)]
struct Record {
    manifest: Manifest,
}

#[derive(Deserialize)]
struct Manifest {
    installer: Installer,
}

#[derive(Deserialize)]
struct Installer {
    binary: String,
}

/// Becomes the agent on the shelf where that is the one to run; returns where it is this one.
///
/// `serves` where this process is to be the host's agent, and not a question to it.
pub(crate) fn become_newest(state_dir: &Path, serves: bool) -> Result<(), LaunchError> {
    if environment::launched().is_some() {
        return Ok(());
    }
    let Ok(launcher) = std::env::current_exe() else {
        return Ok(());
    };
    let files = UpdateFiles::new(state_dir);
    let open = if serves {
        settle(&files, &launcher)
    } else {
        None
    };
    let why = match newest(state_dir) {
        Ok(None) => return Ok(()),
        Ok(Some(shelved)) => {
            let mut command = Command::new(&shelved.program);
            command.args(std::env::args_os().skip(1));
            environment::launch(&mut command, &shelved.slot, &launcher);
            if open.is_some() {
                note(&files);
            }
            let error = command.exec();
            format!("{} cannot be executed: {error}", shelved.program.display())
        }
        Err(why) => why,
    };
    let Some(order) = open else {
        say(&format!("{why}; the package's agent runs instead"));
        return Ok(());
    };
    let version = order.to.version;
    if let Err(error) = files.decide(&Decision::Restore { why: why.clone() }) {
        say(&error_chain(&error));
    }
    Err(LaunchError { version, why })
}

/// The agent on the shelf, where it is newer than this one. An error says why it cannot be told.
fn newest(state_dir: &Path) -> Result<Option<Shelved>, String> {
    let shelved = shelved(state_dir)?;
    Ok(shelved.filter(|shelved| is_newer(&shelved.version, env!("CARGO_PKG_VERSION"))))
}

/// The agent that the shelf's link leads to.
pub(crate) fn shelved(state_dir: &Path) -> Result<Option<Shelved>, String> {
    let shelf = shelf(state_dir);
    let slot = match shelf.link().map_err(|error| error_chain(&error))? {
        Link::Absent => return Ok(None),
        Link::Slot(slot) => slot,
        Link::Other(place) => {
            return Err(format!("the agent's link leads to {}", place.display()));
        }
    };
    let path = state_dir
        .join("releases")
        .join(AGENT_PRODUCT)
        .join(format!("{slot}.json"));
    let bytes = fsx::read_limited(&path, RECORD_MAX).map_err(|error| error_chain(&error))?;
    let record: Record = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} cannot be understood: {error}", path.display()))?;
    // The place is named after version and digest.
    let version = slot.rsplit_once('-').map_or("", |(version, _)| version);
    Ok(Some(Shelved {
        version: version.to_owned(),
        program: shelf.place(&slot).join(record.manifest.installer.binary),
        slot,
    }))
}

/// The shelf of the agent's own releases.
pub(crate) fn shelf(state_dir: &Path) -> Layout {
    Layout::new(state_dir.join(SHELVES).join(AGENT_PRODUCT))
}

/// Sees that an update that was cut off goes on, and waits until it is clear which agent is to run. Gives the order that
/// is open then.
fn settle(files: &UpdateFiles, launcher: &Path) -> Option<Order> {
    match settled(files, launcher) {
        Ok(open) => open,
        // The agent on the link is as good as any.
        Err(error) => {
            say(&format!("an update cannot be taken up: {error}"));
            None
        }
    }
}

fn settled(files: &UpdateFiles, launcher: &Path) -> Result<Option<Order>, String> {
    let told = |error: UpdateError| error_chain(&error);
    let Some(order) = files.order().map_err(told)? else {
        return Ok(None);
    };
    if let Phase::Restored { .. } = files.progress().map_err(told)?.phase {
        return Ok(None);
    }
    if !Lock::is_held(&files.watch_lock()) {
        let started = order.service.start_watcher(launcher, files);
        started.map_err(|error| error_chain(&error))?;
    }
    let clock = Clock::system();
    let end = clock.boot().saturating_add(SETTLE);
    loop {
        // Gone means that it is kept.
        let Some(order) = files.order().map_err(told)? else {
            return Ok(None);
        };
        let is_watched = Lock::is_held(&files.watch_lock());
        match files.progress().map_err(told)?.phase {
            Phase::Restored { .. } => return Ok(None),
            Phase::Watching { .. } if is_watched => return Ok(Some(order)),
            Phase::Watching { .. } | Phase::Switching | Phase::Restoring { .. } => {}
        }
        if clock.boot() >= end {
            return Err(format!("no watcher within {}s", SETTLE.as_secs()));
        }
        thread::sleep(PAUSE);
    }
}

/// Lets the watcher know which process the new agent is: one that hangs before it takes its lock is known by nothing else.
fn note(files: &UpdateFiles) {
    let noted = Child::this().map(|child| files.note_launched(child));
    if let Some(Err(error)) = noted {
        say(&format!("the watcher is not told of this process: {error}"));
    }
}

/// Before there is a log.
fn say(text: &str) {
    eprintln!("comber-agent: {text}");
}
