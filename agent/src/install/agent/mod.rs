//! The `agent` installer: Comber's agent replaces itself, and is put back by a watcher where that fails.
//!
//! `activate` writes an order and starts the watcher, which ends this process, switches the link of the shelf and starts
//! the new agent; that one finds the switch made, proves itself in `prove` and decides in `commit` that it is kept. Where it
//! cannot, the watcher decides, or `roll_back` does, and the agent from before takes note of it there.
//!
//! **After a crash.** The link says which agent was to run, the order that an update is open, the decision what becomes of
//! it; the launcher starts a watcher for an open order before it launches anything. Every step here first looks which
//! agent this process is: only that tells whether the switch has reached the running process.
//! Invariant: this process never switches the link, and never reports an end that the decision does not hold.

mod preflight;

use std::time::Duration;

pub use preflight::NotUpdatable;

use comber_model::Version;
use comber_model::release::{AGENT_PRODUCT, AgentInstaller};
use comber_runtime::clock::Clock;

use super::layout::Link;
use super::{Activation, Current, Fit, InstallError, Installer, Record, Shelf};
use crate::trust::Verified;
use crate::update::itself::Left;
use crate::update::{Decision, FORM, Itself, Order, Phase, Proof, Side, UpdateError, is_newer};

/// How long the watcher may take to end this process: the time in which the service manager ends it, and some.
const LEAVE: Duration = Duration::from_mins(3);

/// Installs one release.
#[derive(Debug)]
pub(super) struct Agent {
    shelf: Shelf,
    recipe: AgentInstaller,
}

/// What keeps the agent from updating itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The record of the update.
    #[error(transparent)]
    Files(#[from] UpdateError),
    /// The watcher.
    #[error("the watcher of the update cannot be started")]
    Watcher(#[from] crate::update::ServiceError),
    /// Something of preflight.
    #[error(transparent)]
    NotUpdatable(#[from] NotUpdatable),
    /// No watcher took over.
    #[error("the watcher did not replace the agent within {}s", .0.as_secs())]
    NotReplaced(Duration),
    /// The watcher did not do it.
    #[error("{0}")]
    Restored(String),
    /// The switch was made and this is not the new agent.
    #[error("the agent that runs is {runs}, not {wanted}: the one on the shelf was not launched")]
    Another {
        /// This process.
        runs: String,
        /// The release.
        wanted: String,
    },
}

impl Agent {
    pub(super) fn new(shelf: Shelf, recipe: AgentInstaller) -> Self {
        Self { shelf, recipe }
    }

    fn itself(&self) -> &Itself {
        &self.shelf.site.itself
    }

    fn link(&self) -> Result<Option<String>, InstallError> {
        Ok(match self.shelf.layout.link()? {
            Link::Slot(slot) => Some(slot),
            Link::Absent | Link::Other(_) => None,
        })
    }

    /// True where this process is that release; nothing means the package's.
    fn is_running(&self, record: Option<&Record>) -> bool {
        self.itself().slot() == record.map(Record::slot).as_deref()
    }

    /// This process as one end of an update.
    fn running(&self) -> Side {
        let slot = self.itself().slot();
        let version = slot.and_then(|slot| slot.rsplit_once('-'));
        Side {
            slot: slot.map(str::to_owned),
            version: version
                .map_or(env!("CARGO_PKG_VERSION"), |(version, _)| version)
                .to_owned(),
        }
    }

    fn order(&self, to: Side, proof: Option<Proof>) -> Result<Order, InstallError> {
        let from = Side {
            // The link, and not this process: where the package's agent counts above an older one on the shelf, that one
            // stays where it is.
            slot: self.link()?,
            version: self.running().version,
        };
        let itself = self.itself();
        Ok(Order {
            form: FORM,
            release: self.shelf.record.id(),
            from,
            to,
            proof,
            service: itself.service.clone(),
            boot_id_file: itself.boot_id_file.clone(),
            ordered_at: Clock::system().wall(),
        })
    }

    /// Hands over to the watcher. Returns only where that did not work.
    async fn hand_over(&self, order: &Order) -> Result<(), AgentError> {
        let files = &self.itself().files;
        if files.order()?.is_none() {
            files.begin(order)?;
        }
        self.itself().start_watcher().await?;
        match self.itself().leave(LEAVE).await? {
            Left::Over => Ok(()),
            Left::Restored(why) => Err(AgentError::Restored(why)),
            Left::Never => Err(AgentError::NotReplaced(LEAVE)),
        }
    }

    fn another(&self) -> AgentError {
        AgentError::Another {
            runs: self.running().version,
            wanted: self.shelf.record.manifest.version.to_string(),
        }
    }

    /// Sees that what was before runs, from whatever the activation came to.
    async fn go_back(&self, before: Option<&Record>) -> Result<(), InstallError> {
        let files = &self.itself().files;
        if files.order().map_err(AgentError::from)?.is_some() {
            let why = "its agent went back by itself".to_owned();
            let decided = files.decide(&Decision::Restore { why });
            match decided.map_err(AgentError::from)? {
                // It was kept a moment before something else failed: the way back is one of its own.
                Decision::Kept => drop(self.itself().leave(LEAVE).await.map_err(AgentError::from)?),
                Decision::Restore { .. } => self.await_restored(before).await?,
            }
        }
        match (self.is_active(before)?, self.is_running(before)) {
            (true, true) => Ok(()),
            // Another start would launch the same again.
            (true, false) => Err(self.another().into()),
            (false, _) => self.go_to(before).await,
        }
    }

    /// After the decision: the watcher puts back what was switched, which ends this process where it is the new agent.
    async fn await_restored(&self, before: Option<&Record>) -> Result<(), InstallError> {
        let files = &self.itself().files;
        let is_restored = || -> Result<bool, AgentError> {
            Ok(matches!(files.progress()?.phase, Phase::Restored { .. }))
        };
        if is_restored()? && self.itself().clear_alone().map_err(AgentError::from)? {
            return Ok(());
        }
        // Nothing was switched, and no watcher is at it who could.
        if self.is_active(before)?
            && self.is_running(before)
            && self.itself().clear_alone().map_err(AgentError::from)?
        {
            return Ok(());
        }
        self.itself()
            .start_watcher()
            .await
            .map_err(AgentError::from)?;
        match self.itself().leave(LEAVE).await.map_err(AgentError::from)? {
            Left::Over => Ok(()),
            Left::Restored(_) => {
                // The watcher that has said so is about to end.
                for _ in 0..100 {
                    if self.itself().clear_alone().map_err(AgentError::from)? {
                        return Ok(());
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(AgentError::NotReplaced(LEAVE).into())
            }
            Left::Never => Err(AgentError::NotReplaced(LEAVE).into()),
        }
    }

    /// Whether the link makes that release the running one at the next start; nothing means the package's agent.
    fn is_active(&self, record: Option<&Record>) -> Result<bool, InstallError> {
        Ok(match (self.detect()?, record) {
            (Current::Release(active), Some(record)) => *active == *record,
            // What the package counts above is there and does not run.
            (Current::Nothing | Current::Foreign(_), None) => true,
            (Current::Release(_), None) | (Current::Nothing | Current::Foreign(_), Some(_)) => {
                false
            }
        })
    }

    /// Switches without a proof, to what was proved once or is the package's.
    async fn go_to(&self, target: Option<&Record>) -> Result<(), InstallError> {
        let to = match target {
            Some(record) => side(record),
            None => Side {
                slot: None,
                version: "of the package".to_owned(),
            },
        };
        let order = self.order(to, None)?;
        self.hand_over(&order).await?;
        if self.is_active(target)? && self.is_running(target) {
            return Ok(());
        }
        Err(self.another().into())
    }
}

impl Installer for Agent {
    async fn stage(&self, verified: Verified) -> Result<(), InstallError> {
        self.shelf.stage(verified).await
    }

    async fn preflight(&self, _before: Option<&Record>) -> Result<Fit, InstallError> {
        let program = self
            .shelf
            .place(&self.shelf.record)
            .join(&self.recipe.binary);
        let looked = preflight::look(&self.shelf, &program).await;
        Ok(looked.map_err(AgentError::from)?)
    }

    async fn activate(&self, _before: Option<&Record>) -> Result<Activation, InstallError> {
        let own = &self.shelf.record;
        let is_active = self.link()? == Some(own.slot());
        match (is_active, self.is_running(Some(own))) {
            (true, true) => return Ok(Activation::default()),
            (true, false) => return Err(self.another().into()),
            (false, _) => {}
        }
        let proof = Proof {
            healthy_for: self.recipe.healthy_for,
            deadline: self.recipe.deadline,
        };
        let order = self.order(side(own), Some(proof))?;
        self.hand_over(&order).await?;
        Err(self.another().into())
    }

    async fn reboot(&self) -> Result<bool, InstallError> {
        Ok(false)
    }

    /// Where an update is open, the link must hold for its time. Else only this process is judged: it was proved before.
    async fn prove(&self) -> Result<(), InstallError> {
        if !self.is_running(Some(&self.shelf.record)) {
            return Err(self.another().into());
        }
        if self
            .itself()
            .files
            .order()
            .map_err(AgentError::from)?
            .is_some()
        {
            self.itself().linked_for(self.recipe.healthy_for).await;
        }
        Ok(())
    }

    async fn commit(&self) -> Result<(), InstallError> {
        let files = &self.itself().files;
        if files.order().map_err(AgentError::from)?.is_none() {
            return Ok(());
        }
        match files.decide(&Decision::Kept).map_err(AgentError::from)? {
            Decision::Kept => Ok(()),
            Decision::Restore { why } => Err(AgentError::Restored(why).into()),
        }
    }

    async fn roll_back(&self, before: Option<&Record>) -> Result<(), InstallError> {
        self.go_back(before).await
    }

    /// An agent on the shelf that is not newer than the package is not the one that runs.
    fn detect(&self) -> Result<Current, InstallError> {
        let current = self.shelf.detect()?;
        let Current::Release(active) = &current else {
            return Ok(current);
        };
        let is_packaged = self.itself().slot().is_none();
        let own = env!("CARGO_PKG_VERSION");
        if is_packaged && !is_newer(active.manifest.version.as_str(), own) {
            return Ok(Current::Foreign(self.itself().launcher().to_owned()));
        }
        Ok(current)
    }

    async fn cleanup(&self, keep: &[Version]) -> Result<(), InstallError> {
        self.shelf.cleanup(keep).await
    }

    async fn remove(&self) -> Result<(), InstallError> {
        if self.is_active(None)? && self.is_running(None) {
            return Ok(());
        }
        self.go_to(None).await
    }
}

fn side(record: &Record) -> Side {
    debug_assert_eq!(record.manifest.name.as_str(), AGENT_PRODUCT);
    Side {
        slot: Some(record.slot()),
        version: record.manifest.version.to_string(),
    }
}

#[cfg(test)]
mod tests;
