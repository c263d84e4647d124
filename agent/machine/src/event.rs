//! What can happen to an agent: the link speaks, the effect in hand answers, a deadline is reached.
//!
//! An [`Answer`] always belongs to the effect last given. The driver drops an effect together with its answer where
//! a transition takes it back, so an answer never needs to say which effect it is of.

use std::collections::{BTreeMap, BTreeSet};

use comber_model::assignment::Desired;
use comber_model::{Digest, Failure, ReleaseId, ReleaseName, Version};
use serde::{Deserialize, Serialize};

use crate::{BootId, Epoch, Recipe};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The controller said all of what this host shall run.
    Desired {
        /// Its database.
        epoch: Epoch,
        /// What it said.
        desired: Desired,
    },
    /// The stream to the controller is up.
    Connected,
    /// It is down.
    Disconnected,
    /// The effect in hand ended.
    Answer(Answer),
    /// A look at the disk: what is active there, whoever put it there.
    Observed(Found),
    /// The host runs in this boot.
    BootObserved {
        /// The boot.
        boot_id: BootId,
    },
    /// The timer for [`next_deadline`](crate::next_deadline) fired.
    Deadline,
}

/// How the effect in hand ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `Fetch`: the bytes are on the host, verified and unpacked beside what is active; or none were needed.
    Fetched {
        /// What the release says of its steps.
        recipe: Recipe,
    },
    /// `Preflight`: the host can take the release.
    PreflightPassed,
    /// `Preflight`: the release is none for this host. That is no failure.
    NotApplicable(Failure),
    /// `Fetch`, `Preflight` or `Activate` failed.
    StepFailed(Failure),
    /// The permit ended while the activation was entered in the ledger; the effect `Activate` was not begun.
    LeaveLapsed,
    /// `Activate`: the switch was made.
    ActivationDone {
        /// The installer or the host says that the change needs a reboot to take effect.
        needs_reboot: bool,
    },
    /// `Reboot`: the host's service manager or an inhibitor refused it.
    RebootRefused {
        /// Who and why, for people.
        why: String,
    },
    /// `Verify`: every check passed.
    ChecksPassed,
    /// `Verify`: a check did not pass in its time.
    ChecksFailed(Failure),
    /// `Verify`: what should be active is not; somebody else changed it.
    Drifted,
    /// `RollBack`: what was active before is active again.
    RolledBack,
    /// `RollBack`: it is not, or not surely.
    RollBackFailed(Failure),
}

/// What is really on the host's disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What `current` points to, by product; a product without a valid link is absent.
    pub active: BTreeMap<ReleaseName, Active>,
    /// Every version on the disk, staged, active or kept, by product.
    pub kept: BTreeMap<ReleaseName, BTreeSet<Version>>,
    /// Products whose last change is over and whose cleanup was cut off.
    pub unfinished: BTreeSet<ReleaseName>,
    /// Activations that something outside of the agent has undone, with why: the watcher of an update of the agent
    /// itself. Holds until the way back was gone.
    pub undone: BTreeMap<ReleaseId, Failure>,
}

/// A release that is active on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Its version.
    pub version: Version,
    /// The digest it was verified by when it was staged.
    pub digest: Digest,
    /// What it says of its steps.
    pub recipe: Recipe,
}
