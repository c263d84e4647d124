//! What each step does, by which agent this process is and how far the update is. The watcher is played by the test.

use std::path::Path;

use comber_runtime::clock::Clock;

use super::*;
use crate::install::{Kind, Site};
use crate::lock::Lock;
use crate::testing::{TestHost, itself_at, site_at};
use crate::trust::Verified;
use crate::update::Progress;

/// A host with 2.0 active and 3.0 staged.
struct Updating {
    host: TestHost,
    old: Record,
    new: Record,
}

fn site(dir: &Path, runs: Option<&Record>) -> Site {
    let slot = runs.map(Record::slot);
    Site {
        itself: itself_at(dir, slot.as_deref()),
        ..site_at(dir)
    }
}

async fn stage(host: &TestHost, version: &str) -> Record {
    let verified: Verified = host.agent_release(version);
    let record = crate::testing::record_of(&verified);
    let kind = site(host.dir(), None).installer(&record);
    kind.stage(verified).await.unwrap();
    record
}

impl Updating {
    async fn new() -> Self {
        let host = TestHost::new();
        let (old, new) = (stage(&host, "2.0").await, stage(&host, "3.0").await);
        let this = Self { host, old, new };
        this.link_to(&this.old);
        this
    }

    fn link_to(&self, record: &Record) {
        Shelf::new(site(self.host.dir(), None), record.clone())
            .switch(record)
            .unwrap();
    }

    /// The installer of the new release in that agent.
    fn kind(&self, runs: Option<&Record>) -> Kind {
        site(self.host.dir(), runs).installer(&self.new)
    }

    fn files(&self) -> crate::update::UpdateFiles {
        itself_at(self.host.dir(), None).files
    }

    /// The old agent has written its order.
    fn begin(&self) {
        let order = Order {
            form: FORM,
            release: self.new.id(),
            from: side(&self.old),
            to: side(&self.new),
            proof: Some(Proof {
                healthy_for: Duration::from_millis(10),
                deadline: Duration::from_mins(1),
            }),
            service: itself_at(self.host.dir(), None).service,
            boot_id_file: "/dev/null".into(),
            ordered_at: Clock::system().wall(),
        };
        self.files().begin(&order).unwrap();
    }

    fn restored(&self) {
        let why = "it hung".to_owned();
        let decided = Decision::Restore { why: why.clone() };
        self.files().decide(&decided).unwrap();
        let phase = Phase::Restored { why };
        self.files()
            .proceed(&Progress { form: FORM, phase })
            .unwrap();
    }
}

#[tokio::test]
async fn the_new_agent_finds_the_switch_made_and_keeps_itself() {
    let updating = Updating::new().await;
    updating.begin();
    updating.link_to(&updating.new);
    let kind = updating.kind(Some(&updating.new));
    kind.activate(Some(&updating.old)).await.unwrap();
    kind.prove().await.unwrap();
    let seen = updating.files().seen().unwrap();
    assert!(seen.at_checks && seen.linked, "{seen:?}");
    kind.commit().await.unwrap();
    let decided = updating.files().decision().unwrap();
    assert_eq!(decided, Some(Decision::Kept));
    // Killed before its ledger was durable, it does all of it again.
    updating.files().clear().unwrap();
    kind.prove().await.unwrap();
    kind.commit().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_was_given_up_cannot_keep_itself() {
    let updating = Updating::new().await;
    updating.begin();
    updating.link_to(&updating.new);
    let kind = updating.kind(Some(&updating.new));
    kind.prove().await.unwrap();
    let why = "it hung".to_owned();
    let given_up = Decision::Restore { why };
    updating.files().decide(&given_up).unwrap();
    let error = kind.commit().await.unwrap_err();
    assert_eq!(error.to_string(), "it hung");
    assert_eq!(updating.files().decision().unwrap(), Some(given_up));
}

#[tokio::test]
async fn another_agent_than_the_link_s_never_says_that_it_is_well() {
    let updating = Updating::new().await;
    updating.link_to(&updating.new);
    for runs in [None, Some(&updating.old)] {
        let kind = updating.kind(runs);
        let error = kind.activate(Some(&updating.old)).await.unwrap_err();
        assert!(error.to_string().contains("not 3.0"), "{error}");
        let error = kind.prove().await.unwrap_err();
        assert!(error.to_string().contains("was not launched"), "{error}");
    }
}

#[tokio::test]
async fn the_old_agent_takes_note_that_it_was_put_back_and_may_do_so_again() {
    let updating = Updating::new().await;
    updating.begin();
    updating.restored();
    let undone = itself_at(updating.host.dir(), None).undone().unwrap();
    let (release, why) = undone.unwrap();
    assert_eq!(release, updating.new.id());
    assert_eq!(why, "the new agent 3.0 was taken back: it hung");
    let kind = updating.kind(Some(&updating.old));
    for _ in 0..2 {
        kind.roll_back(Some(&updating.old)).await.unwrap();
        assert_eq!(updating.files().order().unwrap(), None);
    }
}

#[tokio::test]
async fn a_way_back_before_the_switch_needs_no_watcher() {
    let updating = Updating::new().await;
    updating.begin();
    let kind = updating.kind(Some(&updating.old));
    kind.roll_back(Some(&updating.old)).await.unwrap();
    assert_eq!(updating.files().order().unwrap(), None);
    assert_eq!(updating.files().decision().unwrap(), None);
}

#[tokio::test]
async fn a_way_back_waits_for_a_watcher_that_is_at_it() {
    let updating = Updating::new().await;
    updating.begin();
    let lock = Lock::try_take(&updating.files().watch_lock()).unwrap();
    // The watcher is never started anew: the launcher of this host is nothing that could be.
    std::fs::write(updating.host.dir().join("launcher"), "#!/bin/true\n").unwrap();
    make_executable(&updating.host.dir().join("launcher"));
    let kind = updating.kind(Some(&updating.old));
    let back = kind.roll_back(Some(&updating.old));
    let watcher = async {
        while updating.files().decision().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        updating.restored();
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(lock);
    };
    let (back, ()) = tokio::join!(back, watcher);
    back.unwrap();
    assert_eq!(updating.files().order().unwrap(), None);
}

#[tokio::test]
async fn what_is_not_newer_than_the_package_does_not_count_as_active() {
    let host = TestHost::new();
    let old = stage(&host, "0.0.1").await;
    let kind = site(host.dir(), None).installer(&old);
    Shelf::new(site(host.dir(), None), old.clone())
        .switch(&old)
        .unwrap();
    let found = kind.detect().unwrap();
    assert!(matches!(found, Current::Foreign(_)), "{found:?}");
    // Nothing is what was before, and that is how it is.
    kind.roll_back(None).await.unwrap();
    kind.remove().await.unwrap();
}

#[tokio::test]
async fn preflight_tells_what_is_missing() {
    let updating = Updating::new().await;
    let dir = updating.host.dir();
    let kind = updating.kind(Some(&updating.old));
    let told = async || {
        let error = kind.preflight(Some(&updating.old)).await.unwrap_err();
        comber_runtime::telemetry::error_chain(&error)
    };
    assert!(told().await.contains("install Comber's package"));
    let launcher = |form: u32| {
        let text = format!(
            "#!/bin/sh\nif test \"$1\" = --version; then echo comber-agent 1.0; else echo {form}; fi\n"
        );
        std::fs::write(dir.join("launcher"), text).unwrap();
        make_executable(&dir.join("launcher"));
    };
    launcher(0);
    assert!(told().await.contains("upgrade Comber's package first"));
    launcher(FORM);
    updating.begin();
    assert!(
        told()
            .await
            .contains("being updated to comber-agent@3.0 already")
    );
    // One that is over is forgotten.
    updating.restored();
    assert_eq!(kind.preflight(None).await.unwrap(), Fit::Fits);
    assert_eq!(updating.files().order().unwrap(), None);
    let shelf = Shelf::new(site(dir, None), updating.new.clone());
    let program = shelf.place(&updating.new).join("comber-agent");
    std::fs::write(&program, "#!/bin/sh\necho comber-agent 3.1\n").unwrap();
    assert!(
        told()
            .await
            .contains("says that it is version \"comber-agent 3.1\"")
    );
    std::fs::write(&program, [0x7f, b'E', b'L', b'F', 0, 1]).unwrap();
    assert!(
        told()
            .await
            .contains("is it built for the architecture of this host")
    );
}

#[tokio::test]
async fn an_agent_that_the_package_has_is_not_applicable() {
    let host = TestHost::new();
    let record = stage(&host, "2.0").await;
    let text = format!(
        "#!/bin/sh\nif test \"$1\" = --version; then echo comber-agent 2.0; else echo {FORM}; fi\n"
    );
    std::fs::write(host.dir().join("launcher"), text).unwrap();
    make_executable(&host.dir().join("launcher"));
    let kind = site(host.dir(), None).installer(&record);
    let fit = kind.preflight(None).await.unwrap();
    let Fit::NotApplicable(why) = fit else {
        panic!("it fits");
    };
    assert!(
        why.contains("has the agent 2.0, which counts above 2.0"),
        "{why}"
    );
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
