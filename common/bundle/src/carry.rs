//! Between a bundle as it is kept by a publisher, uncompressed and named by its digest, and as it is carried.
//!
//! Reads one file and writes another. Invariant: what comes out has the digest of what went in; compression is only how
//! bytes travel.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use comber_model::{Artifact, Digest};
use sha2::{Digest as _, Sha256};

use crate::build::Tape;

/// Bytes copied at once.
const PIECE: usize = 128 << 10;

/// Compresses the uncompressed bundle `tar` into the new file `out`, and says what it is.
pub fn carry(tar: &Path, out: &Path) -> io::Result<Artifact> {
    let mut from = File::open(tar)?;
    let mut tape = Tape::create(out, from.metadata()?.len())?;
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece)? {
            0 => return tape.finish(),
            read => tape.put(&piece[..read])?,
        }
    }
}

/// Writes the uncompressed bundle of the carried file `bundle` to the new file `out`. To be called with what `inspect` found
/// there: a file that is another one by now is an error.
pub fn decode(bundle: &Path, artifact: &Artifact, out: &Path) -> io::Result<()> {
    let mut from = zstd::Decoder::new(File::open(bundle)?)?
        .single_frame()
        .take(artifact.length.saturating_add(1));
    let mut to = File::create(out)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        let read = from.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        to.write_all(&piece[..read])?;
    }
    to.sync_all()?;
    if Digest(hash.finalize().into()) == artifact.digest {
        return Ok(());
    }
    let changed = format!("{} changed while it was read", bundle.display());
    Err(io::Error::new(io::ErrorKind::InvalidData, changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_the_same_one_whichever_way_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let text = "one line of many\n".repeat(50_000);
        std::fs::write(at("tar"), &text).unwrap();
        let artifact = carry(&at("tar"), &at("carried")).unwrap();
        assert_eq!(artifact.length, text.len() as u64);
        assert!(artifact.carried_length < artifact.length / 10);
        decode(&at("carried"), &artifact, &at("again")).unwrap();
        assert_eq!(std::fs::read_to_string(at("again")).unwrap(), text);
        let other = Artifact {
            digest: Digest([0; 32]),
            ..artifact
        };
        let changed = decode(&at("carried"), &other, &at("again")).unwrap_err();
        assert_eq!(changed.kind(), io::ErrorKind::InvalidData);
    }
}
