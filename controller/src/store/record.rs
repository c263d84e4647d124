//! How a record is kept, and the set-hash that proves a set of records is exactly what it should be.
//!
//! Touches nothing. The invariant: adding and removing records in any order gives the hash of what is left, so
//! the hash kept at each commit equals the one a scan finds if, and only if, no record is wrong.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::codec::{Reader, Writer, unseal};
use super::contract::{Item, Key, LeaseId, Op, Revision, Versioned};

/// Sum of a 128-bit hash of every record, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SetHash {
    pub(super) sum: u128,
    pub(super) count: u64,
}

impl SetHash {
    pub(super) const fn add(&mut self, hash: u128) {
        self.sum = self.sum.wrapping_add(hash);
        self.count = self.count.wrapping_add(1);
    }

    pub(super) const fn remove(&mut self, hash: u128) {
        self.sum = self.sum.wrapping_sub(hash);
        self.count = self.count.wrapping_sub(1);
    }
}

/// What one record adds to the set-hash.
pub(super) fn hash(key: &[u8], record: &Versioned) -> u128 {
    let mut sha = Sha256::new();
    sha.update((key.len() as u64).to_le_bytes());
    sha.update(key);
    sha.update(record.mod_rev.0.to_le_bytes());
    sha.update(lease_word(record.lease).to_le_bytes());
    sha.update(&record.value);
    let digest: [u8; 32] = sha.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    u128::from_le_bytes(half)
}

/// A record as the tables hold it: revision, lease, value, and a checksum over these and the key.
pub(super) fn encode(key: &[u8], record: &Versioned) -> Vec<u8> {
    let mut out = Writer {
        bytes: Vec::with_capacity(20 + record.value.len()),
    };
    out.u64(record.mod_rev.0);
    out.u64(lease_word(record.lease));
    out.raw(&record.value);
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &out.bytes);
    out.u32(crc);
    out.bytes
}

/// The counterpart of [`encode`]; `None` when the bytes are damaged or belong to another key.
pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Option<Versioned> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c_append(crc32c::crc32c(key), body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut reader = Reader::new(body);
    let mod_rev = Revision(reader.u64()?);
    let lease = lease_of(reader.u64()?);
    let value = Bytes::copy_from_slice(reader.take(body.len() - 16)?);
    Some(Versioned {
        value,
        mod_rev,
        lease,
    })
}

/// Where the tables stand: the revision they hold and the hash of all their records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) revision: Revision,
    pub(super) set: SetHash,
}

impl State {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u64(self.revision.0);
        out.u128(self.set.sum);
        out.u64(self.set.count);
        out.seal();
        out.bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(unseal(bytes)?);
        let revision = Revision(reader.u64()?);
        let set = SetHash {
            sum: reader.u128()?,
            count: reader.u64()?,
        };
        Some(Self { revision, set })
    }
}

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// The operations of one transaction, as journal frames and checkpoints hold them.
pub(super) fn write_ops(out: &mut Writer, ops: &[Op]) {
    out.u32(u32::try_from(ops.len()).unwrap_or(u32::MAX));
    for op in ops {
        match op {
            Op::Put { key, value, lease } => {
                out.u8(PUT);
                out.key(key);
                out.u64(lease_word(*lease));
                out.value(value);
            }
            Op::Delete { key } => {
                out.u8(DELETE);
                out.key(key);
            }
        }
    }
}

/// The counterpart of [`write_ops`].
pub(super) fn read_ops(reader: &mut Reader<'_>) -> Option<Vec<Op>> {
    let count = reader.u32()?;
    let mut ops = Vec::new();
    for _ in 0..count {
        ops.push(match reader.u8()? {
            PUT => {
                let key = reader.key()?;
                let lease = lease_of(reader.u64()?);
                Op::Put {
                    key,
                    value: reader.value()?,
                    lease,
                }
            }
            DELETE => Op::Delete { key: reader.key()? },
            _ => return None,
        });
    }
    Some(ops)
}

/// A whole record, as checkpoints hold it.
pub(super) fn write_item(out: &mut Writer, item: &Item) {
    out.key(&item.key);
    out.u64(item.record.mod_rev.0);
    out.u64(lease_word(item.record.lease));
    out.value(&item.record.value);
}

/// The counterpart of [`write_item`].
pub(super) fn read_item(reader: &mut Reader<'_>) -> Option<Item> {
    let key: Key = reader.key()?;
    let mod_rev = Revision(reader.u64()?);
    let lease = lease_of(reader.u64()?);
    let value = reader.value()?;
    Some(Item {
        key,
        record: Versioned {
            value,
            mod_rev,
            lease,
        },
    })
}

const fn lease_word(lease: Option<LeaseId>) -> u64 {
    match lease {
        Some(LeaseId(id)) => id,
        None => 0,
    }
}

const fn lease_of(word: u64) -> Option<LeaseId> {
    match word {
        0 => None,
        id => Some(LeaseId(id)),
    }
}
