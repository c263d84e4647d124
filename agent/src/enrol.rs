//! Enrolment: a token becomes the host's identity.
//!
//! The key is made here and never leaves; the controller is trusted because its CA has the digest that the token names.
//! Nothing on disk changes until a complete identity is in hand, so a failure of any step leaves an earlier identity in
//! use. Invariant: what is saved is a certificate for this host's name, of our key, from the pinned CA.

use std::path::Path;

use comber_model::HostId;
use comber_runtime::{
    channel::ChannelSettings,
    clock::Clock,
    identity::{Identity, IdentityError, KeyError, PrivateKey, make_csr},
    tls::{self, Pin, TlsError},
    token::Token,
};
use http::Uri;
use thiserror::Error;

use crate::{
    identity::{self, StoreError},
    link::{self, CallError, Callee},
    trust::{self, PinError, Pinned},
};

/// What an administrator gave.
#[derive(Debug)]
pub struct EnrolRequest<'a> {
    /// `https://host:port`.
    pub controller: &'a Uri,
    /// Made by `comber token create`.
    pub token: &'a Token,
    /// What the host is to be called.
    pub name: &'a HostId,
    /// Where the identity goes.
    pub state_dir: &'a Path,
    /// Timeouts.
    pub channel: ChannelSettings,
    /// The publisher's root, where the administrator hands it over: then the controller's answer names nobody to believe.
    pub root: Option<&'a str>,
}

/// What enrolling came to.
#[derive(Debug)]
pub struct Enrolled {
    /// What was saved.
    pub identity: Identity,
    /// The publisher's root; absent where nobody offered one, and this host had none before.
    pub root: Option<Pinned>,
}

/// Which step of enrolment failed, and what to do.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// Making the key or the request.
    #[error("cannot make a key for this host")]
    Key(#[from] KeyError),
    /// Setting up TLS.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// Nobody there, or somebody else: the text names the cause and the remedy.
    #[error("cannot enrol with {controller}: {explained}")]
    Unreachable {
        /// Its address.
        controller: Uri,
        /// Cause and remedy.
        explained: String,
    },
    /// Used up, expired, revoked, or of another controller with the same CA.
    #[error(
        "the token is unknown, used up or expired; make a new one with `comber token create` ({answer})"
    )]
    Token {
        /// What the controller says.
        answer: String,
    },
    /// The token is for other names, or the name is taken or retired.
    #[error(
        "the controller does not let this host be called {name} ({answer}); choose a name that the token allows with --name, or \
         make a token for it with `comber token create`"
    )]
    Name {
        /// As asked for.
        name: HostId,
        /// What the controller says.
        answer: String,
    },
    /// The controller could not, for reasons of its own.
    #[error("{answer}; nothing was changed here, try again")]
    Controller {
        /// What the controller says.
        answer: String,
    },
    /// What came is no identity for us.
    #[error("the controller's answer is not usable: {problem}")]
    Answer {
        /// What is wrong with it.
        problem: String,
    },
    /// Writing it.
    #[error(
        "the new identity could not be saved; the token was used, so make another one after mending this"
    )]
    Save(#[from] StoreError),
    /// The publisher's root.
    #[error("the publisher's root could not be pinned; mend this, then enrol with another token")]
    Root(#[from] PinError),
}

impl EnrolError {
    /// Whether the same request may succeed later. After a failed save the token is used up, or one use of it is.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Controller { .. } => true,
            Self::Key(_)
            | Self::Tls(_)
            | Self::Token { .. }
            | Self::Name { .. }
            | Self::Answer { .. }
            | Self::Root(_)
            | Self::Save(_) => false,
        }
    }
}

/// Enrols and saves; returns what was saved, for telling until when it is valid.
pub async fn enrol(request: &EnrolRequest<'_>, clock: &Clock) -> Result<Enrolled, EnrolError> {
    if let Some(root) = request.root {
        // Before the token is used.
        comber_trust::look_at_root(root).map_err(PinError::Root)?;
    }
    let key = PrivateKey::generate()?;
    let signing_request = make_csr(&key, request.name.as_str())?;
    let tls = tls::enrolment_client(request.token.pin(), clock)?;
    let callee = Callee {
        controller: request.controller,
        tls: &tls,
        channel: &request.channel,
    };
    let issued = link::enrol(
        callee,
        request.token.secret(),
        request.name.as_str(),
        signing_request,
    )
    .await
    .map_err(|error| refused(request, error))?;
    let identity = Identity::new(key, issued.chain, issued.ca).map_err(|error| unusable(&error))?;
    check(&identity, request)?;
    let offered = Some(issued.release_root.as_str()).filter(|root| !root.is_empty());
    let root = request.root.or(offered);
    // First, so that no host is enrolled that would need another token for it.
    let root = root
        .map(|root| trust::pin(request.state_dir, root))
        .transpose()?;
    identity::save_enrolled(request.state_dir, request.controller, &identity)?;
    Ok(Enrolled { identity, root })
}

/// The certificate must be ours and the CA the one that the token names: both are shown to be by now unless the
/// controller is wrong, and a host that trusts the wrong CA for years is not the place to find that out.
fn check(identity: &Identity, request: &EnrolRequest<'_>) -> Result<(), EnrolError> {
    let wrong = |problem: String| EnrolError::Answer { problem };
    let name = identity::host_of(identity).map_err(|error| wrong(error.to_string()))?;
    if name != *request.name {
        return Err(wrong(format!(
            "its certificate is for the host {name} in place of {}",
            request.name
        )));
    }
    let pinned = |ca| Pin::of(ca) == request.token.pin();
    if !identity.ca().iter().any(pinned) {
        return Err(wrong("it does not hold the CA that the token names".into()));
    }
    Ok(())
}

fn unusable(error: &IdentityError) -> EnrolError {
    EnrolError::Answer {
        problem: comber_runtime::telemetry::error_chain(error),
    }
}

fn refused(request: &EnrolRequest<'_>, error: CallError) -> EnrolError {
    match error {
        CallError::Unreachable { explained } => EnrolError::Unreachable {
            controller: request.controller.clone(),
            explained,
        },
        timeout @ CallError::Timeout(_) => EnrolError::Unreachable {
            controller: request.controller.clone(),
            explained: timeout.to_string(),
        },
        CallError::Unauthenticated(answer) => EnrolError::Token { answer },
        CallError::Denied(answer) => EnrolError::Name {
            name: request.name.clone(),
            answer,
        },
        other @ CallError::Other(_) => EnrolError::Controller {
            answer: other.to_string(),
        },
    }
}
