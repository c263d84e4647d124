//! What the machine has done to the host: the seam between deciding (`comber-machine`) and doing (fetch, install,
//! checks, reboot).
//!
//! The driver calls one of these at a time and persists the ledger before each call. What every implementation
//! promises:
//!
//! - **Again is harmless.** The agent may be killed at any instant and call the same method with the same [`Change`]
//!   after its start, on a host where the first call did nothing, a part, or all of its work.
//! - **Dropping is an end.** The driver drops the future where the work is cancelled or a deadline is reached, and
//!   calls the next method at once. So a dropped future must leave no process, thread or blocking job that goes on
//!   changing the host: kill children on drop, do blocking work in short pieces.
//! - **A failure is a value.** A [`Failure`] carries the class that its budget is counted by; no method panics.

use std::future::Future;

use comber_machine::{Change, Found, Moment, Recipe};
use comber_model::{Failure, ReleaseId, ReleaseName, Version};

use crate::install::Fit;

/// The hands of the agent.
pub trait Effects: Send + Sync + 'static {
    /// Looks at the disk, for every product that Comber installed here. Reads only; an error means that the host
    /// cannot be judged and stops the agent, so a single damaged product is left out of [`Found::active`] instead.
    fn inspect(&self) -> impl Future<Output = Result<Found, Failure>> + Send;

    /// Brings the bytes of [`Action::Install`](comber_model::Action::Install) to the host: downloads them (going on
    /// where an earlier call stopped), checks them against digest, length and signature, and unpacks them durably
    /// beside what is active, which it does not touch. Tries again by itself while the network is down, with backoff
    /// and without end: giving up is the controller's decision. Returns at once where the same digest is still staged
    /// or kept on the disk; and for [`Action::Remove`](comber_model::Action::Remove), with the recipe of what is active
    /// (or the default one).
    ///
    /// Fails with class `fetch` (not to be had: the controller refuses, no space), or `trust` (not what was
    /// published).
    fn fetch(&self, change: &Change) -> impl Future<Output = Result<Recipe, Failure>> + Send;

    /// Checks platform, space, `requires`, the checks of time `before`, and whether the release is one for this host.
    /// Changes nothing. Fails with class `preflight`.
    fn preflight(&self, change: &Change) -> impl Future<Output = Result<Fit, Failure>> + Send;

    /// Notes durably what the host was like before the activation that is about to begin, for the checks after it. Once
    /// for each permit, which `leave` tells apart: an activation taken up again after a crash keeps the first note.
    /// Looks at the clock last: whatever noting took, an activation must not begin after its permit's end. Changes
    /// nothing else. Fails with class `preflight`.
    fn note(
        &self,
        change: &Change,
        leave: &Moment,
    ) -> impl Future<Output = Result<Noted, Failure>> + Send;

    /// Switches: stops what is active, makes `current` point to the release atomically and durably, starts it. For a
    /// removal: stops it and takes the link away; another version that is active by now is left alone. Begins from any
    /// state that an interrupted call, or a way back, left. Where it fails the host may be anything between old and
    /// new; [`Effects::roll_back`] is called next.
    ///
    /// Returns whether the host says that the change takes effect with a reboot only. Fails with class `install`.
    fn activate(&self, change: &Change) -> impl Future<Output = Result<Activated, Failure>> + Send;

    /// Asks for a reboot and returns once it is accepted; the process is then told to end. The text of an error says
    /// who refuses and why; it is asked again later. The driver has made sure that the host still runs in the boot to
    /// leave.
    fn reboot(&self, release: &ReleaseId) -> impl Future<Output = Result<(), String>> + Send;

    /// Looks first whether the change holds: `current` points to the release with this digest, or no longer to it
    /// where it was removed; [`Verdict::Drifted`] where not. Then, but not for a removal, runs the checks of time
    /// `after` until each has passed its number of times in a row. Where the change was `activated`, the host itself is
    /// also judged, against what was noted before: that it came up, and what failed since. Changes nothing. Also called
    /// where nothing was activated, to see whether what is there already is healthy.
    fn verify(&self, change: &Change, activated: bool) -> impl Future<Output = Verdict> + Send;

    /// Proves that the host came up from the reboot on its way back as it was before. Changes nothing. Fails with class
    /// `rollback`.
    fn verify_back(&self, change: &Change) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Makes active again what [`Change::before`] names, or nothing, from any state that `activate`, `verify` or an
    /// interrupted call left, and starts it. Returns `Ok` only where that is surely so: the controller is told that
    /// the host is as it was. Fails with class `rollback`.
    fn roll_back(&self, change: &Change) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Removes every version of the product from the disk but `keep`, and what is left of broken downloads of it.
    /// Never what `current` points to, whatever `keep` says. A failure is logged by the implementation and left to
    /// the next call.
    fn cleanup(&self, product: &ReleaseName, keep: &[Version]) -> impl Future<Output = ()> + Send;

    /// True while the effect in hand only waits for this process to end: an agent that replaces itself. It need not be
    /// waited for then.
    fn ends_with_agent(&self) -> bool {
        false
    }
}

/// Whether an activation may begin once the host was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// Its permit still lives.
    Ready,
    /// Its permit is over.
    Lapsed,
}

/// What an activation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activated {
    /// The installer or the host says that a reboot is needed; counts where the release says `reboot = "auto"`.
    pub needs_reboot: bool,
}

/// What a verification came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The change holds and every check passed.
    Passed,
    /// The change holds and a check did not pass, class `health`.
    Failed(Failure),
    /// The change does not hold: somebody else switched.
    Drifted,
}
