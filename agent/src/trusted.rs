//! `comber-agent trust`: whom this host believes, and by what.
//!
//! Reads the identity and the record of the enrolment; changes nothing. Invariant: what it says is what the next
//! connection is judged by.

use std::{fmt, path::Path};

use comber_runtime::{clock::Clock, identity::CertificateFacts};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    identity::{self, StoreError},
    trust::TrustReport,
};

/// Everything that `trust` prints.
#[derive(Debug, Serialize)]
pub struct Trusted {
    /// What the certificate calls this host.
    pub host: Option<String>,
    /// The controller that it connects to.
    pub controller: Option<String>,
    /// Where that address stands: `configuration` or `enrolment`.
    pub controller_from: &'static str,
    /// The host's own certificate.
    pub certificate: Certificate,
    /// The authorities that a controller's certificate must come from; more than one while one is being replaced.
    pub authorities: Vec<Certificate>,
    /// By whose word releases are installed.
    pub releases: TrustReport,
}

/// One certificate.
#[derive(Debug, Serialize)]
pub struct Certificate {
    /// The sha256 of the whole certificate; an authority's is the pin by which tokens name it.
    pub sha256: String,
    /// Its serial number, as openssl prints it.
    pub serial: String,
    /// First valid second.
    pub valid_from: Timestamp,
    /// Last valid second.
    pub valid_until: Timestamp,
    /// What is wrong with it and what to do.
    pub problem: Option<String>,
}

impl Trusted {
    /// Puts it together from what is on disk. `controller` is the one in force, with where it stands.
    pub fn read(
        state_dir: &Path,
        controller: (Option<String>, &'static str),
        clock: &Clock,
    ) -> Result<Self, StoreError> {
        let identity = identity::load(state_dir)?;
        let own = identity.facts();
        let authorities = identity.ca().iter().map(|der| {
            let facts = CertificateFacts::from_der(der);
            let facts = facts.map_err(comber_runtime::identity::IdentityError::from)?;
            let over = facts.is_expired(clock.wall());
            let problem =
                over.then(|| "it is over: enrol again with comber-agent enroll".to_owned());
            Ok(certificate(&facts, problem))
        });
        Ok(Self {
            host: identity::host_of(&identity)
                .ok()
                .map(|host| host.to_string()),
            controller: controller.0,
            controller_from: controller.1,
            certificate: certificate(own, crate::link::expired(&identity, clock)),
            authorities: authorities.collect::<Result<_, StoreError>>()?,
            releases: TrustReport::read(state_dir, clock.wall()),
        })
    }
}

fn certificate(facts: &CertificateFacts, problem: Option<String>) -> Certificate {
    Certificate {
        sha256: facts.fingerprint.clone(),
        serial: facts.serial.clone(),
        valid_from: facts.not_before,
        valid_until: facts.not_after,
        problem,
    }
}

/// For people: one fact a line.
impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line =
            |f: &mut fmt::Formatter<'_>, name: &str, value: &str| writeln!(f, "{name:<13}{value}");
        line(
            f,
            "host",
            self.host.as_deref().unwrap_or("no host's certificate"),
        )?;
        let controller = self.controller.as_deref().unwrap_or("none is set");
        line(
            f,
            "controller",
            &format!("{controller} (from the {})", self.controller_from),
        )?;
        line(f, "certificate", &self.certificate.to_string())?;
        for authority in &self.authorities {
            line(f, "authority", &authority.to_string())?;
        }
        line(f, "releases", &self.releases.to_string())?;
        match &self.releases.pinned {
            Some(pinned) => line(f, "root", &format!("sha256 {pinned}, when it was pinned")),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.valid_until.strftime("%Y-%m-%d %H:%M:%S UTC");
        write!(f, "sha256 {}, valid until {until}", self.sha256)?;
        match &self.problem {
            Some(problem) => write!(f, "; {problem}"),
            None => Ok(()),
        }
    }
}
