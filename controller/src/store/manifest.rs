//! What must be in the directory: the manifest, kept twice, and the mark of what was acknowledged.
//!
//! Writes `manifest-a`, `manifest-b` and `acknowledged`. The invariant: a segment or checkpoint is used only after
//! both copies name it, and removed only after neither does; so one lost copy loses no knowledge, and a file the
//! manifest does not name holds nothing.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::codec::{Reader, Writer, unseal};
use super::contract::Revision;
use super::disk;
use super::error::{DiskError, OpenError};

/// Format of all files beside the tables; a reader refuses what is newer.
pub(super) const FORMAT: u32 = 1;

const MAGIC: u64 = u64::from_le_bytes(*b"CmbrMani");
const COPIES: [&str; 2] = ["manifest-a", "manifest-b"];

/// Random name of one database life; agents remember it, so a restored store is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub [u8; 16]);

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The backup a database was restored from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Epoch of the database that was backed up.
    pub epoch: Epoch,
    /// Where that database stood in the backup; later commits of that epoch are not here.
    pub revision: Revision,
}

/// A journal segment that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentEntry {
    pub(super) number: u64,
    /// Revision before its first frame.
    pub(super) base: Revision,
    /// Its exact length; a shorter file was cut.
    pub(super) size: u64,
}

/// A checkpoint that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CheckpointEntry {
    pub(super) number: u64,
    pub(super) revision: Revision,
}

/// What must be in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) generation: u64,
    pub(super) epoch: Epoch,
    pub(super) origin: Option<Origin>,
    /// Number of the tables' directory.
    pub(super) tables: u64,
    /// The next number for a segment, checkpoint or tables directory; numbers are never used twice.
    pub(super) next: u64,
    pub(super) segments: Vec<SegmentEntry>,
    /// Oldest first.
    pub(super) checkpoints: Vec<CheckpointEntry>,
    /// Set by an orderly close: the database ends exactly here. Cleared before the first commit after it.
    pub(super) clean: Option<Revision>,
}

impl Manifest {
    pub(super) const fn take_number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Length of the finished segments behind the newest checkpoint, so that restarts do not put off the next one.
    pub(super) fn unchecked(&self) -> u64 {
        let newest = self.checkpoints.last().map(|newest| newest.revision);
        let finished = self
            .segments
            .split_last()
            .map_or(&[][..], |(_, finished)| finished);
        let behind = finished.iter().filter(|entry| Some(entry.base) >= newest);
        behind.map(|entry| entry.size).sum()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u64(MAGIC);
        out.u32(FORMAT);
        out.u64(self.generation);
        out.raw(&self.epoch.0);
        out.u8(u8::from(self.origin.is_some()));
        let origin = self.origin.unwrap_or(Origin {
            epoch: Epoch([0; 16]),
            revision: Revision(0),
        });
        out.raw(&origin.epoch.0);
        out.u64(origin.revision.0);
        out.u64(self.tables);
        out.u64(self.next);
        out.u8(u8::from(self.clean.is_some()));
        out.u64(self.clean.map_or(0, |revision| revision.0));
        out.u32(u32::try_from(self.segments.len()).unwrap_or(u32::MAX));
        for segment in &self.segments {
            out.u64(segment.number);
            out.u64(segment.base.0);
            out.u64(segment.size);
        }
        out.u32(u32::try_from(self.checkpoints.len()).unwrap_or(u32::MAX));
        for checkpoint in &self.checkpoints {
            out.u64(checkpoint.number);
            out.u64(checkpoint.revision.0);
        }
        out.seal();
        out.bytes
    }

    fn decode(bytes: &[u8]) -> Option<Decoded> {
        let mut r = Reader::new(unseal(bytes)?);
        if r.u64()? != MAGIC {
            return None;
        }
        match r.u32()? {
            FORMAT => Self::decode_v1(&mut r).map(Decoded::Known),
            found => Some(Decoded::TooNew(found)),
        }
    }

    fn decode_v1(r: &mut Reader<'_>) -> Option<Self> {
        let generation = r.u64()?;
        let epoch = Epoch(r.array()?);
        let restored = r.u8()? != 0;
        let origin = Origin {
            epoch: Epoch(r.array()?),
            revision: Revision(r.u64()?),
        };
        let (tables, next) = (r.u64()?, r.u64()?);
        let closed = r.u8()? != 0;
        let clean = Revision(r.u64()?);
        let segments = (0..r.u32()?).map(|_| {
            Some(SegmentEntry {
                number: r.u64()?,
                base: Revision(r.u64()?),
                size: r.u64()?,
            })
        });
        let segments = segments.collect::<Option<Vec<_>>>()?;
        let checkpoints = (0..r.u32()?).map(|_| {
            Some(CheckpointEntry {
                number: r.u64()?,
                revision: Revision(r.u64()?),
            })
        });
        let checkpoints = checkpoints.collect::<Option<Vec<_>>>()?;
        let (origin, clean) = (restored.then_some(origin), closed.then_some(clean));
        r.is_empty().then_some(Self {
            generation,
            epoch,
            origin,
            tables,
            next,
            segments,
            checkpoints,
            clean,
        })
    }
}

enum Decoded {
    Known(Manifest),
    TooNew(u32),
}

/// Reads the newer whole copy and says in words what was wrong with the other.
pub(super) fn read_manifest(
    dir: &Path,
    warnings: &mut Vec<String>,
) -> Result<Option<Manifest>, OpenError> {
    let mut best: Option<Manifest> = None;
    for name in COPIES {
        let file = dir.join(name);
        match disk::read(&file)?.as_deref().map(Manifest::decode) {
            Some(Some(Decoded::Known(found))) => {
                if best
                    .as_ref()
                    .is_none_or(|best| best.generation < found.generation)
                {
                    best = Some(found);
                }
            }
            Some(Some(Decoded::TooNew(found))) => {
                return Err(OpenError::TooNew {
                    file,
                    found,
                    known: FORMAT,
                });
            }
            Some(None) => warnings.push(format!("{} is damaged", file.display())),
            None => warnings.push(format!("{} is missing", file.display())),
        }
    }
    Ok(best)
}

/// Writes both copies, one after the other, so that one is whole at any instant.
pub(super) fn write_manifest(dir: &Path, manifest: &mut Manifest) -> Result<(), DiskError> {
    manifest.generation += 1;
    let bytes = manifest.encode();
    COPIES
        .iter()
        .try_for_each(|name| disk::replace(&dir.join(name), &bytes))
}

/// Distance between the two slots, so that a torn write hurts one of them only.
const SLOT: u64 = 4096;

/// The highest acknowledged revision, written after each group and synced when there is time: after a crash of the
/// process it is exact, after a power cut it may lag, and it never runs ahead.
pub(super) struct Mark {
    file: File,
    path: PathBuf,
    epoch: Epoch,
    slot: u64,
    synced: bool,
}

impl Mark {
    /// Opens it, makes it if it is missing, and says what it held.
    pub(super) fn open(
        dir: &Path,
        epoch: Epoch,
        warnings: &mut Vec<String>,
    ) -> Result<(Self, Option<Revision>), DiskError> {
        let path = dir.join("acknowledged");
        let found = match disk::read(&path)? {
            Some(bytes) => Self::read(&bytes, epoch),
            None => None,
        };
        if found.is_none() {
            warnings.push(format!("{} is missing or damaged", path.display()));
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = file.map_err(DiskError::at("open", &path))?;
        Ok((
            Self {
                file,
                path,
                epoch,
                slot: 0,
                synced: false,
            },
            found,
        ))
    }

    fn read(bytes: &[u8], epoch: Epoch) -> Option<Revision> {
        const LEN: usize = 28;
        let slots = [bytes.get(..LEN), bytes.get(4096..4096 + LEN)];
        let decode = |slot: &[u8]| {
            let mut r = Reader::new(unseal(slot)?);
            (Epoch(r.array()?) == epoch).then_some(Revision(r.u64()?))
        };
        slots.into_iter().flatten().filter_map(decode).max()
    }

    /// Notes an acknowledged revision without waiting for the disk.
    pub(super) fn note(&mut self, revision: Revision) -> Result<(), DiskError> {
        let mut out = Writer::default();
        out.raw(&self.epoch.0);
        out.u64(revision.0);
        out.seal();
        self.synced = false;
        self.slot ^= SLOT;
        self.file
            .write_all_at(&out.bytes, self.slot)
            .map_err(DiskError::at("write", &self.path))
    }

    /// Makes the mark durable, if it moved.
    pub(super) fn sync(&mut self) -> Result<(), DiskError> {
        if self.synced {
            return Ok(());
        }
        self.file
            .sync_data()
            .map_err(DiskError::at("make durable", &self.path))?;
        self.synced = true;
        Ok(())
    }
}
