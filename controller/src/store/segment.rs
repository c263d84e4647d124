//! One file of the journal: its layout, reading it back, and mending what one copy lost.
//!
//! A segment has its full length, written with zeros and synced, before it is used, so a shorter file was cut.
//! Two header blocks, then frames; each frame lies there twice, each copy beginning on a block of its own:
//!
//! ```text
//! | header | header | frame 1 | frame 1 | frame 2 | frame 2 | 0 0 0 ...
//! ```
//!
//! The invariant: a block that holds an acknowledged frame is never written again with other content, and one
//! flipped bit or one lost block of a frame leaves its other copy whole. So a frame without a whole copy at the
//! end of the journal is one that a power cut tore before it was acknowledged.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::codec::{Reader, Writer, unseal};
use super::contract::{Op, Revision};
use super::disk;
use super::error::{Damage, DiskError};
use super::manifest::{Epoch, SegmentEntry};
use super::record::{SetHash, State, read_ops, write_ops};

/// Unit of placement: what a disk writes at once, so a torn write never reaches into a neighbour.
pub(super) const BLOCK: usize = 4096;

/// Bytes before the first frame.
pub(super) const HEADER: u64 = 2 * BLOCK as u64;

const MAGIC: u64 = u64::from_le_bytes(*b"CmbrJrnl");
const FRAME_MAGIC: u64 = u64::from_le_bytes(*b"CmbrFrme");
const FRAME_HEADER: usize = 65;
const SEGMENT_HEADER: usize = 64;

/// Name of a segment's file.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("journal-{number:08}"))
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) epoch: Epoch,
    pub(super) entry: SegmentEntry,
    /// Random, and in each frame: bytes inside a value are never taken for a frame.
    pub(super) nonce: u64,
}

impl SegmentHeader {
    /// Both header blocks.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u64(MAGIC);
        out.u32(super::manifest::FORMAT);
        out.raw(&self.epoch.0);
        out.u64(self.entry.number);
        out.u64(self.entry.base.0);
        out.u64(self.entry.size);
        out.u64(self.nonce);
        out.seal();
        out.bytes.resize(BLOCK, 0);
        out.bytes.repeat(2)
    }

    fn decode(block: &[u8]) -> Option<Self> {
        let mut r = Reader::new(unseal(block.get(..SEGMENT_HEADER)?)?);
        if (r.u64()?, r.u32()?) != (MAGIC, super::manifest::FORMAT) {
            return None;
        }
        let epoch = Epoch(r.array()?);
        let entry = SegmentEntry {
            number: r.u64()?,
            base: Revision(r.u64()?),
            size: r.u64()?,
        };
        Some(Self {
            epoch,
            entry,
            nonce: r.u64()?,
        })
    }
}

/// A group of transactions that became durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Revision of the first transaction; the others follow one by one.
    pub(super) first: Revision,
    pub(super) txns: Vec<Vec<Op>>,
    /// Hash of all records once the group is applied.
    pub(super) set: SetHash,
}

impl Frame {
    /// Where the tables stand once the group is applied.
    pub(super) const fn state(&self) -> State {
        let last = self.first.0 + self.txns.len() as u64 - 1;
        State {
            revision: Revision(last),
            set: self.set,
        }
    }

    /// Each transaction with its revision.
    pub(super) fn commits(&self) -> impl Iterator<Item = (Revision, &[Op])> {
        let revisions = (self.first.0..).map(Revision);
        revisions.zip(self.txns.iter().map(Vec::as_slice))
    }

    fn payload(&self) -> Vec<u8> {
        let mut out = Writer::default();
        for ops in &self.txns {
            write_ops(&mut out, ops);
        }
        out.bytes
    }

    fn parse(head: &FrameHead, payload: &[u8]) -> Option<Self> {
        let mut r = Reader::new(payload);
        let txns = (0..head.count)
            .map(|_| read_ops(&mut r))
            .collect::<Option<Vec<_>>>()?;
        r.is_empty().then_some(Self {
            first: head.first,
            txns,
            set: head.set,
        })
    }

    /// Both copies, each padded to whole blocks.
    pub(super) fn encode(&self, nonce: u64) -> Vec<u8> {
        let payload = self.payload();
        let head = FrameHead {
            first: self.first,
            count: u32::try_from(self.txns.len()).unwrap_or(u32::MAX),
            len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            crc: crc32c::crc32c(&payload),
            set: self.set,
            copy: 0,
        };
        let mut bytes = Vec::with_capacity(2 * head.padded());
        for copy in [0, 1] {
            bytes.extend_from_slice(&FrameHead { copy, ..head }.encode(nonce));
            bytes.extend_from_slice(&payload);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes
    }
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) first: Revision,
    count: u32,
    len: u32,
    crc: u32,
    set: SetHash,
    copy: u8,
}

impl FrameHead {
    /// Revision of the last transaction.
    pub(super) const fn last(&self) -> Revision {
        Revision(
            self.first
                .0
                .saturating_add(self.count as u64)
                .saturating_sub(1),
        )
    }

    const fn padded(&self) -> usize {
        (FRAME_HEADER + self.len as usize).next_multiple_of(BLOCK)
    }

    fn encode(&self, nonce: u64) -> Vec<u8> {
        let mut out = Writer::default();
        out.u64(FRAME_MAGIC);
        out.u64(nonce);
        out.u64(self.first.0);
        out.u32(self.count);
        out.u32(self.len);
        out.u32(self.crc);
        out.u128(self.set.sum);
        out.u64(self.set.count);
        out.u8(self.copy);
        out.seal();
        out.bytes
    }

    fn decode(bytes: &[u8], nonce: u64) -> Option<Self> {
        let mut r = Reader::new(unseal(bytes.get(..FRAME_HEADER)?)?);
        if (r.u64()?, r.u64()?) != (FRAME_MAGIC, nonce) {
            return None;
        }
        let (first, count, len, crc) = (Revision(r.u64()?), r.u32()?, r.u32()?, r.u32()?);
        let set = SetHash {
            sum: r.u128()?,
            count: r.u64()?,
        };
        (count > 0).then_some(Self {
            first,
            count,
            len,
            crc,
            set,
            copy: r.u8()?,
        })
    }
}

/// A frame of which at least one copy is whole, and where its copies belong.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) head: FrameHead,
    /// Where the first copy lies or belongs.
    offset: usize,
    whole: [bool; 2],
}

/// What a segment's file holds.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
    bytes: Vec<u8>,
    header_whole: [bool; 2],
    /// By first revision.
    pub(super) frames: Vec<Found>,
    /// The file is shorter than it was made, and frames may have stood behind its end.
    pub(super) cut: bool,
    /// The file is not as long as it was made.
    pub(super) wrong_size: bool,
    /// Blocks behind the last frame hold neither zeros nor a whole frame.
    pub(super) torn: bool,
}

/// Reads a segment and finds all that is whole in it.
pub(super) fn scan(dir: &Path, entry: SegmentEntry, epoch: Epoch) -> Result<Scan, ScanError> {
    let path = path(dir, entry.number);
    let Some(bytes) = disk::read(&path)? else {
        return Err(Damage::new(&path, "is missing").into());
    };
    let headers = [0, 1].map(|copy| {
        let block = bytes.get(copy * BLOCK..)?;
        SegmentHeader::decode(block).filter(|h| h.epoch == epoch && h.entry == entry)
    });
    let Some(header) = headers[0].or(headers[1]) else {
        return Err(Damage::new(&path, "has no whole header of this database").into());
    };
    let mut scan = Scan {
        path,
        header,
        header_whole: headers.map(|header| header.is_some()),
        frames: Vec::new(),
        cut: false,
        wrong_size: bytes.len() as u64 != entry.size,
        torn: false,
        bytes,
    };
    scan.find_frames();
    Ok(scan)
}

/// A segment could not be read.
#[derive(Debug)]
pub(super) enum ScanError {
    Disk(DiskError),
    Damage(Damage),
}

impl From<DiskError> for ScanError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<Damage> for ScanError {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl Scan {
    fn find_frames(&mut self) {
        let mut found: BTreeMap<Revision, Found> = BTreeMap::new();
        let mut at = 2 * BLOCK;
        let mut first_zero = None;
        let mut last_used = at;
        while at < self.bytes.len() {
            if let Some(head) = self.whole_copy(at) {
                let copy = usize::from(head.copy);
                let offset = at.saturating_sub(copy * head.padded());
                let frame = found.entry(head.first).or_insert(Found {
                    head,
                    offset,
                    whole: [false; 2],
                });
                frame.whole[copy] = true;
                at += head.padded();
                last_used = at;
                first_zero = None;
                continue;
            }
            let block = &self.bytes[at..self.bytes.len().min(at + BLOCK)];
            let zero = block.iter().all(|byte| *byte == 0);
            if zero && block.len() == BLOCK {
                first_zero.get_or_insert(at);
            }
            if !zero {
                self.torn = true;
                first_zero = None;
            }
            at += BLOCK;
        }
        self.frames = found.into_values().collect();
        // Frames follow each other without a gap, so a whole block of zeros right behind the last one shows that
        // none was written beyond it.
        let ended = first_zero == Some(last_used);
        self.cut = (self.bytes.len() as u64) < self.header.entry.size && !ended;
    }

    fn whole_copy(&self, at: usize) -> Option<FrameHead> {
        let head = FrameHead::decode(self.bytes.get(at..)?, self.header.nonce)?;
        let payload = self.payload(at, &head)?;
        (head.copy < 2 && crc32c::crc32c(payload) == head.crc).then_some(head)
    }

    fn payload(&self, at: usize, head: &FrameHead) -> Option<&[u8]> {
        let start = at.checked_add(FRAME_HEADER)?;
        self.bytes
            .get(start..start.checked_add(usize::try_from(head.len).ok()?)?)
    }

    /// The transactions of a found frame.
    pub(super) fn frame(&self, found: &Found) -> Result<Frame, Damage> {
        let copy = usize::from(!found.whole[0]);
        let at = found.offset + copy * found.head.padded();
        self.payload(at, &found.head)
            .and_then(|payload| Frame::parse(&found.head, payload))
            .ok_or_else(|| Damage::new(&self.path, "holds a frame that cannot be read"))
    }

    /// Whether any copy of a header or frame has to be written again.
    pub(super) fn wounded(&self) -> bool {
        let frames = self.frames.iter().all(|frame| frame.whole == [true; 2]);
        self.wrong_size || self.header_whole != [true; 2] || !frames
    }

    /// Writes again the copies that are not whole, the length, and the very last frame in any case.
    ///
    /// The last frame may stand in the page cache only: a crash came between its write and its sync, or the sync
    /// failed and the kernel forgot about it. It counts as committed from now on, so it is made durable here.
    pub(super) fn mend(&self, last_of_journal: bool) -> Result<(), DiskError> {
        let last = self
            .frames
            .last()
            .filter(|_| last_of_journal)
            .map(|found| found.head.first);
        if !self.wounded() && last.is_none() {
            return Ok(());
        }
        let file = disk::open(&self.path)?;
        if self.wrong_size {
            file.set_len(self.header.entry.size)
                .map_err(DiskError::at("restore the length of", &self.path))?;
        }
        if self.header_whole != [true; 2] {
            self.write_and_sync(&file, &self.header.encode(), 0)?;
        }
        for found in &self.frames {
            for copy in 0..2 {
                let again = !found.whole[copy] || Some(found.head.first) == last;
                if again {
                    self.write_copy(&file, found, copy)?;
                }
            }
        }
        file.sync_all()
            .map_err(DiskError::at("make durable", &self.path))
    }

    fn write_copy(&self, file: &File, found: &Found, copy: usize) -> Result<(), DiskError> {
        let padded = found.head.padded();
        let from = found.offset + usize::from(!found.whole[0]) * padded;
        let head = FrameHead {
            copy: u8::from(copy == 1),
            ..found.head
        };
        let mut bytes = head.encode(self.header.nonce);
        bytes.extend_from_slice(self.payload(from, &found.head).unwrap_or_default());
        bytes.resize(padded, 0);
        self.write_and_sync(file, &bytes, (found.offset + copy * padded) as u64)
    }

    fn write_and_sync(&self, file: &File, bytes: &[u8], at: u64) -> Result<(), DiskError> {
        file.write_all_at(bytes, at)
            .map_err(DiskError::at("write", &self.path))?;
        file.sync_data()
            .map_err(DiskError::at("make durable", &self.path))
    }
}

/// Makes a file of zeros, durable in content but not in name: so that later syncs write no metadata.
pub(super) fn write_zeros(path: &Path, size: u64) -> Result<File, DiskError> {
    const CHUNK: usize = 256 * 1024;
    let mut file = File::create(path).map_err(DiskError::at("create", path))?;
    let zeros = vec![0; CHUNK];
    let mut left = size;
    while left > 0 {
        let len = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
        file.write_all(&zeros[..len])
            .map_err(DiskError::at("write", path))?;
        left -= len as u64;
    }
    file.sync_all()
        .map_err(DiskError::at("make durable", path))?;
    Ok(file)
}
