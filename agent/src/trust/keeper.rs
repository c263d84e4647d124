//! Judges assignments by the publisher's signed metadata, and keeps the record of what was trusted.
//!
//! Asks the controller for the newest metadata first; where that is away, the kept list counts for as long as it holds.
//! Invariant: the record is durable before anything that it lists is installed, and it only moves forward.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comber_model::{Artifact, Digest, ReleaseId, Version};
use comber_runtime::backoff::Backoff;
use comber_runtime::clock::Clock;
use comber_runtime::fsx;
use comber_runtime::telemetry::error_chain;
use comber_trust::{Broken, Listing, Question, Record, RecordError, Source, VerifyError, judge};
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::place::Place;
use super::{Listed, TrustError};
use crate::fetch::Patience;

/// Longest look at the controller just before an activation: the permit's time runs.
const SHORT: Duration = Duration::from_secs(20);
/// How often a list that is replaced while it is read is looked at anew, and after which pause.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// zstd adds less than one part in 128 to what it cannot compress.
const CARRIED_PART: u64 = 128;
/// And this much to anything.
const CARRIED_MORE: u64 = 64 << 10;

/// What the controller assigned.
#[derive(Debug, Clone)]
pub struct Assigned<'a> {
    /// The release.
    pub release: &'a ReleaseId,
    /// Its bytes, as assigned.
    pub artifact: &'a Artifact,
    /// Whether the assignment undoes a rollout.
    pub rolls_back: bool,
    /// What runs of the product.
    pub installed: Option<Runs>,
}

/// What runs of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    /// Which release.
    pub release: ReleaseId,
    /// Its bytes.
    pub digest: Digest,
    /// Its counter, where it was noted when it was staged.
    pub counter: Option<u64>,
}

/// How long a look may wait for a controller that is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until it is back, where the kept list does not allow the release: giving up is the controller's decision.
    Long,
    /// Not at all, beyond one short look.
    Short,
}

/// Holds the record of one host.
pub struct Keeper {
    place: Place,
    source: Arc<dyn Source>,
    clock: Clock,
    agent: Version,
    patience: Patience,
    /// The scratch directory serves one look at a time.
    looking: Mutex<()>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    /// Of the host with that state directory; metadata comes from `source`.
    #[expect(clippy::missing_panics_doc, reason = "cargo's version is one of ours")]
    pub fn new(
        state_dir: &Path,
        source: Arc<dyn Source>,
        patience: Patience,
        clock: Clock,
    ) -> Self {
        Self {
            place: Place::of(state_dir),
            source,
            clock,
            agent: env!("CARGO_PKG_VERSION")
                .parse()
                .expect("cargo's version is one of ours"),
            patience,
            looking: Mutex::default(),
        }
    }

    /// Whether this host may install the release now, by the newest metadata that can be had.
    pub async fn judge(&self, assigned: &Assigned<'_>, wait: Wait) -> Result<Listed, TrustError> {
        let _alone = self.looking.lock().await;
        let Patience {
            backoff_min,
            backoff_max,
        } = self.patience;
        let mut backoff = Backoff::new(backoff_min, backoff_max);
        loop {
            let away = match self.look(wait).await {
                Ok(listing) => return self.decide(&listing, assigned),
                Err(error) if error.is_away() => error,
                Err(error) => return Err(self.refused(error)),
            };
            match self.by_what_is_kept(assigned) {
                Ok(listed) => {
                    let error = error_chain(&away);
                    tracing::info!(release = %assigned.release, error, "judged by the list that is kept");
                    return Ok(listed);
                }
                Err(error) if wait == Wait::Short => {
                    return Err(error.unwrap_or(TrustError::Away(away)));
                }
                // What is kept is of no use without a look, or says no by an old list: a newer one may say yes.
                Err(Some(error @ (TrustError::NoRoot | TrustError::Record(_)))) => {
                    return Err(error);
                }
                Err(_) => {}
            }
            let pause = backoff.next_random();
            let error = error_chain(&away);
            tracing::info!(release = %assigned.release, ?pause, error, "the publisher's metadata is away, asked again after a pause");
            tokio::time::sleep(pause).await;
        }
    }

    /// One look at the controller; moves the record forward.
    async fn look(&self, wait: Wait) -> Result<Listing, VerifyError> {
        let looking = self.refresh();
        match wait {
            Wait::Long => looking.await,
            Wait::Short => match tokio::time::timeout(SHORT, looking).await {
                Ok(looked) => looked,
                Err(_) => Err(VerifyError::Away(std::io::ErrorKind::TimedOut.into())),
            },
        }
    }

    async fn refresh(&self) -> Result<Listing, VerifyError> {
        let path = self.place.record();
        let mut looks = 0;
        loop {
            let record = Record::load(&path)?;
            let mut next = record.clone();
            let looked = comber_trust::look(&mut next, &*self.source, self.clock.wall()).await;
            looks += 1;
            if looks < LOOKS && matches!(looked, Err(VerifyError::Refused(Broken::Missing(_)))) {
                // The publisher's next list came between two files of this look: another one sees the whole of it.
                tokio::time::sleep(BETWEEN_LOOKS).await;
                continue;
            }
            if next == record {
                return looked;
            }
            // Also what was verified before an error stays: a root that revokes keys counts, whatever is withheld behind it.
            let place = self.place.clone();
            let saving = tokio::task::spawn_blocking(move || save(&place, &record, &next));
            let saved = saving.await.unwrap_or_else(|error| {
                Err(VerifyError::Io {
                    path: path.clone(),
                    source: std::io::Error::other(error),
                })
            });
            // Somebody began anew meanwhile: what counts now is another record.
            if saved? {
                return looked;
            }
        }
    }

    /// By the record alone. `Err(None)`: it lists nothing yet.
    fn by_what_is_kept(&self, assigned: &Assigned<'_>) -> Result<Listed, Option<TrustError>> {
        let kept = Record::load(&self.place.record()).map_err(VerifyError::from);
        let (record, listing) = kept
            .and_then(|record| comber_trust::kept(&record).map(|listing| (record, listing)))
            .map_err(|error| Some(self.refused(error)))?;
        let listing = listing.ok_or(None)?;
        let now = self.clock.wall();
        let latest: Timestamp = record.trusted_at.map_or(now, |before| before.max(now));
        let holds = listing.must_hold(latest);
        holds.map_err(|error| Some(TrustError::Expired(error)))?;
        self.decide(&listing, assigned).map_err(Some)
    }

    fn decide(&self, listing: &Listing, assigned: &Assigned<'_>) -> Result<Listed, TrustError> {
        let Assigned {
            release,
            artifact,
            rolls_back,
            installed,
        } = assigned;
        let question = Question {
            release,
            artifact,
            installed: installed.as_ref().and_then(|runs| counter(listing, runs)),
            rolls_back: *rolls_back,
            agent: &self.agent,
        };
        let entry = judge(listing, &question).map_err(TrustError::Unlisted)?;
        let most = entry.length + entry.length / CARRIED_PART + CARRIED_MORE;
        if artifact.carried_length > most {
            return Err(TrustError::Endless {
                carried: artifact.carried_length,
                length: entry.length,
            });
        }
        Ok(Listed {
            release: (*release).clone(),
            digest: Digest(entry.sha256),
            length: entry.length,
            counter: entry.signed.counter,
        })
    }

    /// Gives an error its rule, and raises the alarm where the record itself is of no use.
    fn refused(&self, error: VerifyError) -> TrustError {
        match error {
            VerifyError::Record(RecordError::Missing(_)) if self.place.pinned().is_none() => {
                tracing::error!("no publisher is known: this host installs nothing");
                TrustError::NoRoot
            }
            VerifyError::Record(record) => {
                let error = error_chain(&record);
                tracing::error!(
                    error,
                    "the record of what is trusted is of no use: this host installs nothing"
                );
                TrustError::Record(record)
            }
            expired @ VerifyError::Expired { .. } => TrustError::Expired(expired),
            other => {
                let error = error_chain(&other);
                tracing::error!(error, "the controller shows metadata that is refused");
                TrustError::Metadata(other)
            }
        }
    }
}

/// Replaces the record, unless it is another one by now. Blocking.
fn save(place: &Place, before: &Record, next: &Record) -> Result<bool, VerifyError> {
    let failed = |problem: String| VerifyError::Io {
        path: place.record(),
        source: std::io::Error::other(problem),
    };
    let _lock = place.lock().map_err(|error| failed(error_chain(&error)))?;
    if Record::load(&place.record())? != *before {
        return Ok(false);
    }
    next.save(&place.record())?;
    fsx::fsync_dir(place.dir()).map_err(|error| failed(error_chain(&error)))?;
    Ok(true)
}

/// What was noted when it was staged, or what is listed of the very same bytes.
fn counter(listing: &Listing, runs: &Runs) -> Option<u64> {
    let listed = || {
        let entry = listing.releases.get(&runs.release)?;
        (entry.sha256 == runs.digest.0).then_some(entry.signed.counter)
    };
    runs.counter.or_else(listed)
}

#[cfg(test)]
mod tests;
