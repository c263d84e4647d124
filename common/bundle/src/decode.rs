//! Decodes the carried bytes as a stream: bounded, counted and hashed on the way.
//!
//! Reads its source and touches nothing else. Invariant: it never hands out more than the limit, and holds no more
//! than one window of the decoder in memory, however large the bundle claims to be.

use std::io::{self, BufRead, BufReader, Read};

use comber_model::Digest;
use sha2::{Digest as _, Sha256};

use crate::refused::Refused;

/// The largest window granted, as a power of two: 8 MiB, which zstd uses up to its level 19 and an agent can spare.
const WINDOW_LOG_MAX: u32 = 23;

type Decoder<R> = zstd::Decoder<'static, BufReader<Source<R>>>;

/// The decoded tar.
pub(crate) struct Decoded<R> {
    decoder: Decoder<R>,
    hash: Sha256,
    read: u64,
    limit: u64,
}

/// What a stream was, known at its end.
pub(crate) struct Totals {
    pub(crate) digest: Digest,
    pub(crate) length: u64,
    pub(crate) carried_length: u64,
}

/// Counts, and remembers that the source failed: the decoder passes errors of the source and its own alike.
struct Source<R> {
    inner: R,
    count: u64,
    failed: bool,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.count += count as u64;
                Ok(count)
            }
            Err(error) => {
                self.failed = error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}

impl<R: Read> Decoded<R> {
    /// Starts at the first carried byte; at most `limit` bytes will come out.
    pub(crate) fn new(source: R, limit: u64) -> Result<Self, Refused> {
        let source = Source {
            inner: source,
            count: 0,
            failed: false,
        };
        let mut decoder = zstd::Decoder::new(source)
            .map_err(Refused::Compression)?
            .single_frame();
        decoder
            .window_log_max(WINDOW_LOG_MAX)
            .map_err(Refused::Compression)?;
        Ok(Self {
            decoder,
            hash: Sha256::new(),
            read: 0,
            limit,
        })
    }

    /// How much is left before the limit.
    pub(crate) fn left(&self) -> u64 {
        self.limit - self.read
    }

    /// Fills `buffer` whole; `inside` is what is being read, for the message.
    pub(crate) fn fill(&mut self, buffer: &mut [u8], inside: &'static str) -> Result<(), Refused> {
        if buffer.len() as u64 > self.left() {
            return Err(Refused::TooLong { limit: self.limit });
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let count = self.read_some(&mut buffer[filled..], inside)?;
            if count == 0 {
                return Err(self.truncated(inside));
            }
            filled += count;
        }
        self.hash.update(&*buffer);
        self.read += buffer.len() as u64;
        Ok(())
    }

    /// Demands that nothing follows, neither in the frame nor after it.
    pub(crate) fn finish(mut self) -> Result<Totals, Refused> {
        let inside = "the end of the zstd frame";
        if self.read_some(&mut [0], inside)? != 0 {
            return Err(Refused::TrailingGarbage);
        }
        let mut source = self.decoder.finish();
        let rest = source.fill_buf().map_err(Refused::Read)?;
        if !rest.is_empty() {
            return Err(Refused::TrailingGarbage);
        }
        Ok(Totals {
            digest: Digest(self.hash.finalize().into()),
            length: self.read,
            carried_length: source.get_ref().count,
        })
    }

    fn read_some(&mut self, buffer: &mut [u8], inside: &'static str) -> Result<usize, Refused> {
        loop {
            let error = match self.decoder.read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) => error,
            };
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(if self.decoder.get_ref().get_ref().failed {
                Refused::Read(error)
            } else if error.kind() == io::ErrorKind::UnexpectedEof {
                self.truncated(inside)
            } else {
                Refused::Compression(error)
            });
        }
    }

    fn truncated(&self, inside: &'static str) -> Refused {
        Refused::Truncated {
            at: self.read,
            inside,
        }
    }
}
