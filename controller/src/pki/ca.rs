//! The CA's key and certificate on disk: made once, then only read.
//!
//! The key is written before the certificate, so a crash between the two leaves a key alone; that, like every other
//! incomplete pair, is refused with a remedy and never repaired by itself: a new CA would cut off every enrolled host.
//! Invariant: a [`Ca`] in memory has a key that fits its certificate.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use comber_runtime::{
    clock::later,
    fsx::{self, FileError},
    identity::{CertificateFacts, KeyError, PrivateKey, certificates},
    tls::{Pin, certified_key},
};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use thiserror::Error;

use super::issue::{serial, set_validity};

/// Life of a new CA: longer than most fleets; replacing it means trusting two for a while.
pub const CA_LIFE: Duration = Duration::from_hours(24 * 3652);

const KEY_FILE: &str = "ca-key.pem";
const CERTIFICATE_FILE: &str = "ca.pem";
/// One key or one certificate is about 1 kB.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The certificate authority of this controller.
pub struct Ca {
    pub(super) issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    facts: CertificateFacts,
}

/// Why there is no CA; the controller must not start.
#[derive(Debug, Error)]
pub enum CaError {
    /// Reading or writing in the directory.
    #[error("the CA's directory is not usable")]
    File(#[from] FileError),
    /// One of the two files is missing.
    #[error(
        "{present} is there but {missing} is not; restore {missing} from a backup, or, if no host was enrolled yet, remove \
         {present} to make a new CA"
    )]
    Incomplete {
        /// The file that exists.
        present: PathBuf,
        /// The file that does not.
        missing: PathBuf,
    },
    /// Both files are missing, and there is a state that hosts were enrolled with.
    #[error(
        "there is no CA in {dir}, and the state beside it belongs to one; restore {dir} from a backup: a new CA would cut off \
         every enrolled host",
        dir = dir.display()
    )]
    Missing {
        /// Where it should be.
        dir: PathBuf,
    },
    /// The files come from two CAs.
    #[error("{KEY_FILE} in {dir} is not the key of {CERTIFICATE_FILE}; restore both from the same backup", dir = dir.display())]
    Mismatch {
        /// Where they are.
        dir: PathBuf,
    },
    /// A file that is not what its name says.
    #[error("{path} cannot be read as {expected}; restore it from a backup", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A certificate that may not sign others, put there by hand.
    #[error("{CERTIFICATE_FILE} in {dir} is not a CA certificate; restore it from a backup", dir = dir.display())]
    NotACa {
        /// Where it is.
        dir: PathBuf,
    },
    /// Every certificate that it signed is over with it.
    #[error("the CA's certificate ended at {not_after}; move {dir} away to make a new CA, then enrol every host again", dir = dir.display())]
    Expired {
        /// Its last valid second.
        not_after: Timestamp,
        /// Where it is.
        dir: PathBuf,
    },
    /// Making the key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Making the certificate.
    #[error("cannot make the CA's certificate")]
    Make(#[source] rcgen::Error),
    /// No randomness for a serial number.
    #[error("no randomness from the kernel for a serial number")]
    Randomness(#[source] getrandom::Error),
}

impl Ca {
    /// Reads the CA from `dir`, where hosts were enrolled with it before, so that it must be there.
    pub fn load(dir: &Path, now: Timestamp) -> Result<Self, CaError> {
        let is_there = |file| dir.join(file).exists();
        if is_there(KEY_FILE) || is_there(CERTIFICATE_FILE) {
            return Self::load_or_create(dir, now);
        }
        let dir = dir.to_owned();
        Err(CaError::Missing { dir })
    }

    /// Reads the CA from `dir`, or makes one there when neither of its files exists.
    ///
    /// The key is readable by its owner alone. A CA that was made is durable before it is returned.
    pub fn load_or_create(dir: &Path, now: Timestamp) -> Result<Self, CaError> {
        let (key, certificate) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));
        let ca = match (read(&key)?, read(&certificate)?) {
            (Some(key), Some(certificate)) => Self::from_files(dir, &key, certificate)?,
            (None, None) => Self::create(dir, now)?,
            (Some(_), None) => {
                return Err(CaError::Incomplete {
                    present: key,
                    missing: certificate,
                });
            }
            (None, Some(_)) => {
                return Err(CaError::Incomplete {
                    present: certificate,
                    missing: key,
                });
            }
        };
        if ca.facts.is_expired(now) {
            return Err(CaError::Expired {
                not_after: ca.facts.not_after,
                dir: dir.to_owned(),
            });
        }
        Ok(ca)
    }

    /// The digest of the CA's certificate, which goes into every token.
    pub fn pin(&self) -> Pin {
        Pin::of(&self.certificate)
    }

    /// The CA's certificate, for verifying clients and as the end of the server's chain.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same as PEM, for handing to those who enrol.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its validity and serial number, for `comber` and the log.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    fn create(dir: &Path, now: Timestamp) -> Result<Self, CaError> {
        let key = PrivateKey::generate()?;
        let pair = key.to_key_pair()?;
        let pem = ca_params(now)?
            .self_signed(&pair)
            .map_err(CaError::Make)?
            .pem();
        fsx::create_dir_durable(dir, 0o700)?;
        fsx::write_atomic(&dir.join(KEY_FILE), key.to_pem().as_bytes(), 0o600)?;
        fsx::write_atomic(&dir.join(CERTIFICATE_FILE), pem.as_bytes(), 0o644)?;
        tracing::info!(dir = %dir.display(), "made a new certificate authority");
        Self::from_files(dir, key.to_pem(), pem)
    }

    fn from_files(dir: &Path, key_pem: &str, certificate_pem: String) -> Result<Self, CaError> {
        let damaged = |file, expected| CaError::Damaged {
            path: dir.join(file),
            expected,
        };
        let bad_certificate = || damaged(CERTIFICATE_FILE, "one PEM certificate");
        let bad_key = || damaged(KEY_FILE, "a PKCS#8 PEM key");
        let read = certificates("the CA", &certificate_pem).map_err(|_| bad_certificate())?;
        let [certificate] = <[_; 1]>::try_from(read).map_err(|_| bad_certificate())?;
        let facts = CertificateFacts::from_der(&certificate).map_err(|_| bad_certificate())?;
        if !facts.is_ca {
            return Err(CaError::NotACa {
                dir: dir.to_owned(),
            });
        }
        let key = PrivateKey::from_pem(key_pem).map_err(|_| bad_key())?;
        let pair = key.to_key_pair().map_err(|_| bad_key())?;
        certified_key(vec![certificate.clone()], &key).map_err(|_| CaError::Mismatch {
            dir: dir.to_owned(),
        })?;
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).map_err(|_| bad_certificate())?;
        Ok(Self {
            issuer,
            certificate,
            certificate_pem,
            facts,
        })
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

fn ca_params(now: Timestamp) -> Result<CertificateParams, CaError> {
    let serial = serial().map_err(CaError::Randomness)?;
    let mut params = CertificateParams::default();
    // The serial in the name keeps two CAs apart in lists and lets a client find the right one among several.
    let name = format!("Comber CA {}", serial.to_string().replace(':', ""));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial);
    set_validity(&mut params, now, later(now, CA_LIFE));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// The text of a file, `None` when it does not exist.
fn read(path: &Path) -> Result<Option<String>, CaError> {
    match fsx::read_limited(path, MAX_FILE_BYTES) {
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| CaError::Damaged {
                path: path.to_owned(),
                expected: "PEM text",
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
