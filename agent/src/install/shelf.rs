//! The releases of one product side by side, and the link that says which of them is active.
//!
//! What every installer stands on: staging, the switch, the look, the cleanup. Runs no command. Invariant: what `current`
//! leads to is never written to and never removed; where its record was lost, it is exchanged whole for proven bytes.

use std::fs;
use std::path::{Path, PathBuf};

use comber_model::Version;

use super::layout::{self, Layout, Link};
use super::{Current, InstallError, Record, Site, Stop};
use crate::trust::Verified;

/// One release among those of its product.
#[derive(Debug, Clone)]
pub struct Shelf {
    pub(super) site: Site,
    pub(super) record: Record,
    pub(super) layout: Layout,
}

impl Shelf {
    pub(super) fn new(site: Site, record: Record) -> Self {
        let layout = Layout::new(site.product_dir(&record));
        Self {
            site,
            record,
            layout,
        }
    }

    /// Whether the bytes are in place: they have their final name only when they are whole.
    pub fn is_staged(&self) -> Result<bool, InstallError> {
        let Record {
            artifact, manifest, ..
        } = &self.record;
        let record = self
            .site
            .catalog
            .find(&manifest.name, &manifest.version, &artifact.digest)?;
        Ok(record.is_some() && self.place(&self.record).is_dir())
    }

    /// Brings the bytes into place beside what is active. Done already is a success.
    pub(super) async fn stage(&self, verified: Verified) -> Result<(), InstallError> {
        let this = self.clone();
        self.site
            .jobs
            .run(move |stop| this.unpack(&verified, stop))
            .await
    }

    /// What `current` leads to.
    pub(super) fn detect(&self) -> Result<Current, InstallError> {
        let name = &self.record.manifest.name;
        Ok(match self.layout.link()? {
            Link::Absent => Current::Nothing,
            Link::Other(target) => Current::Foreign(target),
            Link::Slot(slot) => match self.site.catalog.by_slot(name, &slot)? {
                Some(record) if self.place(&record).is_dir() => Current::Release(Box::new(record)),
                Some(_) | None => Current::Foreign(self.layout.place(&slot)),
            },
        })
    }

    /// Makes a release of the product current: one durable step.
    pub(super) fn switch(&self, record: &Record) -> Result<(), InstallError> {
        let place = self.place(record);
        if !place.is_dir() {
            return Err(InstallError::Gone {
                release: record.id().to_string(),
                path: place,
            });
        }
        self.layout.switch(&record.slot())
    }

    /// Makes nothing current.
    pub(super) fn unlink(&self) -> Result<(), InstallError> {
        self.layout.unlink()
    }

    /// Where the files of a release of the product are.
    pub(super) fn place(&self, record: &Record) -> PathBuf {
        self.layout.place(&record.slot())
    }

    /// Removes the releases that are neither in `keep` nor current, and what crashes left.
    pub(super) async fn cleanup(&self, keep: &[Version]) -> Result<(), InstallError> {
        let this = self.clone();
        let keep = keep.to_vec();
        self.site.jobs.run(move |_| this.sweep(&keep)).await
    }

    /// Blocking part of `stage`. The record comes first: a directory without one would be of unknown origin.
    fn unpack(&self, verified: &Verified, stop: &Stop) -> Result<(), InstallError> {
        let place = self.place(&self.record);
        let name = &self.record.manifest.name;
        let known = self.site.catalog.by_slot(name, &self.record.slot())?;
        if let Some(other) = &known
            && other.artifact.digest != self.record.artifact.digest
        {
            return Err(InstallError::Collision {
                path: place,
                found: other.artifact.digest.to_string(),
            });
        }
        let is_there = place.is_dir();
        if known.is_some() && is_there {
            return Ok(());
        }
        self.layout.make()?;
        if is_there {
            return self.replace_unknown(verified, stop);
        }
        self.site.catalog.put(&self.record)?;
        unpack(verified, &place, stop)
    }

    /// The record of these bytes was lost, so they are not trusted; but they may be in use, so they stay until proven
    /// ones take their place in one step. Only then is there a record again: it must never vouch for the old ones.
    fn replace_unknown(&self, verified: &Verified, stop: &Stop) -> Result<(), InstallError> {
        let slot = self.record.slot();
        let fresh = self.layout.fresh(&slot);
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(layout::io_at("remove", &fresh))?;
        }
        unpack(verified, &fresh, stop)?;
        self.layout.exchange(&slot)?;
        Ok(self.site.catalog.put(&self.record)?)
    }

    fn sweep(&self, keep: &[Version]) -> Result<(), InstallError> {
        comber_bundle::remove_partial(&self.layout.releases())?;
        let active = match self.layout.link()? {
            Link::Slot(slot) => Some(slot),
            Link::Absent | Link::Other(_) => None,
        };
        let name = &self.record.manifest.name;
        let records = self.site.catalog.of(name)?;
        let mut kept: Vec<String> = active.into_iter().collect();
        for record in &records {
            if keep.contains(&record.manifest.version) {
                kept.push(record.slot());
            }
        }
        for slot in self.layout.slots()? {
            if !kept.contains(&slot) {
                self.layout.discard(&slot)?;
            }
        }
        for record in records.iter().filter(|one| !kept.contains(&one.slot())) {
            self.site.catalog.remove(record)?;
        }
        if kept.is_empty() {
            self.layout.unmake();
        }
        Ok(())
    }
}

fn unpack(verified: &Verified, place: &Path, stop: &Stop) -> Result<(), InstallError> {
    let carried =
        fs::File::open(verified.path()).map_err(layout::io_at("open", verified.path()))?;
    comber_bundle::unpack(stop.over(carried), verified.artifact(), place)?;
    Ok(())
}
