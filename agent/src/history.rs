//! How the last attempts on this host ended, for its administrators; the controller has its own record.
//!
//! Touches `history.json` in the state directory and nothing else. Every end passes through the ledger, so it is noted as
//! the ledger is saved, and once more where a crash came between. Invariant: the work never waits for it: a history that
//! cannot be written is a warning.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;

use comber_machine::Ledger;
use comber_model::Report;
use comber_runtime::fsx::{self, FileError};
use comber_runtime::telemetry::error_chain;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ledger::{SaveError, Store};

const FILE: &str = "history.json";
/// The version written by this code.
const VERSION: u32 = 1;
/// A year of two attempts a week. Each has at most a kilobyte, so the whole is written in one piece.
pub const ENTRIES_MAX: usize = 100;
/// A hundred reports with their longest details, and room for later fields.
const SIZE_MAX: u64 = 1 << 20;

/// The file of one state directory.
#[derive(Debug, Clone)]
pub struct HistoryFile {
    path: PathBuf,
}

/// A history that cannot be read or written.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The disk.
    #[error("the history of this host is not usable")]
    File(#[from] FileError),
    /// It is not what this or an older version wrote.
    #[error("{} is not a history that this agent can read", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// What is on disk.
#[derive(Serialize, Deserialize)]
struct Envelope {
    v: u32,
    /// Oldest first.
    attempts: Vec<Report>,
}

impl HistoryFile {
    /// In that state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(FILE),
        }
    }

    /// The ends noted, oldest first.
    pub fn load(&self) -> Result<Vec<Report>, HistoryError> {
        let bytes = match fsx::read_limited(&self.path, SIZE_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let read: Result<Envelope, _> = serde_json::from_slice(&bytes);
        match read {
            Ok(read) => Ok(read.attempts),
            Err(source) => Err(HistoryError::Malformed {
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// Adds those that are not in it, durably; the oldest go. Blocking.
    pub fn note(&self, reports: &[Report]) -> Result<(), HistoryError> {
        let mut attempts = match self.load() {
            Ok(attempts) => attempts,
            Err(error @ HistoryError::Malformed { .. }) => {
                let error = error_chain(&error);
                tracing::warn!(error, "the history begins anew");
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let known = attempts.len();
        for report in reports {
            if !attempts.contains(report) {
                attempts.push(report.clone());
            }
        }
        if attempts.len() == known {
            return Ok(());
        }
        attempts.drain(..attempts.len().saturating_sub(ENTRIES_MAX));
        let envelope = Envelope {
            v: VERSION,
            attempts,
        };
        let bytes = serde_json::to_vec(&envelope).map_err(|source| HistoryError::Malformed {
            path: self.path.clone(),
            source,
        })?;
        Ok(fsx::write_atomic(&self.path, &bytes, 0o600)?)
    }
}

/// A store that also notes the ends of attempts.
#[derive(Debug)]
pub struct Recorded<S> {
    store: S,
    history: HistoryFile,
    /// The reports of the ledger that was saved last: they are noted already, and most saves have no others.
    noted: Mutex<Vec<u64>>,
}

impl<S> Recorded<S> {
    /// Keeps the ledger in `store`.
    pub fn new(store: S, history: HistoryFile) -> Self {
        Self {
            store,
            history,
            noted: Mutex::default(),
        }
    }
}

impl<S: Store> Store for Recorded<S> {
    fn save(&self, ledger: &Ledger) -> Result<(), SaveError> {
        self.store.save(ledger)?;
        let numbers: Vec<u64> = ledger.reports.iter().map(|report| report.number).collect();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.iter().any(|number| !noted.contains(number))
            && let Err(error) = self.history.note(&ledger.reports)
        {
            let error = error_chain(&error);
            tracing::warn!(error, "the end of an attempt is not in the history");
        }
        *noted = numbers;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use comber_model::{Failure, FailureClass, Generation, ReportResult};
    use jiff::Timestamp;

    use super::*;
    use crate::ledger::LedgerFile;

    fn report(number: u64) -> Report {
        Report {
            number,
            generation: Generation(number),
            rollout: "r1".parse().unwrap(),
            release: "webapp@2".parse().unwrap(),
            attempt: 1,
            result: ReportResult::RolledBack {
                failure: Failure::new(FailureClass::Health, "the page is empty"),
            },
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn numbers(file: &HistoryFile) -> Vec<u64> {
        let attempts = file.load().unwrap();
        attempts.iter().map(|report| report.number).collect()
    }

    #[test]
    fn only_the_newest_hundred_stay_and_none_is_there_twice() {
        let dir = tempfile::tempdir().unwrap();
        let file = HistoryFile::new(dir.path());
        assert!(numbers(&file).is_empty());
        file.note(&[report(1), report(2)]).unwrap();
        file.note(&[report(2), report(3)]).unwrap();
        assert_eq!(numbers(&file), [1, 2, 3]);
        let many: Vec<_> = (4..=120).map(report).collect();
        file.note(&many).unwrap();
        assert_eq!(numbers(&file), (21..=120).collect::<Vec<u64>>());
    }

    #[test]
    fn every_end_that_a_ledger_holds_is_noted_once_also_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let file = HistoryFile::new(dir.path());
        let store = || Recorded::new(LedgerFile::new(dir.path()), file.clone());
        let mut ledger = Ledger::new(Timestamp::UNIX_EPOCH);
        ledger.reports = vec![report(1)];
        let running = store();
        running.save(&ledger).unwrap();
        running.save(&ledger).unwrap();
        // Killed between the ledger and the history; the next process saves at its start.
        ledger.reports.push(report(2));
        LedgerFile::new(dir.path()).save(&ledger).unwrap();
        store().save(&ledger).unwrap();
        assert_eq!(numbers(&file), [1, 2]);
        ledger.reports.clear();
        running.save(&ledger).unwrap();
        assert_eq!(numbers(&file), [1, 2]);
    }

    #[test]
    fn a_damaged_history_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let file = HistoryFile::new(dir.path());
        let store = Recorded::new(LedgerFile::new(dir.path()), file.clone());
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(matches!(file.load(), Err(HistoryError::Malformed { .. })));
        let mut ledger = Ledger::new(Timestamp::UNIX_EPOCH);
        ledger.reports = vec![report(7)];
        store.save(&ledger).unwrap();
        assert_eq!(numbers(&file), [7]);
        // A directory in its place cannot be replaced; the ledger is saved all the same.
        fs::remove_file(dir.path().join(FILE)).unwrap();
        fs::create_dir(dir.path().join(FILE)).unwrap();
        ledger.reports = vec![report(8)];
        store.save(&ledger).unwrap();
    }
}
