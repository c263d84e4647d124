//! A host as the controller knows it: who it is, what it last said, and whether it is there now.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::packages::PackageSummary;
use crate::{
    Digest, Facts, Generation, HostId, Labels, Nonce, ReleaseId, ReleaseName, Report, RolloutId,
    Version,
};

/// An enrolled host. Changes rarely: at enrolment, when facts or labels change, when it is retired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub id: HostId,
    /// What operators say of it.
    pub labels: Labels,
    /// What it says of itself.
    pub facts: Facts,
    /// Which list of its packages is durable here; absent where it never sent one. The list itself is in the store only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<PackageSummary>,
    /// When it was first enrolled.
    pub enrolled_at: Timestamp,
    /// When it was taken out of the fleet; it is refused from then on.
    pub retired_at: Option<Timestamp>,
    /// Fingerprint (sha256) of the certificate last issued to it.
    pub certificate: Digest,
    /// Certificates that begin before this are refused: the begin of the one that its last enrolment gave it. Whoever
    /// holds a certificate from before that is not this host any more.
    pub certificates_since: Timestamp,
    /// Why every certificate of it is refused until it is enrolled again; absent where it is let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<Barred>,
    /// Certificates that were issued to it and are not over: what is revoked by number when it goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issued: Vec<IssuedCertificate>,
}

/// A host that is kept in the fleet and let in no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barred {
    /// Since when, by the controller's clock.
    pub since: Timestamp,
    /// What it is about.
    pub reason: BarReason,
    /// For people, one line.
    pub detail: String,
}

/// Why a host is let in no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BarReason {
    /// An operator revoked its certificates.
    Revoked,
    /// Its key is in use on two machines.
    Cloned,
}

impl BarReason {
    /// The word used in files, logs and the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Cloned => "cloned",
        }
    }
}

/// What is kept of a certificate that was issued to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCertificate {
    /// Its number, in hexadecimal.
    pub serial: String,
    /// Its last valid second.
    pub not_after: Timestamp,
    /// Fingerprint (sha256) of the CA that signed it.
    pub ca: Digest,
}

impl Host {
    /// Most certificates of one host that are remembered. Each renewal adds one and each goes with its end, so more are
    /// those of a host that renews in a loop.
    const ISSUED_MAX: usize = 16;

    /// Remembers a certificate, and forgets those that are over and, where there are too many, the oldest.
    pub fn remember(&mut self, certificate: IssuedCertificate, now: Timestamp) {
        self.issued.retain(|known| known.not_after >= now);
        self.issued.push(certificate);
        let surplus = self.issued.len().saturating_sub(Self::ISSUED_MAX);
        self.issued.drain(..surplus);
    }
}

/// What a host last said of itself: its actual state. Written only where it changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Highest generation that it has accepted durably.
    pub generation: Generation,
    /// Where its machine stands.
    pub state: AgentState,
    /// Since when, by the host's clock.
    pub since: Timestamp,
    /// The attempt it works on or last ended; absent where it never had one.
    pub attempt: Option<AttemptStatus>,
    /// What is active, by product.
    pub installed: BTreeMap<ReleaseName, Installed>,
    /// Releases that failed here and are not tried again unless told.
    pub locally_bad: Vec<ReleaseId>,
    /// Ends of attempts not yet acknowledged, by number.
    pub reports: Vec<Report>,
    /// The boot it runs in.
    pub boot_id: String,
    /// Version of the agent.
    pub agent_version: String,
}

/// The attempt in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptStatus {
    /// The assignment it works on.
    pub generation: Generation,
    /// On whose behalf.
    pub rollout: RolloutId,
    /// What is tried.
    pub release: ReleaseId,
    /// Which try, from 1.
    pub number: u32,
    /// The request for a permit, while it waits for one.
    pub nonce: Option<Nonce>,
}

/// One product's state on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// What is active.
    pub version: Version,
    /// Its bytes.
    pub digest: Digest,
    /// What was active before and is still kept, to go back to.
    pub previous: Option<Version>,
}

/// Where an agent's machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// No work.
    Idle,
    /// Brings the bytes.
    Fetching,
    /// The bytes are on the host, checked and unpacked; preflight runs.
    Staged,
    /// Everything is ready; it needs leave to activate.
    AwaitingPermit,
    /// Switches over.
    Activating,
    /// Asked for a reboot and waits for the next boot.
    Rebooting,
    /// Proves the host healthy.
    Verifying,
    /// The release is kept; the report is on its way.
    Committed,
    /// Goes back.
    RollingBack,
    /// Is back; the report is on its way.
    RolledBack,
    /// Neither forward nor back worked; a person is needed.
    Broken,
}

impl AgentState {
    /// Every state, in the order of an attempt.
    pub const ALL: [Self; 11] = [
        Self::Idle,
        Self::Fetching,
        Self::Staged,
        Self::AwaitingPermit,
        Self::Activating,
        Self::Rebooting,
        Self::Verifying,
        Self::Committed,
        Self::RollingBack,
        Self::RolledBack,
        Self::Broken,
    ];

    /// The word used in files, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetching => "fetching",
            Self::Staged => "staged",
            Self::AwaitingPermit => "awaiting_permit",
            Self::Activating => "activating",
            Self::Rebooting => "rebooting",
            Self::Verifying => "verifying",
            Self::Committed => "committed",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Broken => "broken",
        }
    }

    /// True while the host may be down: from the first change until it is proved healthy or back. Such a host is in
    /// flight, cannot be cancelled, and finishes alone.
    pub fn is_active(self) -> bool {
        matches!(
            self,
            Self::Activating | Self::Rebooting | Self::Verifying | Self::RollingBack
        )
    }
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a host's stream is up. In memory only: it is not written per beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "link")]
pub enum Link {
    /// It is there.
    Up {
        /// Since when.
        since: Timestamp,
    },
    /// It is not.
    Down {
        /// Since when; after a restart of the controller, since that.
        since: Timestamp,
    },
}

impl Link {
    /// True where the host is there now.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Up { .. })
    }
}
