//! What the agent that runs knows of itself: which one it is, who launched it, whether its link holds, and the update that
//! it is part of.
//!
//! Invariant: what it says of an update is what the files say; it keeps nothing of it in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comber_model::ReleaseId;
use comber_runtime::environment::{self, Launched};
use comber_runtime::telemetry::error_chain;
use tokio::sync::watch;

use super::{Decision, Order, Phase, Seen, ServiceError, ServiceKind, UpdateError, UpdateFiles};
use crate::ledger::{LedgerFile, LoadError, Loaded, Source};
use crate::link::LinkView;
use crate::lock::Lock;

/// Between two looks at files that another process writes.
const PAUSE: Duration = Duration::from_millis(100);

/// The agent that runs. Clones are one and the same.
#[derive(Debug, Clone)]
pub struct Itself {
    pub(crate) files: UpdateFiles,
    pub(crate) service: ServiceKind,
    pub(crate) boot_id_file: PathBuf,
    slot: Option<String>,
    launcher: PathBuf,
    link: watch::Receiver<LinkView>,
    is_leaving: Arc<AtomicBool>,
}

impl Itself {
    /// This process.
    pub fn here(state_dir: &Path, boot_id_file: &Path, link: watch::Receiver<LinkView>) -> Self {
        let launched = environment::launched();
        let own = || std::env::current_exe().unwrap_or_default();
        let program = launched
            .as_ref()
            .map_or_else(own, |launched| launched.launcher.clone());
        let service = ServiceKind::here(&program);
        Self::with(state_dir, boot_id_file, link, launched, (program, service))
    }

    /// A process with that launcher, which is itself where it was not launched.
    pub(crate) fn with(
        state_dir: &Path,
        boot_id_file: &Path,
        link: watch::Receiver<LinkView>,
        launched: Option<Launched>,
        (program, service): (PathBuf, ServiceKind),
    ) -> Self {
        Self {
            files: UpdateFiles::new(state_dir),
            service,
            boot_id_file: boot_id_file.to_owned(),
            slot: launched.map(|launched| launched.slot),
            launcher: program,
            link,
            is_leaving: Arc::default(),
        }
    }

    /// Where it stands on the shelf; `None` for the package's.
    pub fn slot(&self) -> Option<&str> {
        self.slot.as_deref()
    }

    /// The package's program, which also is the watcher.
    pub fn launcher(&self) -> &Path {
        &self.launcher
    }

    /// True while it only waits for the watcher to end it.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// The activation that was undone, if one was, and why.
    pub fn undone(&self) -> Result<Option<(ReleaseId, String)>, UpdateError> {
        let Some(order) = self.files.order()? else {
            return Ok(None);
        };
        Ok(match self.files.decision()? {
            Some(Decision::Restore { why }) => {
                let Order { release, to, .. } = order;
                Some((
                    release,
                    format!("the new agent {} was taken back: {why}", to.version),
                ))
            }
            Some(Decision::Kept) | None => None,
        })
    }

    /// Starts the watcher.
    pub(crate) async fn start_watcher(&self) -> Result<(), ServiceError> {
        let this = self.clone();
        let started = tokio::task::spawn_blocking(move || {
            this.service.start_watcher(&this.launcher, &this.files)
        });
        // It does not panic; a runtime that ends ends the agent.
        started.await.unwrap_or(Ok(()))
    }

    /// Waits until the update is over for this process, or `limit`. Most often it does not return: the watcher ends the
    /// process first, and the driver need not wait for the effect in hand.
    pub(crate) async fn leave(&self, limit: Duration) -> Result<Left, UpdateError> {
        self.is_leaving.store(true, Ordering::Relaxed);
        let left = tokio::time::timeout(limit, self.left()).await;
        self.is_leaving.store(false, Ordering::Relaxed);
        left.unwrap_or(Ok(Left::Never))
    }

    async fn left(&self) -> Result<Left, UpdateError> {
        loop {
            if self.files.order()?.is_none() {
                return Ok(Left::Over);
            }
            if let Phase::Restored { why } = self.files.progress()?.phase {
                return Ok(Left::Restored(why));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends an update that no watcher is at. `false` where one is, or may be.
    pub(crate) fn clear_alone(&self) -> Result<bool, UpdateError> {
        let Ok(_lock) = Lock::try_take(&self.files.watch_lock()) else {
            return Ok(false);
        };
        self.files.clear()?;
        Ok(true)
    }

    /// Waits until the link has held for that long without a break, and says so to the watcher meanwhile.
    pub(crate) async fn linked_for(&self, healthy: Duration) {
        let mut link = self.link.clone();
        let mut seen = Seen::default();
        loop {
            self.files.tell(seen);
            if link.wait_for(|view| view.connected).await.is_err() {
                // The link is gone because the agent ends.
                return std::future::pending().await;
            }
            (seen.linked, seen.was_linked) = (true, true);
            self.files.tell(seen);
            let breaks = link.wait_for(|view| !view.connected);
            let broke = tokio::time::timeout(healthy, breaks).await;
            match broke.map(|seen| seen.is_ok()) {
                Err(_) => break,
                Ok(true) => seen.linked = false,
                Ok(false) => return std::future::pending().await,
            }
        }
        seen.at_checks = true;
        self.files.tell(seen);
    }

    /// The ledger to go on from. After a way back the new agent may have written it in a form that this one refuses; then
    /// it is the one that this agent left, since when nothing can have been activated here: the attempt that was in hand
    /// kept the host from any other.
    pub(crate) fn load_ledger(
        &self,
        store: &LedgerFile,
        wall: jiff::Timestamp,
    ) -> Result<Loaded, LoadError> {
        let loaded = store.load(wall);
        let is_whole = loaded
            .as_ref()
            .is_ok_and(|loaded| matches!(loaded.source, Source::Current));
        if is_whole || !self.was_put_back() {
            return loaded;
        }
        match self.files.put_ledger_back() {
            Ok(true) => {
                tracing::error!(
                    "the ledger of the agent that was taken back is refused, the one from before it is used"
                );
                store.load(wall)
            }
            Ok(false) => loaded,
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(
                    error,
                    "the ledger from before the update cannot be put back"
                );
                loaded
            }
        }
    }

    fn was_put_back(&self) -> bool {
        let order = self.files.order().ok().flatten();
        let is_undone = matches!(self.undone(), Ok(Some(_)));
        order.is_some_and(|order| order.from.slot == self.slot) && is_undone
    }
}

/// How waiting for the watcher ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing is left of the update.
    Over,
    /// It was taken back, or never begun, and what ran before runs.
    Restored(String),
    /// No watcher did anything.
    Never,
}

#[cfg(test)]
mod tests {
    use comber_machine::{Ledger, State};
    use jiff::Timestamp;

    use super::*;
    use crate::ledger::Store as _;
    use crate::update::{FORM, Side};

    fn itself(dir: &Path, link: watch::Receiver<LinkView>) -> Itself {
        let service = ServiceKind::Systemd {
            unit: "comber-agent.service".to_owned(),
        };
        Itself::with(dir, dir, link, None, ("/bin/false".into(), service))
    }

    fn order() -> Order {
        let side = |slot: Option<&str>| Side {
            slot: slot.map(str::to_owned),
            version: "1".to_owned(),
        };
        Order {
            form: FORM,
            release: "comber-agent@2.0".parse().unwrap(),
            from: side(None),
            to: side(Some("2.0-0123456789ab")),
            proof: None,
            service: ServiceKind::Systemd {
                unit: "comber-agent.service".to_owned(),
            },
            boot_id_file: "/dev/null".into(),
            ordered_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn view(connected: bool) -> LinkView {
        LinkView {
            connected,
            ..LinkView::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_breaks_again_and_again_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let link = watch::Sender::new(view(false));
        let itself = itself(dir.path(), link.subscribe());
        itself.files.begin(&order()).unwrap();
        let proving = itself.linked_for(Duration::from_mins(1));
        let flapping = async {
            for _ in 0..20 {
                link.send_replace(view(true));
                tokio::time::sleep(Duration::from_secs(50)).await;
                link.send_replace(view(false));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = proving => panic!("proved by a link that never held"),
            () = flapping => {}
        }
        let seen = itself.files.seen().unwrap();
        assert!(seen.was_linked && !seen.at_checks, "{seen:?}");
        link.send_replace(view(true));
        itself.linked_for(Duration::from_mins(1)).await;
        assert!(itself.files.seen().unwrap().at_checks);
    }

    #[test]
    fn the_copy_of_the_ledger_comes_back_only_where_the_present_one_is_refused_after_a_way_back() {
        let dir = tempfile::tempdir().unwrap();
        let itself = itself(dir.path(), watch::Sender::new(view(false)).subscribe());
        let store = LedgerFile::new(dir.path());
        let wall = Timestamp::UNIX_EPOCH;
        let mut ledger = Ledger::new(wall);
        ledger.generation.0 = 7;
        store.save(&ledger).unwrap();
        itself.files.begin(&order()).unwrap();
        itself.files.keep_ledger().unwrap();
        // The new agent goes on in a form that this one reads: nothing of it is given up.
        ledger.generation.0 = 8;
        store.save(&ledger).unwrap();
        let why = "it hung".to_owned();
        let read = || itself.load_ledger(&store, wall).map(|loaded| loaded.ledger);
        assert_eq!(read().unwrap().generation.0, 8);
        // Then in one that it does not.
        for name in ["ledger.json", "ledger.prev"] {
            std::fs::write(dir.path().join(name), "of a newer agent").unwrap();
        }
        read().unwrap_err();
        itself.files.decide(&Decision::Restore { why }).unwrap();
        let back = read().unwrap();
        assert_eq!(back.generation.0, 7);
        assert_eq!(back.state, State::Idle);
        assert_eq!(store.load(wall).unwrap().ledger, back);
    }
}
