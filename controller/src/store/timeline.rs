//! The journal as a whole, put together from its segments: what is there, what is not, and how it ends.
//!
//! Reads segments, writes nothing. The invariant: a revision is either in one of the frames or inside a gap, and
//! the end is called sure only when no frame can have stood behind it.

use std::path::Path;

use super::contract::Revision;
use super::error::{Damage, DiskError};
use super::manifest::{Manifest, SegmentEntry};
use super::segment::{self, Found, Frame, Scan, ScanError};

/// Revisions that were in the journal and are not any more.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    to: Revision,
    pub(super) damage: Damage,
}

/// All that could be read of the journal.
pub(super) struct Timeline {
    scans: Vec<Scan>,
    /// Frames in order: the scan each is in, and the frame.
    frames: Vec<(usize, Found)>,
    pub(super) gaps: Vec<Gap>,
    /// The highest revision the journal shows to have been written.
    pub(super) end: Revision,
    /// Why commits behind the end may be missing.
    pub(super) tail: Option<Damage>,
}

impl Timeline {
    /// Reads every segment the manifest names.
    pub(super) fn read(
        dir: &Path,
        manifest: &Manifest,
        warnings: &mut Vec<String>,
    ) -> Result<Self, DiskError> {
        let newest = manifest
            .checkpoints
            .last()
            .map_or(Revision(0), |newest| newest.revision);
        let (scans, frames, gaps) = (Vec::new(), Vec::new(), Vec::new());
        let mut line = Self {
            scans,
            frames,
            gaps,
            end: newest,
            tail: None,
        };
        if let Some(first) = manifest.segments.first() {
            line.end = first.base;
        }
        for (index, entry) in manifest.segments.iter().enumerate() {
            let next = manifest.segments.get(index + 1).map(|next| next.base);
            match segment::scan(dir, *entry, manifest.epoch) {
                Ok(scan) => line.add(scan, next, warnings),
                Err(ScanError::Disk(error)) => return Err(error),
                Err(ScanError::Damage(damage)) => line.missing(*entry, next, damage, warnings),
            }
        }
        Ok(line)
    }

    fn add(&mut self, scan: Scan, next: Option<Revision>, warnings: &mut Vec<String>) {
        let index = self.scans.len();
        self.end = self.end.max(scan.header.entry.base);
        for found in &scan.frames {
            // What a power cut tore is not part of the journal, even if it could be read later on.
            if next.is_some_and(|next| found.head.last() > next) {
                continue;
            }
            if found.head.first > self.end.next() {
                self.gap(
                    found.head.first.0 - 1,
                    Damage::new(&scan.path, "lacks frames"),
                );
            }
            if found.head.first == self.end.next() {
                self.end = found.head.last();
                self.frames.push((index, found.clone()));
            }
        }
        match next {
            Some(next) if next > self.end => {
                self.gap(next.0, Damage::new(&scan.path, "lacks its last frames"));
            }
            None if scan.cut => {
                self.tail = Some(Damage::new(&scan.path, "was cut short"));
            }
            None if scan.torn => warnings.push(format!(
                "{} ends in a write that was never acknowledged; it is left out",
                scan.path.display()
            )),
            Some(_) | None => {}
        }
        if scan.wounded() {
            warnings.push(format!(
                "{} is damaged; its second copies replace it",
                scan.path.display()
            ));
        }
        self.scans.push(scan);
    }

    fn missing(
        &mut self,
        entry: SegmentEntry,
        next: Option<Revision>,
        damage: Damage,
        warnings: &mut Vec<String>,
    ) {
        warnings.push(damage.to_string());
        self.end = self.end.max(entry.base);
        match next {
            Some(next) if next > self.end => self.gap(next.0, damage),
            Some(_) => {}
            None => self.tail = Some(damage),
        }
    }

    fn gap(&mut self, to: u64, damage: Damage) {
        self.gaps.push(Gap {
            to: Revision(to),
            damage,
        });
        self.end = Revision(to);
    }

    /// The first gap behind a revision, which the journal cannot bridge.
    pub(super) fn gap_after(&self, revision: Revision) -> Option<&Gap> {
        self.gaps.iter().find(|gap| gap.to > revision)
    }

    /// Whether the commits after `revision` are all here.
    pub(super) fn follows(&self, revision: Revision) -> bool {
        let reaches_back = match self.frames.first() {
            Some((_, first)) => first.head.first <= revision.next(),
            None => revision >= self.end,
        };
        (reaches_back || revision >= self.end) && self.gap_after(revision).is_none()
    }

    /// The frames that hold commits after `revision`, oldest first.
    pub(super) fn frames_after(
        &self,
        revision: Revision,
    ) -> impl Iterator<Item = Result<Frame, Damage>> {
        let later = self
            .frames
            .iter()
            .filter(move |(_, found)| found.head.last() > revision);
        later.map(|(scan, found)| self.scans[*scan].frame(found))
    }

    /// Writes again whatever has lost a copy, and the last frame.
    pub(super) fn mend(&self) -> Result<(), DiskError> {
        let last = self.frames.last().map(|(scan, _)| *scan);
        let scans = self.scans.iter().enumerate();
        scans
            .into_iter()
            .try_for_each(|(index, scan)| scan.mend(Some(index) == last))
    }

    /// Whether any segment is not what it was.
    pub(super) fn damaged(&self) -> bool {
        !self.gaps.is_empty() || self.tail.is_some()
    }
}
