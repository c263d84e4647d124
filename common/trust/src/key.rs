//! Signing keys: made, kept in a file under a passphrase, used.
//!
//! Reads and writes one small file. Ed25519 only. The file is JSON; the private key in it is sealed with AES-256-GCM under a
//! key that PBKDF2-HMAC-SHA256 makes of the passphrase (RFC 8018, the iteration count of OWASP). Invariant: a private key
//! reaches the disk sealed, or in a file that only its owner reads, because the caller said that it has no passphrase.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::pbkdf2;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use comber_runtime::fsx::{self, FileError};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tough::schema::Signature;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::{Ed25519Key, Ed25519Scheme, Key};

/// The form of the files that this code writes.
const FORMAT: u32 = 1;
/// Iterations for new files, about a third of a second.
const ITERATIONS: u32 = 600_000;
/// More is no key file but an attempt to keep somebody busy.
const ITERATIONS_MAX: u32 = 20_000_000;
const SALT: usize = 16;
const FILE_MAX: u64 = 16 << 10;
/// Shorter ones are guessed.
const PASSPHRASE_MIN: usize = 8;

/// Something that signs. A file here; the seam for hardware.
pub trait Signer {
    /// The public half, as metadata holds it.
    fn public(&self) -> Key;

    /// Signs canonical bytes.
    fn sign(&self, message: &[u8]) -> Result<Signature, KeyError>;
}

/// A private key in memory.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

/// A key that cannot be made, read or used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The disk.
    #[error("the key file cannot be used")]
    File(#[from] FileError),
    /// A file of that name exists.
    #[error("{} is there already; a key is never written over another", .0.display())]
    Exists(PathBuf),
    /// Not a key file.
    #[error("{} is not a key file that this version reads", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// It does not open.
    #[error("the passphrase of {} is wrong, or the file was changed", .0.display())]
    Passphrase(PathBuf),
    /// One is needed and none was given.
    #[error("{} is sealed: give its passphrase", .0.display())]
    Sealed(PathBuf),
    /// Too short.
    #[error("a passphrase has at least {PASSPHRASE_MIN} bytes")]
    Short,
    /// The cryptographic library.
    #[error("the key cannot be {0}")]
    Crypto(&'static str),
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    scheme: String,
    /// For people and for `show`; the private half decides.
    public: String,
    private: Private,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Private {
    /// PKCS #8, hexadecimal.
    Plain(String),
    /// The same, sealed.
    Sealed {
        iterations: u32,
        salt: String,
        nonce: String,
        text: String,
    },
}

impl SigningKey {
    /// A new one.
    pub fn generate() -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| KeyError::Crypto("made"))?;
        Self::from_pkcs8(document.as_ref().to_vec())
    }

    /// Writes it to a new file, sealed where there is a passphrase.
    pub fn save(&self, path: &Path, passphrase: Option<&str>) -> Result<(), KeyError> {
        if path.exists() {
            return Err(KeyError::Exists(path.to_owned()));
        }
        let private = match passphrase {
            None => Private::Plain(hex(&self.pkcs8)),
            Some(passphrase) if passphrase.len() < PASSPHRASE_MIN => return Err(KeyError::Short),
            Some(passphrase) => seal(&self.pkcs8, passphrase)?,
        };
        let written = Written {
            format: FORMAT,
            scheme: "ed25519".to_owned(),
            public: hex(self.pair.public_key().as_ref()),
            private,
        };
        let json = serde_json::to_vec_pretty(&written).map_err(|source| KeyError::Damaged {
            path: path.to_owned(),
            source,
        })?;
        Ok(fsx::write_atomic(path, &json, 0o600)?)
    }

    /// Reads a file that [`SigningKey::save`] wrote.
    pub fn load(path: &Path, passphrase: Option<&str>) -> Result<Self, KeyError> {
        Self::parse(path, &fsx::read_limited(path, FILE_MAX)?, passphrase)
    }

    /// Reads what such a file holds; `path` is only for what is said of it.
    pub fn parse(path: &Path, bytes: &[u8], passphrase: Option<&str>) -> Result<Self, KeyError> {
        let private = read(path, bytes)?.private;
        let pkcs8 = match private {
            Private::Plain(text) => unhex(&text).ok_or_else(|| wrong(path, "private"))?,
            sealed @ Private::Sealed { .. } => {
                let passphrase = passphrase.ok_or_else(|| KeyError::Sealed(path.to_owned()))?;
                open(&sealed, passphrase).ok_or_else(|| KeyError::Passphrase(path.to_owned()))?
            }
        };
        Self::from_pkcs8(pkcs8)
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| KeyError::Crypto("read"))?;
        Ok(Self { pair, pkcs8 })
    }
}

impl Signer for SigningKey {
    fn public(&self) -> Key {
        public_key(self.pair.public_key().as_ref().to_vec())
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, KeyError> {
        Ok(Signature {
            keyid: key_id(&self.public())?,
            sig: self.pair.sign(message).as_ref().to_vec().into(),
        })
    }
}

/// Whether a passphrase is needed, and the public half; asks for nothing secret.
pub fn peek(path: &Path) -> Result<(Key, bool), KeyError> {
    let written = read(path, &fsx::read_limited(path, FILE_MAX)?)?;
    let public = unhex(&written.public).ok_or_else(|| wrong(path, "public"))?;
    let is_sealed = matches!(written.private, Private::Sealed { .. });
    Ok((public_key(public), is_sealed))
}

/// A public key from its hexadecimal form, as `show` prints it.
pub fn parse_public(text: &str) -> Option<Key> {
    let bytes = unhex(text.trim())?;
    (bytes.len() == 32).then(|| public_key(bytes))
}

/// The name of a key in metadata.
pub fn key_id(key: &Key) -> Result<Decoded<Hex>, KeyError> {
    key.key_id().map_err(|_| KeyError::Crypto("named"))
}

fn public_key(public: Vec<u8>) -> Key {
    Key::Ed25519 {
        keyval: Ed25519Key {
            public: public.into(),
            _extra: std::collections::HashMap::new(),
        },
        scheme: Ed25519Scheme::Ed25519,
        _extra: std::collections::HashMap::new(),
    }
}

fn read(path: &Path, bytes: &[u8]) -> Result<Written, KeyError> {
    let damaged = |source| KeyError::Damaged {
        path: path.to_owned(),
        source,
    };
    let written: Written = serde_json::from_slice(bytes).map_err(damaged)?;
    if written.format != FORMAT || written.scheme != "ed25519" {
        return Err(wrong(path, "format"));
    }
    Ok(written)
}

fn wrong(path: &Path, field: &str) -> KeyError {
    KeyError::Damaged {
        path: path.to_owned(),
        source: serde::de::Error::custom(format!("{field} is not what it should be")),
    }
}

fn derive(passphrase: &str, salt: &[u8], iterations: u32) -> Option<LessSafeKey> {
    let mut key = [0; 32];
    let iterations = NonZeroU32::new(iterations)?;
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        passphrase.as_bytes(),
        &mut key,
    );
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?))
}

fn seal(plain: &[u8], passphrase: &str) -> Result<Private, KeyError> {
    let failed = || KeyError::Crypto("sealed");
    let (mut salt, mut nonce) = ([0; SALT], [0; NONCE_LEN]);
    let random = SystemRandom::new();
    random.fill(&mut salt).map_err(|_| failed())?;
    random.fill(&mut nonce).map_err(|_| failed())?;
    let key = derive(passphrase, &salt, ITERATIONS).ok_or_else(failed)?;
    let mut text = plain.to_vec();
    let unique = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(unique, Aad::empty(), &mut text)
        .map_err(|_| failed())?;
    Ok(Private::Sealed {
        iterations: ITERATIONS,
        salt: hex(&salt),
        nonce: hex(&nonce),
        text: hex(&text),
    })
}

fn open(sealed: &Private, passphrase: &str) -> Option<Vec<u8>> {
    let Private::Sealed {
        iterations,
        salt,
        nonce,
        text,
    } = sealed
    else {
        return None;
    };
    if *iterations > ITERATIONS_MAX {
        return None;
    }
    let key = derive(passphrase, &unhex(salt)?, *iterations)?;
    let nonce = Nonce::assume_unique_for_key(unhex(nonce)?.try_into().ok()?);
    let mut text = unhex(text)?;
    let plain = key.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
    Some(plain.to_vec())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root-1.key");
        let key = SigningKey::generate().unwrap();
        key.save(&path, Some("correct horse")).unwrap();
        let (public, is_sealed) = peek(&path).unwrap();
        assert!(is_sealed);
        assert_eq!(public, key.public());
        let wrong = SigningKey::load(&path, Some("wrong horse!")).unwrap_err();
        assert!(matches!(wrong, KeyError::Passphrase(_)), "{wrong}");
        let none = SigningKey::load(&path, None).unwrap_err();
        assert!(matches!(none, KeyError::Sealed(_)), "{none}");
        let again = SigningKey::load(&path, Some("correct horse")).unwrap();
        assert_eq!(again.sign(b"x").unwrap(), key.sign(b"x").unwrap());
        assert!(
            !std::fs::read_to_string(&path)
                .unwrap()
                .contains(&hex(&key.pkcs8))
        );
        assert!(matches!(
            key.save(&path, None).unwrap_err(),
            KeyError::Exists(_)
        ));
    }

    #[test]
    fn a_changed_file_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let key = SigningKey::generate().unwrap();
        key.save(&path, Some("correct horse")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let at = text.find("\"text\": \"").unwrap() + 12;
        let flipped = if &text[at..=at] == "0" { "1" } else { "0" };
        std::fs::write(
            &path,
            format!("{}{flipped}{}", &text[..at], &text[at + 1..]),
        )
        .unwrap();
        let refused = SigningKey::load(&path, Some("correct horse")).unwrap_err();
        assert!(matches!(refused, KeyError::Passphrase(_)), "{refused}");
        std::fs::write(&path, "{}").unwrap();
        assert!(SigningKey::load(&path, None).is_err());
    }

    #[test]
    fn hexadecimal_is_read_strictly() {
        assert_eq!(unhex("00ff"), Some(vec![0, 255]));
        for wrong in ["0", "0g", "+1", "é", "0x"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
