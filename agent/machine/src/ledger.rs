//! Everything durable of one agent, and its versioned form on disk.
//!
//! Invariant: what a ledger shows in the actual state it holds, and the driver has it on disk before it shows it.

use std::collections::BTreeMap;
use std::fmt;

use comber_model::host::AttemptStatus;
use comber_model::{
    Assignment, Failure, Generation, Installed, ReleaseId, ReleaseName, Report, Version,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{BootId, Moment, Recipe, State};

/// Most reports kept. No attempt is taken up while so many wait for the controller, so none is ever dropped: each
/// attempt makes exactly one. Sixteen let a host that is heard but not answered work on for a while.
pub const REPORTS_MAX: usize = 16;

/// Most releases remembered as locally bad; the oldest is forgotten first. The controller sees the newest sixteen, and
/// no product has so many bad releases in a row.
pub const LOCALLY_BAD_MAX: usize = 64;

/// The version written by this code.
const VERSION: u32 = 1;

/// Names a controller's database, made at random when it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Epoch(pub [u8; 16]);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> Self {
        epoch.to_string()
    }
}

impl TryFrom<String> for Epoch {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let number = u128::from_str_radix(&text, 16);
        let epoch = number.map(|number| Self(number.to_be_bytes()));
        match epoch {
            Ok(epoch) if epoch.to_string() == text => Ok(epoch),
            Ok(_) | Err(_) => Err("an epoch has 32 lower-case hexadecimal digits"),
        }
    }
}

/// The durable memory of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// The database whose generations are counted; absent before the first contact.
    pub epoch: Option<Epoch>,
    /// Highest generation accepted. Never falls within an epoch.
    pub generation: Generation,
    /// Where the machine stands, with the work in hand.
    pub state: State,
    /// Since when, by the host's clock.
    pub since: Timestamp,
    /// The plan that replaces the work in hand: what to take up once that has ended and there is room for its report.
    /// Absent where the newest plan still is the work in hand, or was taken up.
    pub next: Option<Next>,
    /// The attempt that ended last, for the actual state.
    pub last: Option<AttemptStatus>,
    /// What is active, by product.
    pub installed: BTreeMap<ReleaseName, Product>,
    /// What failed here, oldest first.
    pub locally_bad: Vec<Bad>,
    /// Products that are neither what they were nor what they should be, until one is committed; with what failed
    /// last. While there is one, only an assignment that says `retry_bad` or `rolls_back` is taken up.
    pub broken: BTreeMap<ReleaseName, Failure>,
    /// Ends of attempts that the controller has not acknowledged, by number; at most [`REPORTS_MAX`].
    pub reports: Vec<Report>,
    /// The number of the next report.
    pub next_report: u64,
    /// The boot it last ran in.
    pub boot_id: BootId,
}

/// A plan accepted and not yet taken up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// The generation that said so.
    pub generation: Generation,
    /// What to do; absent where there is nothing to do.
    pub assignment: Option<Assignment>,
}

/// One product on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// What is active and what is kept to go back to.
    pub installed: Installed,
    /// What the active release says of its steps: needed to look at it without fetching it again.
    pub recipe: Recipe,
}

/// A release that failed here after its activation had begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// Which.
    pub release: ReleaseId,
    /// How it failed; told when it is refused.
    pub failure: Failure,
}

/// A ledger that cannot be read.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// It is not what any version wrote.
    #[error("the ledger cannot be understood")]
    Malformed(#[from] serde_json::Error),
    /// A newer agent wrote it.
    #[error(
        "the ledger has version {found}, this agent reads up to {VERSION}; install an agent at least as new as the one that wrote it"
    )]
    TooNew {
        /// Its version.
        found: u32,
    },
}

/// What is on disk around the ledger. A version that differs in shape gets a module of its own with `From<previous>`.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    v: u32,
    ledger: T,
}

/// Only the version of an envelope.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

impl Ledger {
    /// The ledger of a host that never had work.
    pub fn new(wall: Timestamp) -> Self {
        Self {
            epoch: None,
            generation: Generation(0),
            state: State::Idle,
            since: wall,
            next: None,
            last: None,
            installed: BTreeMap::new(),
            locally_bad: Vec::new(),
            broken: BTreeMap::new(),
            reports: Vec::new(),
            next_report: 1,
            boot_id: BootId::default(),
        }
    }

    /// Its form on disk.
    pub fn to_json(&self) -> Result<Vec<u8>, LedgerError> {
        Ok(serde_json::to_vec(&Envelope {
            v: VERSION,
            ledger: self,
        })?)
    }

    /// Reads what this or an older version wrote; a newer one is refused, not guessed at.
    pub fn from_json(bytes: &[u8]) -> Result<Self, LedgerError> {
        let found = serde_json::from_slice::<Versioned>(bytes)?.v;
        if found > VERSION {
            return Err(LedgerError::TooNew { found });
        }
        Ok(serde_json::from_slice::<Envelope<Self>>(bytes)?.ledger)
    }

    /// How the release failed here before, where it did.
    pub fn bad(&self, release: &ReleaseId) -> Option<&Bad> {
        self.locally_bad.iter().find(|bad| bad.release == *release)
    }

    /// Versions of the product that must stay on disk: the active one and the one to go back to.
    pub(crate) fn kept(&self, product: &ReleaseName) -> Vec<Version> {
        let Some(product) = self.installed.get(product) else {
            return Vec::new();
        };
        let active = Some(product.installed.version.clone());
        active
            .into_iter()
            .chain(product.installed.previous.clone())
            .collect()
    }
}

/// The next instant at which the machine must be woken by `Event::Deadline`; derived, so it needs no timer on disk.
pub fn next_deadline(ledger: &Ledger) -> Option<&Moment> {
    ledger.state.deadline()
}
