//! Builds a bundle from a directory: `release.toml` says what it is, `files/` is what hosts get.
//!
//! Reads DIR and writes one file. Invariant: the same names, contents and execute bits give the same bytes on every
//! machine, at any time, under any umask, locale, owner and order in which the file system lists names.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use comber_model::{Artifact, Digest, Invalid};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::header::{self, END};
use crate::listing::{LISTING_MAX, Listing, Member};
use crate::refused::Refused;
use crate::tree::{self, Found, Kind};

/// The description of the release in DIR.
pub const RELEASE_FILE: &str = "release.toml";
/// The directory in DIR whose content hosts get.
pub const FILES_DIR: &str = "files";
/// A release is compressed once and decoded on every host: a slower level than zstd's own default of 3 pays, and its
/// window of 4 MiB is within what agents grant.
const LEVEL: i32 = 9;

/// A bundle that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The release's manifest and its members.
    pub listing: Listing,
    /// Its identity and lengths.
    pub artifact: Artifact,
    /// Where the carried bytes are.
    pub path: PathBuf,
}

/// How far a build is. Every file is read twice, to be listed and to be packed, and counts twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read so far.
    pub done: u64,
    /// Bytes to read in all.
    pub total: u64,
}

/// Why no bundle was built. Nothing is left behind but a file that was there before.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Everything that is wrong with the release, found at once; fields are paths in DIR.
    #[error("the release is not valid:{}", lines(.0))]
    Invalid(Vec<Invalid>),
    /// A file could not be read or written.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file changed between being listed and being packed.
    #[error("{} changed while the bundle was built; build again when nothing writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The bundle would become a member of its own next build.
    #[error("{} lies in the directory to be bundled; write the bundle elsewhere", path.display())]
    Inside {
        /// Where the bundle should have gone.
        path: PathBuf,
    },
    /// The members break a rule that only shows on all of them together.
    #[error("the release cannot be bundled")]
    Refused(#[from] Refused),
}

/// Builds `dir` into the file `out`, telling `progress` now and then.
pub fn build(
    dir: &Path,
    out: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Built, BuildError> {
    let files = dir.join(FILES_DIR);
    if out.starts_with(&files) {
        return Err(BuildError::Inside {
            path: out.to_owned(),
        });
    }
    let (manifest, found) = tree::read(dir)?;
    let total = found
        .iter()
        .fold(0, |sum: u64, found| sum.saturating_add(found.size))
        .saturating_mul(2);
    let mut meter = Meter {
        now: Progress { done: 0, total },
        tell: progress,
    };
    let mut members = Vec::with_capacity(found.len());
    for found in found {
        members.push(into_member(found, &files, &mut meter)?);
    }
    let listing = Listing::new(manifest, members)?;
    let temporary = beside(out);
    let packed = pack(&files, &listing, &temporary, &mut meter).and_then(|packed| {
        fs::rename(&temporary, out)
            .map_err(io_at("rename", out))
            .map(|()| packed)
    });
    match packed {
        Ok(artifact) => Ok(Built {
            listing,
            artifact,
            path: out.to_owned(),
        }),
        Err(error) => {
            // The first error is the one to tell.
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

struct Meter<'a> {
    now: Progress,
    tell: &'a mut dyn FnMut(Progress),
}

impl Meter<'_> {
    fn add(&mut self, bytes: usize) {
        self.now.done += bytes as u64;
        (self.tell)(self.now);
    }
}

/// Reads the content of a file for its digest.
fn into_member(found: Found, files: &Path, meter: &mut Meter<'_>) -> Result<Member, BuildError> {
    let path = found.path;
    Ok(match found.kind {
        Kind::Dir => Member::Dir { path },
        Kind::Symlink { target } => Member::Symlink { path, target },
        Kind::File { executable } => {
            let mut hash = Sha256::new();
            let size = read_file(&files.join(&path), meter, |bytes| {
                hash.update(bytes);
                Ok(())
            })?;
            Member::File {
                path,
                executable,
                size,
                sha256: Digest(hash.finalize().into()),
            }
        }
    })
}

fn pack(
    files: &Path,
    listing: &Listing,
    out: &Path,
    meter: &mut Meter<'_>,
) -> Result<Artifact, BuildError> {
    let json = listing.to_json().map_err(|error| {
        BuildError::Refused(Refused::ManifestSyntax {
            problem: error.to_string(),
        })
    })?;
    let size = json.len() as u64;
    if size > LISTING_MAX {
        return Err(BuildError::Refused(Refused::ManifestTooLarge { size }));
    }
    let mut tape = Tape::create(out, listing.tar_length(size)).map_err(io_at("create", out))?;
    let writing = || io_at("write", out);
    tape.put(&header::manifest_header(size))
        .map_err(writing())?;
    tape.put(&json).map_err(writing())?;
    tape.pad(size).map_err(writing())?;
    for member in listing.members() {
        tape.put(&header::member_header(member))
            .map_err(writing())?;
        if let Member::File {
            path, size, sha256, ..
        } = member
        {
            let place = files.join(path);
            pack_file(&mut tape, &place, *size, *sha256, meter, out)?;
            tape.pad(*size).map_err(writing())?;
        }
    }
    tape.put(&END).map_err(writing())?;
    tape.finish().map_err(io_at("write", out))
}

fn pack_file(
    tape: &mut Tape,
    place: &Path,
    size: u64,
    sha256: Digest,
    meter: &mut Meter<'_>,
    out: &Path,
) -> Result<(), BuildError> {
    let changed = || BuildError::Changed {
        path: place.to_owned(),
    };
    let mut hash = Sha256::new();
    let mut count = 0;
    read_file(place, meter, |bytes| {
        count += bytes.len() as u64;
        // A file that grows for ever must not be followed.
        if count > size {
            return Err(changed());
        }
        hash.update(bytes);
        tape.put(bytes).map_err(io_at("write", out))
    })?;
    if count != size || Digest(hash.finalize().into()) != sha256 {
        return Err(changed());
    }
    Ok(())
}

fn read_file(
    path: &Path,
    meter: &mut Meter<'_>,
    mut each: impl FnMut(&[u8]) -> Result<(), BuildError>,
) -> Result<u64, BuildError> {
    let mut file = File::open(path).map_err(io_at("open", path))?;
    let mut buffer = vec![0; 128 << 10];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer).map_err(io_at("read", path))?;
        if count == 0 {
            return Ok(size);
        }
        each(&buffer[..count])?;
        size += count as u64;
        meter.add(count);
    }
}

/// The tar on its way into the file: hashed, then compressed.
pub(crate) struct Tape {
    encoder: zstd::Encoder<'static, BufWriter<File>>,
    hash: Sha256,
    length: u64,
}

impl Tape {
    pub(crate) fn create(path: &Path, length: u64) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        let mut encoder = zstd::Encoder::new(file, LEVEL)?;
        // The decoder then takes no larger window than a small release needs.
        encoder.set_pledged_src_size(Some(length))?;
        Ok(Self {
            encoder,
            hash: Sha256::new(),
            length: 0,
        })
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        self.encoder.write_all(bytes)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        self.put(&END[..header::padding(size)])
    }

    pub(crate) fn finish(self) -> io::Result<Artifact> {
        let file = self.encoder.finish()?.into_inner()?;
        file.sync_all()?;
        Ok(Artifact {
            digest: Digest(self.hash.finalize().into()),
            length: self.length,
            carried_length: file.metadata()?.len(),
        })
    }
}

fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

pub(crate) fn io_at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Io { step, path, source }
}

fn lines(problems: &[Invalid]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        text.push_str("\n  ");
        text.push_str(&problem.to_string());
        text
    })
}
