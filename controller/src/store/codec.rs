//! Little-endian fields in and out of bytes, for everything this module writes to disk.
//!
//! Touches nothing. The invariant: a reader never reads outside its slice and never allocates by a length it has
//! not checked against what is there.

use bytes::Bytes;

/// Takes fields off the front of a buffer; `None` means that the buffer is too short.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// A key: its length in two bytes, then its bytes.
    pub(super) fn key(&mut self) -> Option<Bytes> {
        let len = self.u16()?;
        self.take(usize::from(len)).map(Bytes::copy_from_slice)
    }

    /// A value: its length in four bytes, then its bytes.
    pub(super) fn value(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.take(len).map(Bytes::copy_from_slice)
    }
}

/// Appends fields to a buffer.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u128(&mut self, value: u128) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Counterpart of [`Reader::key`]; longer keys are refused by the limits before they get here.
    pub(super) fn key(&mut self, key: &[u8]) {
        self.u16(u16::try_from(key.len()).unwrap_or(u16::MAX));
        self.raw(key);
    }

    /// Counterpart of [`Reader::value`]; longer values are refused by the limits before they get here.
    pub(super) fn value(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.raw(value);
    }

    /// Ends the buffer with the checksum of all that is in it.
    pub(super) fn seal(&mut self) {
        self.u32(crc32c::crc32c(&self.bytes));
    }
}

/// The content of a sealed buffer, if its checksum holds.
pub(super) fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then_some(body)
}
