//! Whether a release that the controller assigned is one that the publisher lets a host install.
//!
//! Pure. The controller chooses among what is listed, when and for whom; it can choose nothing else. Invariant: `Ok` means that
//! name, bytes and order are as signed.

use comber_model::{Artifact, ReleaseId, Version};
use thiserror::Error;

use crate::entry::Entry;
use crate::verifier::Listing;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What was assigned.
    pub release: &'a ReleaseId,
    /// Its bytes, as assigned.
    pub artifact: &'a Artifact,
    /// The counter of what the host runs of the product; absent where it has none.
    pub installed: Option<u64>,
    /// True where the assignment says that it undoes a rollout.
    pub rolls_back: bool,
    /// The agent that would install it.
    pub agent: &'a Version,
}

/// The rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unlisted {
    /// The publisher lists no such release, or not any more.
    #[error(
        "{0} is not among the releases that the publisher lists; it was never published or is withdrawn"
    )]
    Release(ReleaseId),
    /// Other bytes.
    #[error("{0} is listed with other bytes than were assigned")]
    Bytes(ReleaseId),
    /// Below the floor.
    #[error(
        "{release} has the counter {counter}, and the publisher's floor for its product is {floor}"
    )]
    Floor {
        /// Which.
        release: ReleaseId,
        /// Its counter.
        counter: u64,
        /// The floor.
        floor: u64,
    },
    /// Older than what runs.
    #[error(
        "{release} has the counter {counter}, and what runs here has {installed}; only a rollback to a listed release that allows it may go back"
    )]
    Older {
        /// Which.
        release: ReleaseId,
        /// Its counter.
        counter: u64,
        /// That of what runs.
        installed: u64,
    },
    /// Too large a step.
    #[error(
        "{release} can be installed from the counter {needed} on, and what runs here has {installed}"
    )]
    Step {
        /// Which.
        release: ReleaseId,
        /// Lowest counter.
        needed: u64,
        /// That of what runs.
        installed: u64,
    },
    /// The agent is too old.
    #[error("{release} needs the agent {needed} or newer, this one is {agent}")]
    Agent {
        /// Which.
        release: ReleaseId,
        /// Lowest version.
        needed: Version,
        /// This one.
        agent: Version,
    },
}

/// Looks an assignment up in what is signed.
pub fn judge<'l>(listing: &'l Listing, question: &Question<'_>) -> Result<&'l Entry, Unlisted> {
    let release = question.release;
    let entry = listing.releases.get(release);
    let entry = entry.ok_or_else(|| Unlisted::Release(release.clone()))?;
    if entry.sha256 != question.artifact.digest.0 || entry.length != question.artifact.length {
        return Err(Unlisted::Bytes(release.clone()));
    }
    let signed = &entry.signed;
    let counter = signed.counter;
    if let Some(&floor) = listing.floors.get(&release.name)
        && counter < floor
    {
        return Err(Unlisted::Floor {
            release: release.clone(),
            counter,
            floor,
        });
    }
    if let Some(installed) = question.installed {
        let goes_back = counter < installed;
        if goes_back && !(question.rolls_back && signed.rollback_ok) {
            return Err(Unlisted::Older {
                release: release.clone(),
                counter,
                installed,
            });
        }
        if let Some(needed) = signed.min_from
            && !goes_back
            && installed < needed
        {
            return Err(Unlisted::Step {
                release: release.clone(),
                needed,
                installed,
            });
        }
    }
    match &signed.min_agent {
        Some(needed) if question.agent.is_older_than(needed) => Err(Unlisted::Agent {
            release: release.clone(),
            needed: needed.clone(),
            agent: question.agent.clone(),
        }),
        Some(_) | None => Ok(entry),
    }
}
