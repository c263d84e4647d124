//! A process's identity on disk: its private key, its certificate and the CA that it trusts.
//!
//! All three are in one file, so that renewal replaces them together: a crash leaves the old identity or the new one,
//! never the key of one and the certificate of the other. The file is TOML around PEM; tools that look for PEM blocks
//! (`openssl x509 -in`, `curl --cert`) read it as it is.
//! Invariant: an [`Identity`] in memory has a key that fits its certificate and at least one CA certificate.

mod facts;
mod request;

use std::path::Path;

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::fsx::{self, FileError};

pub use facts::{CertificateFacts, InvalidCertificate, NOT_BEFORE_BACKDATE};
pub use request::{KeyError, PrivateKey, make_csr};

/// A key, a few certificates and a margin; a larger file is not an identity.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// The version of the file's layout.
const VERSION: u32 = 1;

/// Who this process is and whom it trusts.
#[derive(Clone, Debug)]
pub struct Identity {
    key: PrivateKey,
    chain_pem: String,
    ca_pem: String,
    chain: Vec<CertificateDer<'static>>,
    ca: Vec<CertificateDer<'static>>,
    facts: CertificateFacts,
}

/// The file as it is on disk.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    version: u32,
    key: String,
    chain: String,
    ca: String,
}

/// Why an identity cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// Reading or replacing the file.
    #[error("the identity file is not usable")]
    File(#[from] FileError),
    /// The file is damaged or of another version.
    #[error("{path} is not an identity file of version {VERSION}; enrol again to replace it")]
    Format {
        /// The file.
        path: String,
    },
    /// A PEM part has no certificate or a broken one.
    #[error("{part} holds no readable PEM certificate; enrol again")]
    Pem {
        /// Which part of the identity.
        part: &'static str,
    },
    /// The private key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate lacks something that every certificate has.
    #[error(transparent)]
    Certificate(#[from] InvalidCertificate),
    /// The parts come from different enrolments.
    #[error("the private key does not belong to the certificate; enrol again")]
    Mismatch,
}

impl Identity {
    /// Puts an identity together; `chain_pem` begins with the process's own certificate, `ca_pem` holds one or, while
    /// a CA is being replaced, several trusted ones.
    pub fn new(key: PrivateKey, chain_pem: String, ca_pem: String) -> Result<Self, IdentityError> {
        let chain = certificates("the certificate chain", &chain_pem)?;
        let ca = certificates("the CA", &ca_pem)?;
        let [leaf, ..] = chain.as_slice() else {
            return Err(IdentityError::Pem {
                part: "the certificate chain",
            });
        };
        let facts = CertificateFacts::from_der(leaf)?;
        CertifiedKey::from_der(chain.clone(), key.to_der()?, &crate::tls::provider())
            .map_err(|_| IdentityError::Mismatch)?;
        Ok(Self {
            key,
            chain_pem,
            ca_pem,
            chain,
            ca,
            facts,
        })
    }

    /// Reads and checks the file. [`IdentityError::is_missing`] tells an unenrolled machine from a damaged one.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let format = || IdentityError::Format {
            path: path.display().to_string(),
        };
        let bytes = fsx::read_limited(path, MAX_FILE_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| format())?;
        let file: OnDisk = toml::from_str(&text).map_err(|_| format())?;
        if file.version != VERSION {
            return Err(format());
        }
        Self::new(PrivateKey::from_pem(&file.key)?, file.chain, file.ca)
    }

    /// Replaces the file, readable by its owner alone. When it fails, the old identity is still whole on disk.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let file = OnDisk {
            version: VERSION,
            key: self.key.to_pem().to_owned(),
            chain: self.chain_pem.clone(),
            ca: self.ca_pem.clone(),
        };
        let format = |_| IdentityError::Format {
            path: path.display().to_string(),
        };
        let text = toml::to_string_pretty(&file).map_err(format)?;
        fsx::write_atomic(path, text.as_bytes(), 0o600)?;
        Ok(())
    }

    /// The process's own certificate.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// The private key; it leaves the process only into the identity file.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The process's own certificate first, then what leads to the CA.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The CA certificates that peers are verified against.
    pub fn ca(&self) -> &[CertificateDer<'static>] {
        &self.ca
    }

    /// The same as [`Identity::ca`], as PEM, for handing on.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }
}

impl IdentityError {
    /// Whether there is no file at all: the machine was never enrolled.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::File(error) if error.kind() == std::io::ErrorKind::NotFound)
    }
}

/// All certificates of a PEM text; refuses a text without any and one with a broken block.
pub fn certificates(
    part: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(IdentityError::Pem { part }),
    }
}

#[cfg(test)]
mod tests;
