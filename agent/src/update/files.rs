//! The files of one update of the agent, and who writes which.
//!
//! | file | written by | says |
//! |---|---|---|
//! | `order.json` | the agent that begins; it is there as long as the update | what to go to and from, and how |
//! | `progress.json` | the watcher | how far it is |
//! | `decided.json` | whoever comes first | kept, or to be restored and why |
//! | `seen.json` | the new agent, not durable | how far the new agent is, for the watcher's words |
//! | `launched.<pid>` | each launcher that becomes an agent meanwhile, not durable | which process that is |
//! | `ledger.json`, `ledger.prev` | the watcher | the ledger as the old agent left it |
//!
//! A newer agent writes what the package's older watcher reads, so a field may be added and none may be taken away; a
//! change of meaning raises [`FORM`], which preflight compares. Invariant: a new order is written last and an old one
//! removed first, so whatever else lies there belongs to the order or to none.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_model::{ReleaseId, duration};
use comber_runtime::fsx::{self, FileError};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ServiceKind;

/// The form of the files that this code writes, and the newest that it reads.
pub const FORM: u32 = 1;
/// An order holds some paths and the arguments of one command.
const FILE_MAX: u64 = 64 << 10;
/// Before the number of a process.
const LAUNCHED: &str = "launched.";
/// Only the agent reads them.
const MODE: u32 = 0o600;

/// One end of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The place on the shelf; absent where it is the package's agent.
    pub slot: Option<String>,
    /// For people.
    pub version: String,
}

/// What the new agent must show before it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// How long it must have held its link without a break.
    #[serde(with = "duration")]
    pub healthy_for: Duration,
    /// How long it has for that and for its checks, from its first start in each boot.
    #[serde(with = "duration")]
    pub deadline: Duration,
}

/// What the watcher is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// [`FORM`].
    pub form: u32,
    /// The release whose activation this is.
    pub release: ReleaseId,
    /// What ran.
    pub from: Side,
    /// What shall run.
    pub to: Side,
    /// Absent on a way back, which needs no proof: what it leads to was kept once.
    pub proof: Option<Proof>,
    /// How the agent is stopped and started on this host.
    pub service: ServiceKind,
    /// Tells one boot from another.
    pub boot_id_file: PathBuf,
    /// When, by the host's clock.
    pub ordered_at: Timestamp,
}

/// How far the watcher is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// [`FORM`].
    pub form: u32,
    /// Which step is to be done next.
    pub phase: Phase,
}

/// A process, so that its number is not taken for another one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Child {
    /// Its number.
    pub pid: i32,
    /// When it began, in the kernel's ticks since boot.
    pub began: u64,
}

/// A step of the watcher; each may be done again from its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Phase {
    /// Stops the old agent, keeps a copy of its ledger, switches the link.
    Switching,
    /// The new agent runs, or is being started.
    Watching {
        /// The boot that the deadline counts in.
        boot_id: String,
        /// On the clock of that boot, in milliseconds.
        deadline_ms: u64,
        /// The same by the host's clock, for people.
        until: Timestamp,
        /// In how many boots it was watched before this one.
        resumed: u32,
    },
    /// Stops the new agent and switches the link back.
    Restoring {
        /// What was wrong.
        why: String,
    },
    /// The old agent is active again, or still. Stays until that agent has taken note.
    Restored {
        /// What was wrong.
        why: String,
    },
}

/// What became of the new agent. Made once and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "decided")]
pub enum Decision {
    /// It proved itself.
    Kept,
    /// It did not, or was taken back.
    Restore {
        /// What was wrong.
        why: String,
    },
}

/// What the new agent says of itself while it is watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// It holds a link to the controller.
    pub linked: bool,
    /// It held one.
    pub was_linked: bool,
    /// It held one long enough, and is at its checks.
    pub at_checks: bool,
}

/// Why the files cannot be read or written.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// The disk.
    #[error("the record of the agent's update cannot be kept")]
    File(#[from] FileError),
    /// One step on a file.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Not what any version writes.
    #[error(
        "{} cannot be understood; the agent that runs stays: move the directory away to forget the update",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A newer agent wrote it.
    #[error("{} has form {found}, this agent reads up to {FORM}; upgrade the package", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
}

/// `<state>/update/`.
#[derive(Debug, Clone)]
pub struct UpdateFiles {
    state_dir: PathBuf,
    dir: PathBuf,
}

impl UpdateFiles {
    /// Those of the agent with that state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            dir: state_dir.join("update"),
        }
    }

    /// The agent's own directory.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Where the copy of the ledger lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Held by the watcher as long as it lives.
    pub fn watch_lock(&self) -> PathBuf {
        self.dir.join("watch.lock")
    }

    /// The update in progress, or the one that was restored and not taken note of.
    pub fn order(&self) -> Result<Option<Order>, UpdateError> {
        self.read("order.json")
    }

    /// How far the watcher is; the first step where it has said nothing.
    pub fn progress(&self) -> Result<Progress, UpdateError> {
        let known = self.read("progress.json")?;
        Ok(known.unwrap_or(Progress {
            form: FORM,
            phase: Phase::Switching,
        }))
    }

    /// What was decided, if anything was.
    pub fn decision(&self) -> Result<Option<Decision>, UpdateError> {
        self.read("decided.json")
    }

    /// What the new agent last said. Only for words, so nothing can be wrong with it.
    pub fn seen(&self) -> Option<Seen> {
        self.read("seen.json").ok().flatten()
    }

    /// Begins an update: nothing of an earlier one is left once the order is there.
    pub fn begin(&self, order: &Order) -> Result<(), UpdateError> {
        fsx::create_dir_durable(&self.dir, 0o700)?;
        self.clear()?;
        self.write("order.json", order)
    }

    /// Makes a step of the watcher durable.
    pub fn proceed(&self, progress: &Progress) -> Result<(), UpdateError> {
        self.write("progress.json", progress)
    }

    /// Decides, unless it was decided; gives what holds. Once it returned, every later look gives the same.
    pub fn decide(&self, decision: &Decision) -> Result<Decision, UpdateError> {
        let (own, decided) = (
            self.dir.join(format!(".decided.{}", std::process::id())),
            self.dir.join("decided.json"),
        );
        let json = encode(&own, decision)?;
        let make = || {
            // What is left of a killed process of the same number.
            let _ = fs::remove_file(&own);
            let mut file = fs::File::create(&own)?;
            file.write_all(&json)?;
            file.sync_all()?;
            let linked = fs::hard_link(&own, &decided);
            fs::remove_file(&own)?;
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                Ok(()) | Err(_) => Ok(()),
            }
        };
        make().map_err(|source| UpdateError::Io {
            step: "make",
            path: decided,
            source,
        })?;
        fsx::fsync_dir(&self.dir)?;
        Ok(self.decision()?.unwrap_or_else(|| decision.clone()))
    }

    /// Says how far the new agent is. A failure only costs the watcher's report its detail.
    pub fn tell(&self, seen: Seen) {
        let told = serde_json::to_vec(&seen).map_err(io::Error::from);
        let told = told.and_then(|json| {
            let (new, path) = (self.dir.join(".seen"), self.dir.join("seen.json"));
            fs::write(&new, json)?;
            fs::rename(new, path)
        });
        if let Err(error) = told {
            tracing::debug!(%error, "the watcher cannot be told how far this agent is");
        }
    }

    /// Notes a process that is about to become the agent on the shelf.
    pub(super) fn note_launched(&self, child: Child) -> io::Result<()> {
        let json = serde_json::to_vec(&child)?;
        fs::write(self.dir.join(format!("{LAUNCHED}{}", child.pid)), json)
    }

    /// Those of the noted processes that still live.
    pub(super) fn launched(&self) -> Vec<Child> {
        let read = |name: &str| self.read::<Child>(name).ok().flatten();
        let names = self.launched_names().into_iter();
        names
            .filter_map(|name| read(&name))
            .filter(Child::is_alive)
            .collect()
    }

    fn launched_names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(LAUNCHED)).collect()
    }

    /// Ends the update, whatever its outcome. Called again, it goes on.
    pub fn clear(&self) -> Result<(), UpdateError> {
        for name in [
            "order.json",
            "progress.json",
            "decided.json",
            "seen.json",
            "ledger.json",
            "ledger.prev",
        ] {
            fsx::remove_durable(&self.dir.join(name))?;
        }
        for name in self.launched_names() {
            fsx::remove_durable(&self.dir.join(name))?;
        }
        Ok(())
    }

    /// Copies the ledger as the old agent left it.
    pub fn keep_ledger(&self) -> Result<(), UpdateError> {
        copy_ledger(&self.state_dir, &self.dir)
    }

    /// Puts the copy back, the older file first. `false` where there is none.
    pub fn put_ledger_back(&self) -> Result<bool, UpdateError> {
        if !self.dir.join("ledger.json").exists() {
            return Ok(false);
        }
        copy_ledger(&self.dir, &self.state_dir)?;
        Ok(true)
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), UpdateError> {
        let path = self.dir.join(name);
        Ok(fsx::write_atomic(&path, &encode(&path, value)?, MODE)?)
    }

    /// The form is looked at before the rest, so that a newer file is named as what it is.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, UpdateError> {
        #[derive(Deserialize)]
        struct Formed {
            form: Option<u32>,
        }
        let path = self.dir.join(name);
        let bytes = match fsx::read_limited(&path, FILE_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = |source| UpdateError::Damaged {
            path: path.clone(),
            source,
        };
        let formed: Formed = serde_json::from_slice(&bytes).map_err(damaged)?;
        match formed.form {
            Some(found) if found > FORM => return Err(UpdateError::TooNew { path, found }),
            Some(_) | None => {}
        }
        Ok(Some(serde_json::from_slice(&bytes).map_err(damaged)?))
    }
}

/// The older file first, so that a copy that was cut off is never the newer one alone.
fn copy_ledger(from: &Path, to: &Path) -> Result<(), UpdateError> {
    for name in ["ledger.prev", "ledger.json"] {
        match fs::read(from.join(name)) {
            Ok(bytes) => fsx::write_atomic(&to.join(name), &bytes, MODE)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(UpdateError::Io {
                    step: "read",
                    path: from.join(name),
                    source,
                });
            }
        }
    }
    Ok(())
}

fn encode<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, UpdateError> {
    serde_json::to_vec_pretty(value).map_err(|source| UpdateError::Damaged {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
