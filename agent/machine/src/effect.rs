//! What the machine wants done. Values only: the driver does it, after the ledger is durable.
//!
//! Invariant: at most one of the effects that answer is given at a time; a later one replaces it.

use comber_model::{Action, Installed, ReleaseId, ReleaseName, Version};
use serde::{Deserialize, Serialize};

use crate::{BootId, Moment};

/// One thing for the driver to do. In the order given; each is idempotent or detectable afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Drop the effect in hand and its answer: the work was cancelled.
    Cancel,
    /// Bring the bytes and stage them. Answers at once where nothing is to be brought.
    Fetch {
        /// For this.
        change: Change,
    },
    /// Check that the host can take it.
    Preflight {
        /// For this.
        change: Change,
    },
    /// Switch over.
    Activate {
        /// What to switch.
        change: Change,
        /// The permit's end. The driver looks at the clock once more after the ledger is durable and answers
        /// `LeaveLapsed` where this is not ahead: a slow disk must not stretch a permit. Absent after a crash that came
        /// after the switch: the permit was used, the host finishes alone.
        leave: Option<Moment>,
    },
    /// Ask the host to reboot. It has no answer when it works: the agent ends, and resumes in the next boot.
    Reboot {
        /// On account of this release.
        release: ReleaseId,
        /// The boot to leave. The driver does nothing where the host runs in another one by now.
        from: BootId,
    },
    /// Prove that the change holds and the host is healthy.
    Verify {
        /// What was changed, or is only looked at.
        change: Change,
        /// False where it is only looked at: then the rest of the host is none of this work's business.
        activated: bool,
    },
    /// Go back to what was active before, from whatever state the activation left.
    RollBack {
        /// What to undo.
        change: Change,
    },
    /// Prove that the host came up again on what was active before: it booted out of what was undone. Answered as
    /// `Verify`, without `Drifted`.
    VerifyBack {
        /// What was undone.
        change: Change,
    },
    /// Look at the disk; answered by `Event::Observed`.
    Inspect,
    /// Remove what is on the disk of this product beside what is named. Has no answer; a failure is only logged, the
    /// next one tries again.
    Cleanup {
        /// The product.
        product: ReleaseName,
        /// Versions to keep; none where the product is gone.
        keep: Vec<Version>,
    },
    /// The actual state changed: say it to the controller. A request for a permit is part of it.
    Publish,
}

/// A change of one product on the host: where from and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What shall be active; for [`Action::Remove`], what shall not be.
    pub release: ReleaseId,
    /// How.
    pub action: Action,
    /// What was active before and is the target of going back; absent where the product was not there.
    pub before: Option<Installed>,
    /// True where the assignment undoes a rollout: only then may an older release come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rolls_back: bool,
}
