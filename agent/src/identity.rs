//! The host's identity while the agent runs: loaded once, replaced by renewal, taken over when the host enrols again.
//!
//! Touches `identity.toml` and `enrolment.toml` in the state directory. Two processes may write them, the running agent
//! (renewal) and `comber-agent enroll`; both hold a lock, and enrolment wins. Invariant: an identity that was enrolled is
//! never overwritten by the renewal of the one before it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use comber_model::HostId;
use comber_runtime::{
    fsx::{self, FileError},
    identity::{Identity, IdentityError},
    peer::{InvalidPeer, PeerIdentity},
};
use http::Uri;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;

use crate::lock::{IDENTITY_LOCK, Lock, LockError};

/// Key, certificate and CA.
const IDENTITY_FILE: &str = "identity.toml";
/// Where the host enrolled.
const ENROLMENT_FILE: &str = "enrolment.toml";
/// Version of the layout of [`ENROLMENT_FILE`].
const ENROLMENT_VERSION: u32 = 1;
/// An address and a name.
const ENROLMENT_MAX: u64 = 16 * 1024;

/// The present identity, shared by everything that connects.
#[derive(Debug)]
pub struct IdentityStore {
    state_dir: PathBuf,
    present: watch::Sender<Arc<Identity>>,
}

/// Where the host belongs, as its last enrolment said.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    version: u32,
    controller: String,
}

/// Why the identity cannot be read or replaced.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is none.
    #[error(
        "this host is not enrolled ({path} does not exist); run comber-agent enroll --controller <url> --token <token>",
        path = path.display()
    )]
    NotEnrolled {
        /// Where the identity would be.
        path: PathBuf,
    },
    /// The file is there but of no use.
    #[error("the identity of this host cannot be used")]
    Identity(#[from] IdentityError),
    /// A certificate of an operator, for example.
    #[error("the identity of this host names no host; enrol again with comber-agent enroll")]
    Name(#[from] InvalidPeer),
    /// The record of the enrolment.
    #[error("{path} is not the record of an enrolment; enrol again with comber-agent enroll", path = path.display())]
    Enrolment {
        /// The file.
        path: PathBuf,
    },
    /// The state directory.
    #[error("the state directory is not usable")]
    File(#[from] FileError),
    /// The lock of the identity.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl IdentityStore {
    /// Reads the identity in `state_dir`.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let identity = load(state_dir)?;
        Ok(Self {
            state_dir: state_dir.to_owned(),
            present: watch::Sender::new(Arc::new(identity)),
        })
    }

    /// What to present to the controller now.
    pub fn present(&self) -> Arc<Identity> {
        Arc::clone(&self.present.borrow())
    }

    /// Wakes whenever the identity becomes another.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Identity>> {
        self.present.subscribe()
    }

    /// Takes over what is on disk, where another process enrolled again; a file that cannot be read changes nothing.
    pub fn reload(&self) -> Arc<Identity> {
        match load(&self.state_dir) {
            Ok(identity) => self.take_over(identity),
            Err(error) => {
                let error = comber_runtime::telemetry::error_chain(&error);
                tracing::warn!(
                    error,
                    "the identity on disk cannot be read, the present one stays in use"
                );
            }
        }
        self.present()
    }

    /// Replaces the identity by its renewal, unless the host was enrolled again meanwhile. Blocking.
    ///
    /// True where `renewed` is durable and in use; false where the newly enrolled one is.
    pub fn renew(&self, before: &Identity, renewed: Identity) -> Result<bool, StoreError> {
        let _lock = Lock::take(&self.state_dir.join(IDENTITY_LOCK))?;
        let on_disk = load(&self.state_dir)?;
        let unchanged = on_disk.facts().fingerprint == before.facts().fingerprint;
        if unchanged {
            renewed.save(&identity_path(&self.state_dir))?;
            self.take_over(renewed);
        } else {
            self.take_over(on_disk);
        }
        Ok(unchanged)
    }

    fn take_over(&self, identity: Identity) {
        self.present.send_if_modified(|present| {
            let other = present.facts().fingerprint != identity.facts().fingerprint;
            if other {
                *present = Arc::new(identity);
            }
            other
        });
    }
}

impl Enrolment {
    /// The controller that the host enrolled with.
    pub fn controller(&self) -> Option<Uri> {
        self.controller.parse().ok()
    }
}

/// Reads the identity, telling a host that was never enrolled from one whose file is damaged.
pub fn load(state_dir: &Path) -> Result<Identity, StoreError> {
    let path = identity_path(state_dir);
    Identity::load(&path).map_err(|error| {
        if error.is_missing() {
            StoreError::NotEnrolled { path }
        } else {
            StoreError::Identity(error)
        }
    })
}

/// The name in the certificate of `identity`: what the controller calls this host.
pub fn host_of(identity: &Identity) -> Result<HostId, StoreError> {
    let leaf = identity.chain().first().ok_or(InvalidPeer::Certificate)?;
    match PeerIdentity::from_certificate(leaf)? {
        PeerIdentity::Host(name) => name
            .parse()
            .map_err(|_| StoreError::Name(InvalidPeer::Name(name))),
        operator @ PeerIdentity::Operator(_) => {
            Err(StoreError::Name(InvalidPeer::Uri(operator.to_string())))
        }
    }
}

/// Where the host enrolled; `None` where it never did or the controller is only in the configuration.
pub fn enrolment(state_dir: &Path) -> Result<Option<Enrolment>, StoreError> {
    let path = state_dir.join(ENROLMENT_FILE);
    let bytes = match fsx::read_limited(&path, ENROLMENT_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let read: Option<Enrolment> = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| toml::from_str(text).ok());
    match read {
        Some(read) if read.version == ENROLMENT_VERSION && read.controller().is_some() => {
            Ok(Some(read))
        }
        Some(_) | None => Err(StoreError::Enrolment { path }),
    }
}

/// Makes a newly enrolled identity the host's, with the controller it belongs to. Blocking.
///
/// The address is written first: a crash between the two leaves an old identity that the new controller refuses with an
/// explanation, and enrolling again heals it.
pub fn save_enrolled(
    state_dir: &Path,
    controller: &Uri,
    identity: &Identity,
) -> Result<(), StoreError> {
    fsx::create_dir_durable(state_dir, 0o700)?;
    let _lock = Lock::take(&state_dir.join(IDENTITY_LOCK))?;
    let path = state_dir.join(ENROLMENT_FILE);
    let record = Enrolment {
        version: ENROLMENT_VERSION,
        controller: controller.to_string(),
    };
    let text =
        toml::to_string(&record).map_err(|_| StoreError::Enrolment { path: path.clone() })?;
    fsx::write_atomic(&path, text.as_bytes(), 0o600)?;
    identity.save(&identity_path(state_dir))?;
    Ok(())
}

/// Makes the host one that belongs nowhere. Blocking. The key goes first; a crash between the two leaves an address that
/// nothing uses.
pub fn remove(state_dir: &Path) -> Result<(), StoreError> {
    let _lock = Lock::take(&state_dir.join(IDENTITY_LOCK))?;
    fsx::remove_durable(&identity_path(state_dir))?;
    fsx::remove_durable(&state_dir.join(ENROLMENT_FILE))?;
    // Another fleet has another publisher.
    crate::trust::forget(state_dir)?;
    Ok(())
}

fn identity_path(state_dir: &Path) -> PathBuf {
    state_dir.join(IDENTITY_FILE)
}
