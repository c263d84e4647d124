//! A freeze of the whole fleet: when no host begins to activate anything, why, and who says so.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Schedule, Stretch, Zone, ZoneChoice};
use crate::{FreezeName, Invalid};

/// Most freezes of a fleet.
pub const FREEZES_MAX: usize = 100;
/// Most times of one freeze: a calendar of some years.
const TIMES_MAX: usize = 500;
/// Longest record: what a store takes, less what stands around it.
const BYTES_MAX: usize = 48 << 10;
/// Longest reason, and longest name of one time, in bytes.
const TEXT_MAX: usize = 200;

/// One freeze. Stored as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Its name, unique in the fleet.
    pub name: FreezeName,
    /// Why, for people.
    pub reason: String,
    /// Whose clock counts for times that do not say a zone.
    #[serde(default)]
    pub zone: ZoneChoice,
    /// When; each on its own.
    pub times: Vec<FreezeTime>,
    /// Who made it.
    pub author: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One time of a freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeTime {
    /// When.
    pub when: Stretch,
    /// What the calendar calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// The times of a freeze without their titles, for questions.
pub type FreezeDays = Vec<Stretch>;

impl Freeze {
    /// Refuses what is empty or too large.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut found = Vec::new();
        let titles = self.times.iter().filter_map(|time| time.title.as_ref());
        let texts = titles
            .map(|title| ("when.title", title))
            .chain([("reason", &self.reason)]);
        for (field, text) in texts {
            if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
                let problem =
                    format!("must be at most {TEXT_MAX} bytes without control characters");
                found.push(Invalid::new(field, problem));
                break;
            }
        }
        if self.reason.trim().is_empty() {
            found.push(Invalid::new("reason", "is empty; say why nothing may move"));
        }
        if self.times.is_empty() || self.times.len() > TIMES_MAX {
            let problem = format!(
                "there must be 1 to {TIMES_MAX} times, here are {}",
                self.times.len()
            );
            found.push(Invalid::new("when", problem));
        }
        let bytes = serde_json::to_vec(self).map_or(usize::MAX, |bytes| bytes.len());
        if found.is_empty() && bytes > BYTES_MAX {
            let problem = format!(
                "has {bytes} bytes, at most {BYTES_MAX} are allowed; make several freezes of it"
            );
            found.push(Invalid::new("when", problem));
        }
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// Its times.
    pub fn stretches(&self) -> FreezeDays {
        self.times.iter().map(|time| time.when.clone()).collect()
    }

    /// The zone by which it is asked about a host that keeps that one.
    pub fn zone_for<'a>(&'a self, host: &'a Zone) -> &'a Zone {
        match &self.zone {
            ZoneChoice::Host => host,
            ZoneChoice::Named(zone) => zone,
        }
    }

    /// The time of it that covers or follows the instant, by a host's clock.
    pub fn next(&self, host: &Zone, at: Timestamp) -> Option<super::Span> {
        Schedule::new(&self.stretches(), self.zone_for(host)).next(at)
    }
}
