//! The `module` installer: calls an executable that speaks the Update Modules protocol, version 3.
//!
//! ```text
//!   activate   Download ─> SupportsRollback ─> ArtifactInstall ─> NeedsArtifactReboot ─> `current` is switched
//!   reboot     ArtifactReboot where it said Yes, then the host's own
//!   prove      ArtifactVerifyReboot, after a reboot only
//!   commit     ArtifactCommit
//!   roll_back  SupportsRollback ─> ArtifactRollback ─> `current` is led back ─> ArtifactFailure ─> Cleanup
//!              (with a reboot between, where there was one: ArtifactRollbackReboot, ArtifactVerifyRollbackReboot)
//!   cleanup    Cleanup, and the tree is gone
//! ```
//!
//! `Download` comes with the permit and not before: what a module does with the bytes may be seen, and a rollout that is
//! aborted before a host's permit must leave nothing there.
//!
//! **Crashes.** The session says on the disk which call was begun. One that did not end is never run again but taken as
//! failed, and the way back follows, with two exceptions: what ended in `Download` has changed nothing and begins anew
//! after `Cleanup`, and the calls of the way back run again. `current` is switched after the last call that can fail, so
//! it leads to the release exactly while the session says installed. Invariant: `ArtifactInstall` and `ArtifactCommit`
//! run at most once in a change.

mod calls;
mod error;
mod find;
mod payload;
mod protocol;
mod session;
mod streams;
mod tree;
mod undo;

use comber_model::Version;
use comber_model::release::{ModuleInstaller, RebootPolicy};

pub use error::ModuleError;

use self::calls::Calls;
use self::payload::Member;
use self::protocol::{Query, Reboot, State};
use self::session::Session;
use self::tree::Heading;
use super::{Activation, Current, Fit, InstallError, Installer, Record, Shelf};
use crate::trust::Verified;

/// Whether a module may answer so when it is asked that. `None` where nothing of that name is asked.
pub fn is_answer(query: &str, answer: &[u8]) -> Option<bool> {
    let queries = [
        Query::ProvidePayloadFileSizes,
        Query::SupportsRollback,
        Query::NeedsArtifactReboot,
    ];
    let query = queries.into_iter().find(|known| known.as_str() == query)?;
    Some(query.parse(answer).is_some())
}

/// Installs one release.
#[derive(Debug)]
pub(super) struct Module {
    shelf: Shelf,
    recipe: ModuleInstaller,
}

impl Module {
    pub(super) fn new(shelf: Shelf, recipe: ModuleInstaller) -> Self {
        Self { shelf, recipe }
    }

    fn record(&self) -> &Record {
        &self.shelf.record
    }

    /// Whether a change has ended and its last call has not been made: the agent was ended in between. A session that
    /// cannot be read is not for a cleanup to judge; the next preflight tells it.
    pub(super) fn is_unfinished(&self) -> bool {
        let calls = Calls::load(&self.shelf).ok().flatten();
        calls.is_some_and(|calls| calls.awaits_cleanup())
    }

    /// The change in hand, where it is one of this release.
    fn own(&self) -> Result<Option<Calls>, ModuleError> {
        let slot = self.record().slot();
        let calls = Calls::load(&self.shelf)?;
        Ok(calls.filter(|calls| calls.session.slot == slot && calls.session.state != State::Done))
    }

    fn program(&self) -> Result<std::path::PathBuf, ModuleError> {
        let place = self.shelf.place(self.record());
        match &self.recipe.carried {
            Some(carried) => find::carried(&place, carried),
            None => find::on_host(&self.recipe.module, &self.shelf.site.modules),
        }
    }

    fn payload(&self) -> Result<Vec<Member>, ModuleError> {
        let place = self.shelf.place(self.record());
        payload::payload(&place, self.recipe.carried.as_deref())
    }

    /// The way forward, from the start or from where nothing is left to be called.
    async fn install(&self, before: Option<&Record>) -> Result<Calls, InstallError> {
        if let Some(mut calls) = Calls::load(&self.shelf)? {
            if calls.session.slot == self.record().slot()
                && calls.session.has(State::NeedsArtifactReboot)
            {
                return Ok(calls);
            }
            self.make_room(&mut calls).await?;
        }
        let mut calls = self.begin(before).await?;
        calls.download(self.payload()?).await?;
        calls.session.supports_rollback = calls.ask(Query::SupportsRollback).await? == Reboot::Yes;
        calls.state(State::ArtifactInstall).await?;
        calls.begins(State::NeedsArtifactReboot)?;
        let wanted = calls.ask(Query::NeedsArtifactReboot).await?;
        calls.session.reboot = self.reboot_of(wanted)?;
        calls.ends()?;
        Ok(calls)
    }

    /// Ends what an earlier change left. What was cut off on the way forward is refused: its way back comes first.
    async fn make_room(&self, calls: &mut Calls) -> Result<(), InstallError> {
        let session = &calls.session;
        let is_cut_off = match session.state {
            State::ArtifactInstall
            | State::NeedsArtifactReboot
            | State::ArtifactReboot
            | State::ArtifactVerifyReboot => true,
            State::ArtifactCommit => !session.ended,
            State::Prepare
            | State::Download
            | State::ArtifactRollback
            | State::ArtifactRollbackReboot
            | State::ArtifactVerifyRollbackReboot
            | State::ArtifactFailure
            | State::Cleanup
            | State::Done => false,
        };
        // Its checks failed, and nothing was to be undone: somebody has looked at the host meanwhile.
        let was_given_up = session.irreversible && session.slot != self.record().slot();
        if is_cut_off && was_given_up {
            calls.end_what_was_left();
            return calls.finish().await;
        }
        if is_cut_off && session.slot == self.record().slot() {
            return Err(cut_off(session.state).into());
        }
        if is_cut_off {
            return Err(ModuleError::Other {
                release: session.release.clone(),
                state: session.state.as_str(),
            }
            .into());
        }
        let is_on_its_way_back = session.state >= State::ArtifactRollback;
        calls.end_what_was_left();
        if is_on_its_way_back {
            calls.take_back().await?;
        }
        // Somebody has decided that this host is to go on with another change.
        calls.session.lost = None;
        calls.finish().await
    }

    async fn begin(&self, before: Option<&Record>) -> Result<Calls, InstallError> {
        let release = self.record().id().to_string();
        let module = self.recipe.module.clone();
        let mut session = Session::new(
            release.clone(),
            self.record().slot(),
            module.clone(),
            self.program()?,
        );
        session.timeout = self.recipe.timeout;
        session.irreversible = self.record().manifest.irreversible;
        let heading = Heading {
            release,
            current: before.map_or_else(String::new, |before| before.id().to_string()),
            module,
            metadata: self.recipe.metadata.clone(),
        };
        Calls::begin(&self.shelf, session, heading).await
    }

    /// What the module and the release say of reboots together.
    fn reboot_of(&self, wanted: Reboot) -> Result<Reboot, ModuleError> {
        match (self.record().manifest.reboot, wanted) {
            (RebootPolicy::Never, Reboot::Yes | Reboot::Automatic) => {
                Err(ModuleError::RebootNotAllowed {
                    module: self.recipe.module.clone(),
                })
            }
            // The release knows better: the host is rebooted as if the module had asked.
            (RebootPolicy::Required, Reboot::No) => Ok(Reboot::Automatic),
            (RebootPolicy::Never, Reboot::No)
            | (RebootPolicy::Auto, _)
            | (RebootPolicy::Required, Reboot::Yes | Reboot::Automatic) => Ok(wanted),
        }
    }

    /// A release without a way back is not rolled back, so its last calls come with its failure.
    async fn without_way_back<T>(&self, done: Result<T, InstallError>) -> Result<T, InstallError> {
        if let Err(error) = &done
            && self.record().manifest.irreversible
            && let Some(mut calls) = self.own()?
        {
            if calls.session.state > State::Download {
                calls.session.lost = Some(comber_runtime::telemetry::error_chain(error));
            }
            calls.end_what_was_left();
            calls.finish().await?;
        }
        done
    }

    async fn proved(&self) -> Result<(), InstallError> {
        let Some(mut calls) = self.own()? else {
            return Ok(());
        };
        let session = &calls.session;
        match session.state {
            State::NeedsArtifactReboot if session.ended && session.reboot == Reboot::No => Ok(()),
            State::NeedsArtifactReboot if session.ended => {
                Ok(calls.state(State::ArtifactVerifyReboot).await?)
            }
            // The agent's own end is how a reboot that works is seen.
            State::ArtifactReboot => Ok(calls.state(State::ArtifactVerifyReboot).await?),
            State::ArtifactVerifyReboot | State::ArtifactCommit if session.ended => Ok(()),
            state => Err(cut_off(state).into()),
        }
    }

    async fn committed(&self) -> Result<(), InstallError> {
        let Some(mut calls) = self.own()? else {
            return Ok(());
        };
        match calls.session.state {
            State::NeedsArtifactReboot | State::ArtifactVerifyReboot if calls.session.ended => {
                Ok(calls.state(State::ArtifactCommit).await?)
            }
            State::ArtifactCommit if calls.session.ended => Ok(()),
            state => Err(cut_off(state).into()),
        }
    }

    /// What must hold after the boot that led back, before the host counts as back.
    pub(super) async fn prove_back(&self) -> Result<(), InstallError> {
        let Some(mut calls) = Calls::load(&self.shelf)? else {
            return Ok(());
        };
        if let State::ArtifactRollbackReboot | State::ArtifactVerifyRollbackReboot =
            calls.session.state
        {
            calls.end_what_was_left();
            calls.take_back().await?;
        }
        match &calls.session.lost {
            Some(why) => Err(ModuleError::Lost { why: why.clone() }.into()),
            None => Ok(()),
        }
    }

    /// Makes what was before current again.
    fn lead_back(&self, before: Option<&Record>) -> Result<(), InstallError> {
        match before {
            Some(before) => self.shelf.switch(before),
            None => self.shelf.unlink(),
        }
    }
}

impl Installer for Module {
    async fn stage(&self, verified: Verified) -> Result<(), InstallError> {
        self.shelf.stage(verified).await
    }

    async fn preflight(&self, before: Option<&Record>) -> Result<Fit, InstallError> {
        if let Some(before) = before {
            let found = before.manifest.installer.as_str();
            if found != self.record().manifest.installer.as_str() {
                let product = self.record().manifest.name.to_string();
                return Err(ModuleError::OtherInstaller { product, found }.into());
            }
        }
        self.program()?;
        self.payload()?;
        // One that cannot be read is told while nothing is changed yet.
        Calls::load(&self.shelf)?;
        Ok(Fit::Fits)
    }

    async fn activate(&self, before: Option<&Record>) -> Result<Activation, InstallError> {
        let installed = self.install(before).await;
        let calls = self.without_way_back(installed).await?;
        self.shelf.switch(self.record())?;
        Ok(Activation {
            needs_reboot: calls.session.reboot != Reboot::No,
        })
    }

    async fn reboot(&self) -> Result<bool, InstallError> {
        if let Some(mut calls) = Calls::load(&self.shelf)? {
            calls.reboot().await?;
        }
        // Also after the module's own way: what that rebooted may have been something beside the host.
        Ok(false)
    }

    async fn prove(&self) -> Result<(), InstallError> {
        let done = self.proved().await;
        self.without_way_back(done).await
    }

    async fn commit(&self) -> Result<(), InstallError> {
        let done = self.committed().await;
        self.without_way_back(done).await
    }

    async fn roll_back(&self, before: Option<&Record>) -> Result<(), InstallError> {
        let Some(mut calls) = Calls::load(&self.shelf)? else {
            return self.lead_back(before);
        };
        calls.end_what_was_left();
        calls.take_back().await?;
        if let Some(why) = calls.session.lost.clone() {
            calls.finish().await?;
            return Err(ModuleError::Lost { why }.into());
        }
        self.lead_back(before)?;
        if calls.awaits_reboot_back() {
            return Ok(());
        }
        calls.finish().await
    }

    fn detect(&self) -> Result<Current, InstallError> {
        self.shelf.detect()
    }

    async fn cleanup(&self, keep: &[Version]) -> Result<(), InstallError> {
        if let Some(mut calls) = Calls::load(&self.shelf)?
            && calls.awaits_cleanup()
        {
            if calls.session.state == State::ArtifactRollbackReboot {
                calls.take_back().await?;
            }
            if let Some(why) = &calls.session.lost {
                tracing::error!(release = calls.session.release, why, "the way back failed");
            }
            calls.finish().await?;
        }
        self.shelf.cleanup(keep).await
    }

    async fn remove(&self) -> Result<(), InstallError> {
        let product = self.record().manifest.name.to_string();
        Err(ModuleError::NoRemoval { product }.into())
    }
}

fn cut_off(state: State) -> ModuleError {
    ModuleError::CutOff {
        state: state.as_str(),
    }
}

#[cfg(test)]
mod tests;
