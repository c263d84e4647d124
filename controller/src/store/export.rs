//! One file that holds a whole database: checkpoints and backups are the same thing.
//!
//! ```text
//! header (epoch) | chunks of records, read while commits go on | chunks of the commits meanwhile | end
//! ```
//!
//! Records are read without stopping the writer, so they may be of different revisions; the commits that follow
//! bring all of them to the revision of the end. The invariant: [`verify`] accepts a file only if its checksums
//! hold, nothing is behind its end, and records and commits together give the set-hash the end states.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::codec::{Reader, Writer};
use super::contract::{Item, Key, Op, Revision, Versioned};
use super::disk;
use super::error::{Damage, DiskError};
use super::manifest::{Epoch, FORMAT};
use super::record::{self, SetHash, State, read_item, read_ops, write_item, write_ops};

const MAGIC: u64 = u64::from_le_bytes(*b"CmbrChkp");
const HEADER: usize = 8 + 4 + 16;
const RECORDS: u8 = 1;
const COMMITS: u8 = 2;
const END: u8 = 3;

/// A chunk is written once it has this many bytes; one transaction more may follow.
const CHUNK_BYTES: usize = 256 * 1024;

/// No chunk of ours is longer: a group of commits has at most four transactions of 1 MB, and room to spare.
const MAX_CHUNK: usize = 64 * 1024 * 1024;

/// Name of a checkpoint's file.
pub(super) fn checkpoint_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("checkpoint-{number:08}"))
}

/// What a whole file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) epoch: Epoch,
    pub(super) state: State,
}

/// One thing read back from a file.
pub(super) enum Entry {
    Record(Item),
    /// All operations of the commit with this revision.
    Commit(Revision, Vec<Op>),
}

/// Writes a file under an unfinished name; only [`Export::finish`] gives it its own.
pub(super) struct Export {
    out: BufWriter<File>,
    sha: Sha256,
    unfinished: PathBuf,
    path: PathBuf,
    chunk: Writer,
    kind: u8,
}

impl Export {
    pub(super) fn create(path: &Path, epoch: Epoch) -> Result<Self, DiskError> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".new");
        let unfinished = path.with_file_name(name);
        let file = File::create(&unfinished).map_err(DiskError::at("create", &unfinished))?;
        let mut export = Self {
            out: BufWriter::with_capacity(CHUNK_BYTES, file),
            sha: Sha256::new(),
            unfinished,
            path: path.to_path_buf(),
            chunk: Writer::default(),
            kind: RECORDS,
        };
        let mut header = Writer::default();
        header.u64(MAGIC);
        header.u32(FORMAT);
        header.raw(&epoch.0);
        header.seal();
        export.write(&header.bytes)?;
        Ok(export)
    }

    pub(super) fn unfinished(&self) -> &Path {
        &self.unfinished
    }

    pub(super) fn record(&mut self, item: &Item) -> Result<(), DiskError> {
        self.begin(RECORDS)?;
        write_item(&mut self.chunk, item);
        Ok(())
    }

    pub(super) fn commit(&mut self, revision: Revision, ops: &[Op]) -> Result<(), DiskError> {
        self.begin(COMMITS)?;
        self.chunk.u64(revision.0);
        write_ops(&mut self.chunk, ops);
        Ok(())
    }

    /// Ends the file, makes it durable, reads it back, and only then gives it its name.
    pub(super) fn finish(mut self, state: State) -> Result<(), ReadError> {
        self.flush_chunk()?;
        let digest: [u8; 32] = self.sha.clone().finalize().into();
        self.kind = END;
        self.chunk.raw(&state.encode());
        self.chunk.raw(&digest);
        self.flush_chunk()?;
        let Self {
            out,
            unfinished,
            path,
            ..
        } = self;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all())
            .map_err(DiskError::at("make durable", &unfinished))?;
        verify(&unfinished)?;
        Ok(disk::rename(&unfinished, &path)?)
    }

    fn begin(&mut self, kind: u8) -> Result<(), DiskError> {
        if self.kind != kind || self.chunk.bytes.len() >= CHUNK_BYTES {
            self.flush_chunk()?;
            self.kind = kind;
        }
        Ok(())
    }

    fn flush_chunk(&mut self) -> Result<(), DiskError> {
        if self.chunk.bytes.is_empty() {
            return Ok(());
        }
        let body = std::mem::take(&mut self.chunk).bytes;
        let mut head = Writer::default();
        head.u8(self.kind);
        head.u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        head.u32(crc32c::crc32c(&body));
        head.seal();
        self.write(&head.bytes)?;
        self.write(&body)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.sha.update(bytes);
        self.out
            .write_all(bytes)
            .map_err(DiskError::at("write", &self.unfinished))
    }
}

/// A file could not be read to its end.
#[derive(Debug)]
pub(super) enum ReadError {
    Disk(DiskError),
    Damage(Damage),
    /// The file is as it was written, and what was written is not the set of records it states.
    Mismatch(Damage),
}

impl From<DiskError> for ReadError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Reads a file from its beginning to its end, checking all checksums; nothing of it may be used before this
/// returned `Ok`, except in a place that is thrown away otherwise.
pub(super) fn read(
    path: &Path,
    mut visit: impl FnMut(Entry) -> Result<(), DiskError>,
) -> Result<Summary, ReadError> {
    let mut input = Input::open(path)?;
    let epoch = input.header()?;
    loop {
        let digest: [u8; 32] = input.sha.clone().finalize().into();
        let (kind, body) = input.chunk()?;
        if kind == END {
            let state = input.end(&body, &digest)?;
            return Ok(Summary { epoch, state });
        }
        let mut r = Reader::new(&body);
        while !r.is_empty() {
            let entry = match kind {
                RECORDS => read_item(&mut r).map(Entry::Record),
                COMMITS => read_commit(&mut r),
                _ => None,
            };
            let entry = entry.ok_or_else(|| input.damage("holds a chunk that cannot be read"))?;
            visit(entry).map_err(ReadError::Disk)?;
        }
    }
}

/// Checks every checksum of the chunks without looking into them: finds any damage at the speed of reading.
pub(super) fn check(path: &Path) -> Result<(), ReadError> {
    let mut input = Input::open(path)?;
    input.hashing = false;
    input.header()?;
    loop {
        let (kind, body) = input.chunk()?;
        if kind == END {
            let whole = body
                .split_last_chunk::<32>()
                .and_then(|(state, _)| State::decode(state));
            return match whole {
                Some(_) if input.left == 0 => Ok(()),
                Some(_) | None => Err(input.damage("has a damaged end, or bytes behind it")),
            };
        }
    }
}

fn read_commit(r: &mut Reader<'_>) -> Option<Entry> {
    Some(Entry::Commit(Revision(r.u64()?), read_ops(r)?))
}

/// Proves that a file holds exactly the records whose hash it states.
pub(super) fn verify(path: &Path) -> Result<Summary, ReadError> {
    // What the commits leave of the keys they touch decides over the records, so it has to be known first.
    let mut last: HashMap<Key, Option<Versioned>> = HashMap::new();
    read(path, |entry| {
        if let Entry::Commit(revision, ops) = entry {
            last.extend(ops.into_iter().map(|op| after(op, revision)));
        }
        Ok(())
    })?;
    let mut set = SetHash::default();
    let summary = read(path, |entry| {
        if let Entry::Record(item) = entry
            && !last.contains_key(&item.key)
        {
            set.add(record::hash(&item.key, &item.record));
        }
        Ok(())
    })?;
    for (key, left) in &last {
        if let Some(left) = left {
            set.add(record::hash(key, left));
        }
    }
    if set != summary.state.set {
        return Err(ReadError::Mismatch(Damage::new(
            path,
            "holds other records than it states",
        )));
    }
    Ok(summary)
}

/// What an operation leaves of its key.
pub(super) fn after(op: Op, revision: Revision) -> (Key, Option<Versioned>) {
    match op {
        Op::Put { key, value, lease } => (
            key,
            Some(Versioned {
                value,
                mod_rev: revision,
                lease,
            }),
        ),
        Op::Delete { key } => (key, None),
    }
}

struct Input<'a> {
    file: BufReader<File>,
    path: &'a Path,
    sha: Sha256,
    hashing: bool,
    left: u64,
}

impl<'a> Input<'a> {
    fn open(path: &'a Path) -> Result<Self, ReadError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ReadError::Damage(Damage::new(path, "is missing")));
            }
            Err(error) => return Err(ReadError::Disk(DiskError::at("open", path)(error))),
        };
        let meta = file
            .metadata()
            .map_err(DiskError::at("read", path))
            .map_err(ReadError::Disk)?;
        let file = BufReader::with_capacity(CHUNK_BYTES, file);
        Ok(Self {
            file,
            path,
            sha: Sha256::new(),
            hashing: true,
            left: meta.len(),
        })
    }

    fn damage(&self, what: &str) -> ReadError {
        ReadError::Damage(Damage::new(self.path, what))
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, ReadError> {
        let Some(left) = self.left.checked_sub(len as u64) else {
            return Err(self.damage("is cut short"));
        };
        let mut bytes = vec![0; len];
        self.file
            .read_exact(&mut bytes)
            .map_err(DiskError::at("read", self.path))
            .map_err(ReadError::Disk)?;
        self.left = left;
        if self.hashing {
            self.sha.update(&bytes);
        }
        Ok(bytes)
    }

    fn sealed(&mut self, len: usize, what: &str) -> Result<Vec<u8>, ReadError> {
        let mut bytes = self.take(len + 4)?;
        if super::codec::unseal(&bytes).is_none() {
            return Err(self.damage(what));
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    fn header(&mut self) -> Result<Epoch, ReadError> {
        let bytes = self.sealed(
            HEADER,
            "is no checkpoint or backup, or its header is damaged",
        )?;
        let mut r = Reader::new(&bytes);
        match (r.u64(), r.u32(), r.array()) {
            (Some(MAGIC), Some(FORMAT), Some(epoch)) => Ok(Epoch(epoch)),
            (Some(MAGIC), Some(format), _) => Err(self.damage(&format!(
                "has format {format}, this program reads {FORMAT}: use a newer one"
            ))),
            _ => Err(self.damage("is no checkpoint or backup")),
        }
    }

    fn chunk(&mut self) -> Result<(u8, Vec<u8>), ReadError> {
        let head = self.sealed(9, "has a damaged chunk header")?;
        let mut r = Reader::new(&head);
        let (Some(kind), Some(len), Some(crc)) = (r.u8(), r.u32(), r.u32()) else {
            return Err(self.damage("has a damaged chunk header"));
        };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MAX_CHUNK {
            return Err(self.damage("has a chunk longer than any that is written"));
        }
        let body = self.take(len)?;
        if crc32c::crc32c(&body) != crc {
            return Err(self.damage("has a damaged chunk"));
        }
        Ok((kind, body))
    }

    fn end(&self, body: &[u8], digest: &[u8; 32]) -> Result<State, ReadError> {
        let Some((state, stated)) = body.split_last_chunk::<32>() else {
            return Err(self.damage("has a damaged end"));
        };
        match State::decode(state) {
            Some(state) if stated == digest && self.left == 0 => Ok(state),
            Some(_) | None => Err(self.damage("has a damaged end, or bytes behind it")),
        }
    }
}
