//! Private keys and the requests that get them a certificate.
//!
//! A key is made here and never leaves the machine: only its public half goes into the request. ECDSA P-256, which
//! every TLS stack and hardware token knows. Invariant: a key is never shown by `Debug`.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use thiserror::Error;

/// A private key as PKCS#8 PEM.
#[derive(Clone)]
pub struct PrivateKey {
    pem: String,
}

/// A key or a request could not be made or read.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The library could not make or sign.
    #[error("cannot {step}")]
    Make {
        /// What was being made.
        step: &'static str,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },
    /// The text is not a PKCS#8 key in PEM.
    #[error("the private key is not PKCS#8 PEM")]
    Pem,
}

impl PrivateKey {
    /// A new ECDSA P-256 key.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|source| {
            KeyError::Make {
                step: "make a private key",
                source,
            }
        })?;
        Ok(Self {
            pem: pair.serialize_pem(),
        })
    }

    /// A key from a file; checked to be PKCS#8, not yet to be of a known algorithm.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        Ok(Self {
            pem: pem.to_owned(),
        })
    }

    /// The secret itself, for writing it to a file of mode 0600.
    pub fn to_pem(&self) -> &str {
        &self.pem
    }

    /// For handing to rustls.
    pub fn to_der(&self) -> Result<PrivateKeyDer<'static>, KeyError> {
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(self.pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        Ok(PrivateKeyDer::Pkcs8(key))
    }

    /// For signing with rcgen: requests here, certificates in the controller's CA.
    pub fn to_key_pair(&self) -> Result<KeyPair, KeyError> {
        KeyPair::from_pem(&self.pem).map_err(|source| KeyError::Make {
            step: "read the private key",
            source,
        })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A signing request in PEM for `key`, with `name` as its subject.
///
/// The name is only a help for people who look at the request: the CA takes the public key and chooses the names.
pub fn make_csr(key: &PrivateKey, name: &str) -> Result<String, KeyError> {
    let step = "make a certificate request";
    let pair = key.to_key_pair()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let request = params
        .serialize_request(&pair)
        .map_err(|source| KeyError::Make { step, source })?;
    request
        .pem()
        .map_err(|source| KeyError::Make { step, source })
}
