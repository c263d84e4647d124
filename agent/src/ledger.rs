//! The agent's ledger on disk: replaced whole, durably, with the one before kept beside it.
//!
//! `ledger.json` holds the ledger in one line and its sha256 in the next, so that rotten bytes are never taken for a
//! lower generation. `ledger.prev` is the one before. May touch these two files and nothing else.
//! Invariant: once [`LedgerFile::save`] returned `Ok`, every later load gives this ledger or refuses.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use comber_machine::{Ledger, LedgerError, State};
use comber_runtime::fsx::{self, FileError};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// No ledger is longer: sixteen reports and sixty-four bad releases of at most 700 bytes, and the products of a host.
const SIZE_MAX: u64 = 1 << 20;

/// Only the agent reads it: it names what is installed and what failed.
const MODE: u32 = 0o600;

/// How far report numbers jump where the ledger before is used. The lost ledger can hold two reports more (an end
/// and a refusal in one transition); a number that the controller knows must never be given to another report.
const REPORTS_LOST_MAX: u64 = 16;

/// Where the driver keeps its ledger. A trait, so that a test can make it slow or broken.
pub trait Store: Send + Sync + 'static {
    /// Makes the ledger durable. Blocking. Where it fails, the one before is still there and it may be tried again.
    fn save(&self, ledger: &Ledger) -> Result<(), SaveError>;
}

/// The two files.
#[derive(Debug, Clone)]
pub struct LedgerFile {
    current: PathBuf,
    previous: PathBuf,
    linked: PathBuf,
}

/// A ledger that was read.
#[derive(Debug)]
pub struct Loaded {
    /// What to resume from.
    pub ledger: Ledger,
    /// Where it came from.
    pub source: Source,
}

/// Where a ledger came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The host had none.
    New,
    /// The one saved last.
    Current,
    /// The one before it; to be said loudly.
    Previous {
        /// What is wrong with the last one.
        why: String,
    },
}

/// The ledger could not be made durable.
#[derive(Debug, Error)]
pub enum SaveError {
    /// It could not be written out.
    #[error("cannot write the ledger out")]
    Encode(#[from] LedgerError),
    /// The ledger before could not be kept.
    #[error("cannot keep the ledger before as {}", path.display())]
    Keep {
        /// Where.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// The disk refused.
    #[error("cannot save the ledger")]
    Write(#[from] FileError),
}

/// The agent must not start: what the host was doing is not known.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file is there and cannot be read.
    #[error("cannot read the ledger; make it readable for the agent's user")]
    Unreadable(#[source] FileError),
    /// A newer agent wrote it.
    #[error(transparent)]
    TooNew(LedgerError),
    /// It is damaged and the one before does not help.
    #[error(
        "{} is damaged ({why}) and {problem}; compare what `current` of each product points to with what it should, \
         then remove {} and {} and start the agent: it begins with what it finds on the disk, and forgets what \
         failed here and reports not yet acknowledged",
        current.display(), current.display(), previous.display()
    )]
    Damaged {
        /// The file.
        current: PathBuf,
        /// The one before.
        previous: PathBuf,
        /// What is wrong with the file.
        why: String,
        /// What is wrong with the one before.
        problem: String,
    },
}

impl LedgerFile {
    /// The ledger in the directory `dir`, which must exist and belong to the agent.
    pub fn new(dir: &Path) -> Self {
        Self {
            current: dir.join("ledger.json"),
            previous: dir.join("ledger.prev"),
            linked: dir.join(".ledger.prev.tmp"),
        }
    }

    /// Reads the ledger saved last; a new one where there never was any.
    ///
    /// A damaged ledger is replaced by the one before only where that is safe. It is one transition older. What it
    /// would do again is idempotent and a permit it waited for is void; only where it stands right before an
    /// activation, the host may be half changed without it knowing, and the agent refuses to start.
    pub fn load(&self, wall: Timestamp) -> Result<Loaded, LoadError> {
        let why = match read(&self.current)? {
            Read::Whole(ledger) => {
                return Ok(Loaded {
                    ledger: *ledger,
                    source: Source::Current,
                });
            }
            Read::Missing if !self.previous.exists() => {
                return Ok(Loaded {
                    ledger: Ledger::new(wall),
                    source: Source::New,
                });
            }
            Read::Missing => "it is missing".to_owned(),
            Read::Damaged(why) => why,
        };
        match read(&self.previous)? {
            Read::Whole(ledger) if may_have_activated(&ledger) => {
                Err(self.damaged(why, "the one before it stands right before an activation"))
            }
            Read::Whole(mut ledger) => {
                ledger.next_report = ledger.next_report.saturating_add(REPORTS_LOST_MAX);
                Ok(Loaded {
                    ledger: *ledger,
                    source: Source::Previous { why },
                })
            }
            Read::Missing => Err(self.damaged(why, "there is none before it")),
            Read::Damaged(other) => {
                Err(self.damaged(why, &format!("so is the one before it ({other})")))
            }
        }
    }

    fn damaged(&self, why: String, problem: &str) -> LoadError {
        LoadError::Damaged {
            current: self.current.clone(),
            previous: self.previous.clone(),
            why,
            problem: problem.to_owned(),
        }
    }

    /// Gives the present file a second name, `ledger.prev`. A link and not a rename: at no instant is there no
    /// `ledger.json`.
    fn keep_previous(&self) -> Result<(), SaveError> {
        let keep = || {
            match fs::remove_file(&self.linked) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            match fs::hard_link(&self.current, &self.linked) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                linked => linked?,
            }
            fs::rename(&self.linked, &self.previous)
        };
        keep().map_err(|source| SaveError::Keep {
            path: self.previous.clone(),
            source,
        })
    }
}

impl Store for LedgerFile {
    /// The sync of the directory at the end covers both names.
    fn save(&self, ledger: &Ledger) -> Result<(), SaveError> {
        let mut bytes = ledger.to_json()?;
        let sum = sum(&bytes);
        bytes.push(b'\n');
        bytes.extend_from_slice(sum.as_bytes());
        bytes.push(b'\n');
        self.keep_previous()?;
        Ok(fsx::write_atomic(&self.current, &bytes, MODE)?)
    }
}

/// True where the transition that followed may have begun an activation.
fn may_have_activated(ledger: &Ledger) -> bool {
    matches!(
        ledger.state,
        State::AwaitingPermit {
            request: Some(_),
            ..
        }
    )
}

/// What a file holds.
enum Read {
    Whole(Box<Ledger>),
    Missing,
    Damaged(String),
}

fn read(path: &Path) -> Result<Read, LoadError> {
    let bytes = match fsx::read_limited(path, SIZE_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Read::Missing),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            return Ok(Read::Damaged(format!("it has more than {SIZE_MAX} bytes")));
        }
        Err(error) => return Err(LoadError::Unreadable(error)),
    };
    let Some((json, sum_read)) = split(&bytes) else {
        return Ok(Read::Damaged("it is cut off".to_owned()));
    };
    if sum_read != sum(json).as_bytes() {
        return Ok(Read::Damaged("its sha256 is another".to_owned()));
    }
    match Ledger::from_json(json) {
        Ok(ledger) => Ok(Read::Whole(Box::new(ledger))),
        Err(error @ LedgerError::TooNew { .. }) => Err(LoadError::TooNew(error)),
        Err(LedgerError::Malformed(error)) => Ok(Read::Damaged(error.to_string())),
    }
}

/// The ledger's line and the line of its sum.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let whole = bytes.strip_suffix(b"\n")?;
    let end = whole.iter().rposition(|byte| *byte == b'\n')?;
    Some((&whole[..end], &whole[end + 1..]))
}

fn sum(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    comber_model::Digest(digest).to_string()
}

#[cfg(test)]
mod tests;
