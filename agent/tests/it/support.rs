//! What several tests share: settings with short delays, a link whose driver is the test, a state to send.

use std::{path::Path, sync::Arc, time::Duration};

use comber_agent::{
    config::LinkSettings,
    identity::{IdentityStore, save_enrolled},
    link::{Link, LinkView, Packages},
    packages::HostPackages,
};
use comber_model::{AgentState, Facts, Generation, HostStatus};
use comber_runtime::{
    clock::Clock,
    identity::Identity,
    shutdown::{Cause, Shutdown},
    task,
};
use http::Uri;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};

/// Longest time that a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn quick() -> LinkSettings {
    LinkSettings {
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(100),
        keepalive: Duration::from_secs(30),
        keepalive_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
        facts_interval: Duration::from_mins(10),
    }
}

pub(crate) fn status(generation: u64) -> HostStatus {
    HostStatus {
        generation: Generation(generation),
        state: AgentState::Idle,
        since: Timestamp::UNIX_EPOCH,
        attempt: None,
        installed: std::collections::BTreeMap::default(),
        locally_bad: Vec::new(),
        reports: Vec::new(),
        boot_id: "boot-1".into(),
        agent_version: "0".into(),
    }
}

pub(crate) fn facts(hostname: &str) -> Facts {
    Facts {
        hostname: hostname.into(),
        ..Facts::default()
    }
}

/// A running link; the test is its driver.
pub(crate) struct Linked {
    pub(crate) dir: TempDir,
    pub(crate) store: Arc<IdentityStore>,
    pub(crate) status: watch::Sender<HostStatus>,
    pub(crate) facts: watch::Sender<Option<Facts>>,
    pub(crate) packages: watch::Sender<Option<Arc<HostPackages>>>,
    pub(crate) view: watch::Receiver<LinkView>,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Linked {
    pub(crate) fn start(controller: &Uri, identity: &Identity) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = enrolled(dir.path(), controller, identity);
        let status = watch::Sender::new(status(1));
        let facts = watch::Sender::new(Some(facts("one")));
        let packages = watch::Sender::default();
        let sender = watch::Sender::new(LinkView::default());
        let view = sender.subscribe();
        let link = Link {
            controller: controller.clone(),
            settings: quick(),
            identity: Arc::clone(&store),
            clock: Clock::system(),
            status: status.subscribe(),
            facts: facts.subscribe(),
            packages: Packages {
                present: packages.subscribe(),
                file: dir.path().join("packages"),
            },
            view: sender,
        };
        let shutdown = Shutdown::new();
        let task = task::spawn("link", &shutdown, link.run(shutdown.clone()));
        Self {
            dir,
            store,
            status,
            facts,
            packages,
            view,
            shutdown,
            task,
        }
    }

    /// Waits until the driver would see what passes.
    pub(crate) async fn seen(
        &mut self,
        what: &str,
        passes: impl Fn(&LinkView) -> bool,
    ) -> LinkView {
        let waiting = self.view.wait_for(|view| passes(view));
        let seen = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        let view = self.view.borrow().clone();
        assert!(seen, "never seen: {what}; the view is {view:#?}");
        view
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger(Cause::Signal);
        self.task.await.unwrap();
    }
}

pub(crate) fn enrolled(
    state_dir: &Path,
    controller: &Uri,
    identity: &Identity,
) -> Arc<IdentityStore> {
    save_enrolled(state_dir, controller, identity).unwrap();
    Arc::new(IdentityStore::open(state_dir).unwrap())
}
