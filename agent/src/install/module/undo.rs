//! The way back of a change, and every change's last calls.
//!
//! ```text
//!   begun, not installed ──────────────────────────────────────────────────────────────┐
//!   installed ─> SupportsRollback ─ Yes ─> ArtifactRollback ─┬─ no reboot ─────────────┤
//!                        │ No, or it fails                   └─ reboot ─> Verify... ──┤
//!                        └─> lost ────────────────────────────────> ArtifactFailure ──┴─> Cleanup
//! ```
//!
//! Every step may be run again after a crash: the session says which is the next. Invariant: a host counts as led back
//! only where the module said so; where it did not, `lost` says why, on the disk, until the next change begins.

use comber_runtime::telemetry::error_chain;

use super::calls::Calls;
use super::error::ModuleError;
use super::protocol::{Query, Reboot, State};
use crate::install::InstallError;

impl Calls {
    /// Takes back what the module did, as far as it did anything. What came of it is in the session.
    pub(super) async fn take_back(&mut self) -> Result<(), ModuleError> {
        if self.session.lost.is_some() {
            return Ok(());
        }
        match self.session.state {
            State::ArtifactInstall
            | State::NeedsArtifactReboot
            | State::ArtifactReboot
            | State::ArtifactVerifyReboot
            | State::ArtifactCommit => self.undo().await,
            State::ArtifactRollback if !self.session.ended => self.undo().await,
            State::ArtifactRollbackReboot => self.verify_back().await,
            State::ArtifactVerifyRollbackReboot if !self.session.ended => self.verify_back().await,
            // Nothing was installed yet, or it is taken back already.
            State::Prepare
            | State::Download
            | State::ArtifactRollback
            | State::ArtifactVerifyRollbackReboot
            | State::ArtifactFailure
            | State::Cleanup
            | State::Done => Ok(()),
        }
    }

    /// The last calls of the change, by what it came to.
    pub(super) async fn finish(&mut self) -> Result<(), InstallError> {
        match self.session.state {
            State::Prepare | State::Done => self.close().await,
            State::Download | State::Cleanup => self.clean_up().await,
            State::ArtifactCommit if self.session.ended && self.session.lost.is_none() => {
                self.clean_up().await
            }
            State::ArtifactInstall
            | State::NeedsArtifactReboot
            | State::ArtifactReboot
            | State::ArtifactVerifyReboot
            | State::ArtifactCommit
            | State::ArtifactRollback
            | State::ArtifactRollbackReboot
            | State::ArtifactVerifyRollbackReboot
            | State::ArtifactFailure => {
                self.without_consequence(State::ArtifactFailure).await;
                self.clean_up().await
            }
        }
    }

    /// Whether only last calls are left: the change was kept, or is taken back and the host has rebooted if it was to.
    pub(super) fn awaits_cleanup(&self) -> bool {
        match self.session.state {
            State::ArtifactCommit
            | State::ArtifactRollback
            | State::ArtifactVerifyRollbackReboot => self.session.ended,
            // After a boot; one that did not come leaves a broken host, which is not cleaned up.
            State::ArtifactRollbackReboot | State::ArtifactFailure | State::Cleanup => true,
            State::Done => self.session.lost.is_none(),
            State::Prepare
            | State::Download
            | State::ArtifactInstall
            | State::NeedsArtifactReboot
            | State::ArtifactReboot
            | State::ArtifactVerifyReboot => false,
        }
    }

    /// Whether the host is yet to boot out of the change.
    pub(super) fn awaits_reboot_back(&self) -> bool {
        self.session.reboot_begun && self.session.has(State::ArtifactRollback)
    }

    /// The module's part of a reboot, forward or back; the host's own follows.
    pub(super) async fn reboot(&mut self) -> Result<(), ModuleError> {
        let state = match self.session.state {
            State::NeedsArtifactReboot if self.session.ended => State::ArtifactReboot,
            // Its part is done; only the host's was refused.
            State::ArtifactReboot | State::ArtifactRollbackReboot if self.session.ended => {
                return Ok(());
            }
            state @ (State::ArtifactReboot | State::ArtifactRollbackReboot) => state,
            State::ArtifactRollback if self.session.ended => State::ArtifactRollbackReboot,
            State::Prepare
            | State::Download
            | State::ArtifactInstall
            | State::NeedsArtifactReboot
            | State::ArtifactVerifyReboot
            | State::ArtifactCommit
            | State::ArtifactRollback
            | State::ArtifactVerifyRollbackReboot
            | State::ArtifactFailure
            | State::Cleanup
            | State::Done => return Ok(()),
        };
        self.session.reboot_begun = true;
        if self.session.reboot == Reboot::Yes {
            self.state(state).await
        } else {
            self.begins(state)?;
            self.ends()
        }
    }

    /// Asks whether there is a way back, and goes it.
    async fn undo(&mut self) -> Result<(), ModuleError> {
        // Asked again: only now it counts, and the module may know more by now.
        let supports = match self.ask(Query::SupportsRollback).await {
            Ok(answer) => answer == Reboot::Yes,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "the module's earlier answer counts");
                self.session.supports_rollback
            }
        };
        if !supports {
            let module = self.session.module.clone();
            return self.lose(&ModuleError::NoWayBack { module });
        }
        match self.state(State::ArtifactRollback).await {
            Ok(()) => Ok(()),
            Err(error) => self.lose(&error),
        }
    }

    /// After the boot that should have led back.
    async fn verify_back(&mut self) -> Result<(), ModuleError> {
        match self.state(State::ArtifactVerifyRollbackReboot).await {
            Ok(()) => Ok(()),
            Err(error) => self.lose(&error),
        }
    }
}
