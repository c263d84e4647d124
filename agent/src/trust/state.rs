//! Where this host's trust stands, for its facts, its status and `trust status`.
//!
//! Reads the record; changes nothing. Invariant: what it says is what the next assignment is judged by while the
//! controller is away.

use std::fmt;
use std::path::Path;

use comber_runtime::telemetry::error_chain;
use comber_trust::{Record, RecordError, kept, look_at_root};
use jiff::Timestamp;
use serde::Serialize;

use super::place::Place;

/// In one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustState {
    /// What is listed can be installed.
    Ok,
    /// No publisher is known.
    NoRoot,
    /// What was signed has ended.
    Expired,
    /// The record is damaged, or was removed.
    Damaged,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustReport {
    /// In one word.
    pub state: TrustState,
    /// What is wrong and what to do; absent where all is well.
    pub problem: Option<String>,
    /// sha256 of the root that this host began with.
    pub pinned: Option<String>,
    /// Versions of root, timestamp, snapshot and targets; absent where only a root is known, or nothing.
    pub versions: Option<[u64; 4]>,
    /// When the first of the four ends.
    pub expires: Option<Timestamp>,
    /// How many releases are listed.
    pub releases: usize,
}

impl TrustState {
    /// The word used in facts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NoRoot => "no_root",
            Self::Expired => "expired",
            Self::Damaged => "damaged",
        }
    }
}

impl TrustReport {
    /// As it is on disk. Blocking.
    pub fn read(state_dir: &Path, now: Timestamp) -> Self {
        let place = Place::of(state_dir);
        let mut report = Self {
            state: TrustState::Ok,
            problem: None,
            pinned: place.pinned(),
            versions: None,
            expires: None,
            releases: 0,
        };
        match Record::load(&place.record()) {
            Ok(record) => report.add(&record, now),
            Err(RecordError::Missing(_)) if report.pinned.is_none() => {
                let problem = super::TrustError::NoRoot.to_string();
                report.fails(TrustState::NoRoot, problem);
            }
            Err(error) => report.fails(TrustState::Damaged, error_chain(&error)),
        }
        report
    }

    fn add(&mut self, record: &Record, now: Timestamp) {
        let listing = match kept(record) {
            Ok(Some(listing)) => listing,
            Ok(None) => {
                self.expires = look_at_root(&record.root).ok().map(|root| root.expires);
                return;
            }
            Err(error) => return self.fails(TrustState::Damaged, error_chain(&error)),
        };
        self.versions = Some(listing.versions);
        self.expires = Some(listing.expires);
        self.releases = listing.releases.len();
        let latest = record.trusted_at.map_or(now, |before| before.max(now));
        if let Err(error) = listing.must_hold(latest) {
            self.fails(TrustState::Expired, error.to_string());
        }
    }

    fn fails(&mut self, state: TrustState, problem: String) {
        self.state = state;
        self.problem = Some(problem);
    }
}

/// For people, in one line.
impl fmt::Display for TrustReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(problem) = &self.problem {
            return write!(f, "{problem}");
        }
        match (self.versions, self.expires) {
            (Some([root, _, _, targets]), Some(expires)) => write!(
                f,
                "what the publisher signed: root {root}, list {targets} of {} releases, until {}",
                self.releases,
                expires.strftime("%Y-%m-%d %H:%M:%S UTC")
            ),
            (None, _) | (_, None) => {
                write!(f, "what the publisher of the pinned root will have signed")
            }
        }
    }
}
