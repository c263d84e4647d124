//! The whole host around an activation, with clients of systemd that say what the test wants.

use comber_machine::{BootId, Moment};
use comber_runtime::clock::ManualClock;
use jiff::Timestamp;

use super::*;

const FAILED: &str = "bad.service loaded failed failed A unit\n";

struct Host {
    world: World,
    link: watch::Sender<LinkView>,
    hand: ManualClock,
}

fn host() -> Host {
    let host = TestHost::new();
    let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH);
    let systemd = host.systemd();
    let (effects, link) = effects_with(&host, site_at(host.dir()), systemd, clock);
    Host {
        world: World { host, effects },
        link,
        hand,
    }
}

/// The end of a permit of some days.
fn leave(seconds: u64) -> Moment {
    Moment {
        boot_id: BootId("boot-1".to_owned()),
        at: Duration::from_hours(100) + Duration::from_secs(seconds),
    }
}

impl Host {
    fn says(&self, file: &str, text: &str) {
        self.world.host.answers(file, text);
    }

    fn next_boot(&self) {
        fs::write(self.world.host.dir().join("boot_id"), "boot-2\n").unwrap();
    }

    /// A release that was noted and activated.
    async fn active(&self, release: &str) -> Change {
        let (carried, id) = self.world.host.bundle_with("webapp", "2", release, "");
        let artifact = carried.artifact;
        self.world.host.list(&carried, &id);
        let served = &self.world.effects.fetcher.source().0;
        served.lock().unwrap().push(carried);
        let change = Change {
            release: id,
            action: Action::Install { artifact },
            before: None,
            rolls_back: false,
        };
        let effects = &self.world.effects;
        effects.fetch(&change).await.unwrap();
        effects.preflight(&change).await.unwrap();
        let noted = effects.note(&change, &leave(60)).await.unwrap();
        assert_eq!(noted, Noted::Ready);
        effects.activate(&change).await.unwrap();
        change
    }

    /// The verdict, once no unit has any time left to recover.
    async fn verdict(&self, change: &Change) -> Result<(), String> {
        let verifying = self.world.effects.verify(change, true);
        match self.hurried(verifying).await {
            Verdict::Passed => Ok(()),
            Verdict::Failed(failure) => Err(failure.to_string()),
            Verdict::Drifted => Err("drifted".to_owned()),
        }
    }

    async fn hurried<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            () = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    self.hand.advance(Duration::from_secs(1));
                }
            } => unreachable!("time never ends"),
        }
    }
}

#[tokio::test]
async fn a_unit_that_fails_after_the_activation_fails_the_release() {
    let host = host();
    host.says("failed", FAILED);
    let change = host.active("").await;
    host.verdict(&change).await.unwrap();
    host.says(
        "failed",
        &format!("{FAILED}web.service loaded failed failed x\n"),
    );
    let told = host.verdict(&change).await.unwrap_err();
    let expected = "health: failed now and not before the activation: web.service";
    assert_eq!(told, expected);
    // Only looked at, the rest of the host is none of the release's business.
    let looked = host.world.effects.verify(&change, false).await;
    assert_eq!(looked, Verdict::Passed);
}

#[tokio::test]
async fn a_release_may_say_which_units_may_fail() {
    let host = host();
    let may_fail = host.active("[system]\nmay_fail = ['bad.service']").await;
    host.says("failed", FAILED);
    host.verdict(&may_fail).await.unwrap();
    host.world
        .effects
        .cleanup(&may_fail.release.name, &[])
        .await;
    host.says("failed", "");
    let ignores = host.active("[system]\nfailed_units = 'ignore'").await;
    host.says("failed", FAILED);
    host.verdict(&ignores).await.unwrap();
}

#[tokio::test]
async fn a_unit_that_recovers_in_time_is_not_held_against_the_release() {
    let host = host();
    let change = host.active("").await;
    host.says("failed", FAILED);
    let recovers = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        host.says("failed", "");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        verdict = host.world.effects.verify(&change, true) => assert_eq!(verdict, Verdict::Passed),
        () = recovers => {}
    }
}

#[tokio::test]
async fn an_activation_taken_up_again_keeps_the_first_note() {
    let host = host();
    let change = host.active("").await;
    // What the interrupted activation broke must not count as broken before.
    host.says("failed", FAILED);
    let effects = &host.world.effects;
    effects.note(&change, &leave(60)).await.unwrap();
    host.verdict(&change).await.unwrap_err();
    effects.note(&change, &leave(61)).await.unwrap();
    host.verdict(&change).await.unwrap();
}

#[tokio::test]
async fn a_permit_that_ended_while_the_host_was_noted_begins_nothing() {
    let host = host();
    let change = host.active("").await;
    host.hand.advance(Duration::from_hours(101));
    let noted = host.world.effects.note(&change, &leave(60)).await.unwrap();
    assert_eq!(noted, Noted::Lapsed);
}

#[tokio::test]
async fn a_host_that_cannot_be_judged_takes_nothing() {
    let host = host();
    let change = host.active("").await;
    host.says(
        "failed",
        "Failed to list units: Transport endpoint is not connected",
    );
    let failure = host.world.effects.preflight(&change).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Preflight);
    assert!(
        failure
            .detail
            .starts_with("cannot tell which units are failed"),
        "{failure}"
    );
    let failure = host
        .world
        .effects
        .note(&change, &leave(9))
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::Preflight);
    let told = host.verdict(&change).await.unwrap_err();
    assert!(
        told.starts_with("health: cannot tell which units are failed"),
        "{told}"
    );
}

#[tokio::test]
async fn after_a_reboot_the_host_must_come_up_before_it_is_judged() {
    let host = host();
    let change = host
        .active("reboot = 'required'\n[system]\nup = '500ms'")
        .await;
    host.says("state", "starting");
    // Without a reboot nobody asks.
    host.verdict(&change).await.unwrap();
    host.next_boot();
    let told = host.verdict(&change).await.unwrap_err();
    assert_eq!(
        told,
        "reboot: the host did not come up within 500ms: it is starting"
    );
    host.says("state", "offline");
    let told = host.verdict(&change).await.unwrap_err();
    assert!(told.contains("is-system-running failed"), "{told}");
    for up in ["running", "degraded"] {
        host.says("state", up);
        host.verdict(&change).await.unwrap();
    }
    host.says("failed", FAILED);
    let told = host.verdict(&change).await.unwrap_err();
    assert!(told.starts_with("health: failed now"), "{told}");
}

#[tokio::test]
async fn the_way_back_is_proved_too() {
    let host = host();
    let change = host
        .active("reboot = 'required'\n[system]\nup = '500ms'")
        .await;
    let effects = &host.world.effects;
    effects.roll_back(&change).await.unwrap();
    host.next_boot();
    effects.verify_back(&change).await.unwrap();
    host.says("failed", FAILED);
    let failure = host
        .hurried(effects.verify_back(&change))
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::Rollback);
    assert!(failure.detail.contains("bad.service"), "{failure}");
    host.says("state", "maintenance");
    let failure = effects.verify_back(&change).await.unwrap_err();
    assert!(failure.detail.ends_with("it is maintenance"), "{failure}");
}

#[tokio::test]
async fn a_release_may_want_the_controller_reached_anew() {
    let host = host();
    let change = host
        .active("[system]\ncontroller = true\n[timeouts]\nverify = '300ms'")
        .await;
    host.link
        .send_modify(|view| (view.connected, view.opened) = (true, 1));
    let told = host.verdict(&change).await.unwrap_err();
    let expected = "health: the controller was not reached within 300ms after the activation";
    assert_eq!(told, expected, "a session from before proves nothing");
    let connects = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        host.link.send_modify(|view| view.opened = 2);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        verdict = host.world.effects.verify(&change, true) => assert_eq!(verdict, Verdict::Passed),
        () = connects => {}
    }
    // After a reboot every session of this agent is a new one.
    host.next_boot();
    host.verdict(&change).await.unwrap();
}

#[tokio::test]
async fn a_damaged_note_is_no_host_on_which_nothing_had_failed() {
    let host = host();
    let change = host.active("").await;
    let file = host.world.host.state().join("before.json");
    fs::write(&file, "{").unwrap();
    let told = host.verdict(&change).await.unwrap_err();
    assert!(
        told.contains("does not say what the host was like"),
        "{told}"
    );
    // An agent that took no notes began it: nothing is held against the release.
    fs::remove_file(&file).unwrap();
    host.says("failed", FAILED);
    host.verdict(&change).await.unwrap();
}

#[tokio::test]
async fn the_note_goes_with_the_attempt() {
    let host = host();
    let change = host.active("").await;
    let file = host.world.host.state().join("before.json");
    assert!(file.exists());
    let keep = [change.release.version.clone()];
    host.world
        .effects
        .cleanup(&change.release.name, &keep)
        .await;
    assert!(!file.exists());
}

#[tokio::test]
async fn the_reboot_of_an_installer_or_a_command_waits_for_the_guards() {
    let host = host();
    let change = host.active("").await;
    let locked = r#"{"type":"a(ssssuu)","data":[[["shutdown","a backup","copies","block",0,37]]]}"#;
    host.says("inhibitors", locked);
    let refused = host
        .world
        .effects
        .reboot(&change.release)
        .await
        .unwrap_err();
    assert!(refused.contains("a backup (process 37)"), "{refused}");
    let mark = host.world.host.dir().join("rebooted");
    assert!(!mark.exists());
    host.says("inhibitors", r#"{"type":"a(ssssuu)","data":[[]]}"#);
    host.world.effects.reboot(&change.release).await.unwrap();
    assert!(mark.exists());
}
