//! The journal as the writer sees it: append a frame, and it is durable; a new segment when one is full.
//!
//! Writes segments and, for a new one, the manifest. The invariant: [`Journal::append`] returns only after
//! `fdatasync` said yes, and after any failure the caller must not append again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::contract::Revision;
use super::disk;
use super::error::DiskError;
use super::manifest::{Manifest, SegmentEntry, write_manifest};
use super::segment::{self, Frame, HEADER, SegmentHeader, write_zeros};

/// The manifest, as the writer and the maintenance thread share it.
pub(super) struct Ledger {
    pub(super) dir: PathBuf,
    pub(super) manifest: Mutex<Manifest>,
}

impl Ledger {
    /// Changes the manifest, durably.
    pub(super) fn update<T>(
        &self,
        change: impl FnOnce(&mut Manifest) -> T,
    ) -> Result<T, DiskError> {
        let mut manifest = self.manifest.lock();
        let result = change(&mut manifest);
        write_manifest(&self.dir, &mut manifest)?;
        Ok(result)
    }
}

/// Name of the segment that waits, already zeroed, to be taken into use.
pub(super) fn spare_path(dir: &Path) -> PathBuf {
    dir.join("journal-spare")
}

/// Makes the next segment's file ahead of time, off the writer thread.
pub(super) fn make_spare(dir: &Path, size: u64) -> Result<(), DiskError> {
    let spare = spare_path(dir);
    if spare.metadata().is_ok_and(|meta| meta.len() == size) {
        return Ok(());
    }
    let unfinished = spare.with_extension("new");
    write_zeros(&unfinished, size)?;
    disk::rename(&unfinished, &spare)
}

/// The end of the journal.
pub(super) struct Journal {
    ledger: Arc<Ledger>,
    segment_bytes: u64,
    file: File,
    path: PathBuf,
    header: SegmentHeader,
    offset: u64,
}

impl Journal {
    /// Begins a new segment after `base` and makes it part of the database.
    pub(super) fn begin(
        ledger: Arc<Ledger>,
        segment_bytes: u64,
        base: Revision,
        room: u64,
    ) -> Result<Self, DiskError> {
        let (file, path, header) = begin_segment(&ledger, segment_bytes, base, room)?;
        Ok(Self {
            ledger,
            segment_bytes,
            file,
            path,
            header,
            offset: HEADER,
        })
    }

    /// Makes a group durable; returns the bytes written.
    pub(super) fn append(&mut self, frame: &Frame) -> Result<u64, DiskError> {
        let mut bytes = frame.encode(self.header.nonce);
        if self.offset + bytes.len() as u64 > self.header.entry.size {
            let base = Revision(frame.first.0 - 1);
            let room = bytes.len() as u64;
            let (file, path, header) = begin_segment(&self.ledger, self.segment_bytes, base, room)?;
            (self.file, self.path, self.header, self.offset) = (file, path, header, HEADER);
            bytes = frame.encode(self.header.nonce);
        }
        self.file
            .write_all_at(&bytes, self.offset)
            .map_err(DiskError::at("write", &self.path))?;
        self.file
            .sync_data()
            .map_err(DiskError::at("make durable", &self.path))?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len() as u64)
    }

    /// Whether a spare segment should be made ready.
    pub(super) const fn is_half_full(&self) -> bool {
        self.offset > self.header.entry.size / 2
    }
}

/// The file is whole and durable before the manifest names it, and named before it is written to; a crash between
/// leaves a file that the manifest does not name, which holds nothing.
fn begin_segment(
    ledger: &Ledger,
    segment_bytes: u64,
    base: Revision,
    room: u64,
) -> Result<(File, PathBuf, SegmentHeader), DiskError> {
    let size = segment_bytes.max(HEADER + room);
    let number = ledger.manifest.lock().take_number();
    let entry = SegmentEntry { number, base, size };
    let epoch = ledger.manifest.lock().epoch;
    let path = segment::path(&ledger.dir, number);
    let header = SegmentHeader {
        epoch,
        entry,
        nonce: random_nonce(&path)?,
    };
    let spare = spare_path(&ledger.dir);
    let usable = spare.metadata().is_ok_and(|meta| meta.len() == size);
    let (from, file) = if usable {
        let file = disk::open(&spare)?;
        (spare, file)
    } else {
        let unfinished = path.with_extension("new");
        let file = write_zeros(&unfinished, size)?;
        (unfinished, file)
    };
    file.write_all_at(&header.encode(), 0)
        .map_err(DiskError::at("write", &from))?;
    file.sync_all()
        .map_err(DiskError::at("make durable", &from))?;
    disk::rename(&from, &path)?;
    ledger.update(|manifest| manifest.segments.push(entry))?;
    Ok((file, path, header))
}

fn random_nonce(path: &Path) -> Result<u64, DiskError> {
    getrandom::u64()
        .map_err(|error| std::io::Error::other(error.to_string()))
        .map_err(DiskError::at("draw a random number for", path))
}
