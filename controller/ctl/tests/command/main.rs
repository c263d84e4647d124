//! The real `comber` binary against a controller that answers by script, over real TLS on loopback.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod controller;
mod services;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use comber_proto::rollout::v1::{
    AwaitFenceResponse, Member, Outcomes, RollBack, Rollout, RolloutState,
};
use tonic::Status;

use controller::{Controller, Ran};
use services::Step;

fn step(state: RolloutState, failed: u32, unreached: u32) -> Step {
    Step::Rollout(Box::new(rollout(state, failed, unreached)))
}

fn rollout(state: RolloutState, failed: u32, unreached: u32) -> Rollout {
    Rollout {
        id: "r7".to_owned(),
        release: "webapp@2".to_owned(),
        state: state.into(),
        outcomes: Some(Outcomes {
            succeeded: 10,
            failed,
            unreached,
            total: 10 + failed + unreached,
            ..Outcomes::default()
        }),
        failed_by_class: [("health".to_owned(), failed)].into(),
        ..Rollout::default()
    }
}

async fn enrolled() -> Controller {
    let controller = Controller::start().await;
    controller
        .ok(&[
            "init",
            "--controller",
            &controller.url(),
            "--token",
            &controller.token(),
        ])
        .await;
    controller
}

#[tokio::test]
async fn init_enrols_with_the_token_and_keeps_the_key_private() {
    let controller = Controller::start().await;
    let file = controller.path("token");
    fs::write(&file, controller.token() + "\n").unwrap();
    let told = controller
        .ok(&[
            "init",
            "--name",
            "anna",
            "--controller",
            &controller.url(),
            "--token-file",
            file.to_str().unwrap(),
        ])
        .await;
    assert!(told.contains("enrolled as anna"), "{told}");
    let identity = controller.path("config/identities/default.toml");
    assert_eq!(
        fs::metadata(&identity).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let contexts = controller
        .ok(&["context", "list", "--output", "json"])
        .await;
    assert!(
        contexts.contains("\"operator\": \"anna\"") && contexts.contains(&controller.url()),
        "{contexts}"
    );
    // Enrolling again needs no address; another address needs a context of its own.
    controller
        .ok(&["init", "--token", &controller.token()])
        .await;
    let other = controller
        .run(&[
            "init",
            "--controller",
            "https://elsewhere:1",
            "--token",
            &controller.token(),
        ])
        .await;
    assert_eq!(other.code, 64);
    assert!(other.stderr.contains("--context NAME"), "{}", other.stderr);
}

#[tokio::test]
async fn init_refuses_a_controller_that_the_token_does_not_name() {
    let (controller, other) = (Controller::start().await, Controller::start().await);
    let ran = controller
        .run(&[
            "init",
            "--controller",
            &controller.url(),
            "--token",
            &other.token(),
        ])
        .await;
    assert_eq!(ran.code, 69, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("another controller than the one that made the token"),
        "{}",
        ran.stderr
    );
    assert!(!controller.path("config/contexts.toml").exists());
    let cut = controller
        .run(&[
            "init",
            "--controller",
            &controller.url(),
            "--token",
            "cmb1_short",
        ])
        .await;
    assert_eq!(cut.code, 64);
    assert!(cut.stderr.contains("copy it again"), "{}", cut.stderr);
}

#[tokio::test]
async fn a_certificate_past_two_thirds_of_its_life_is_renewed_by_any_command() {
    let controller = Controller::start().await;
    controller.script(|script| script.issued_ago = Duration::from_hours(20));
    controller
        .ok(&[
            "init",
            "--controller",
            &controller.url(),
            "--token",
            &controller.token(),
        ])
        .await;
    let identity = controller.path("config/identities/default.toml");
    let before = fs::read_to_string(&identity).unwrap();
    controller.script(|script| script.issued_ago = Duration::ZERO);
    controller.ok(&["host", "list"]).await;
    let after = fs::read_to_string(&identity).unwrap();
    assert_ne!(before, after);
    controller.ok(&["host", "list"]).await;
    assert_eq!(
        after,
        fs::read_to_string(&identity).unwrap(),
        "a fresh one is left alone"
    );
    controller.script(|script| script.issued_ago = Duration::from_hours(48));
    controller
        .ok(&["init", "--token", &controller.token()])
        .await;
    let over = controller.run(&["host", "list"]).await;
    assert_eq!(over.code, 77);
    assert!(
        over.stderr.contains("certificate is over") && over.stderr.contains("comber init"),
        "{}",
        over.stderr
    );
}

#[tokio::test]
async fn publishing_goes_on_where_the_upload_broke_off() {
    let controller = enrolled().await;
    let dir = controller.path("webapp");
    fs::create_dir_all(dir.join("files")).unwrap();
    fs::write(
        dir.join("release.toml"),
        "name = \"webapp\"\nversion = \"2\"\n[installer]\ntype = \"archive\"\npath = \"/opt/webapp\"\n",
    )
    .unwrap();
    // Noise does not compress, so that the upload takes several messages.
    let mut noise = Vec::new();
    let mut state = 1_u64;
    while noise.len() < 1 << 20 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        noise.extend_from_slice(&state.to_be_bytes());
    }
    fs::write(dir.join("files/noise"), &noise).unwrap();
    let bundle = controller.path("webapp.comber");
    let (dir, bundle) = (dir.to_str().unwrap(), bundle.to_str().unwrap());
    controller
        .ok(&["release", "build", dir, "--out", bundle])
        .await;
    controller.ok(&["repo", "init", "--dev"]).await;
    controller.script(|script| script.upload_breaks = 2);
    let ran = controller.run(&["release", "publish", bundle]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("published webapp@2"), "{}", ran.stdout);
    let script = controller.script(|script| script.clone());
    assert_eq!(script.uploaded, fs::read(bundle).unwrap());
    for file in ["1.root.json", "2.targets.json", "timestamp.json"] {
        assert!(
            script.imported.iter().any(|name| name == file),
            "{:?}",
            script.imported
        );
    }
    assert_eq!(script.offsets.len(), 3, "{:?}", script.offsets);
    assert!(
        script.offsets.is_sorted() && script.offsets[1] > 0,
        "{:?}",
        script.offsets
    );
}

async fn watched(steps: Vec<Step>) -> Ran {
    let controller = enrolled().await;
    controller.script(|script| script.watch = steps.into());
    controller.run(&["rollout", "watch", "r7"]).await
}

#[tokio::test]
async fn the_exit_code_of_a_watch_tells_how_the_rollout_ended() {
    use RolloutState::{Aborted, Completed, Halted, Running};
    let cases = [
        (rollout(Completed, 0, 0), 0),
        (rollout(Completed, 2, 0), 3),
        (rollout(Completed, 0, 1), 3),
        (rollout(Halted, 2, 0), 4),
        (rollout(Aborted, 0, 0), 5),
    ];
    for (end, code) in cases {
        let steps = vec![step(Running, 0, 0), Step::Rollout(Box::new(end.clone()))];
        let ran = watched(steps).await;
        assert_eq!(ran.code, code, "{end:?}\n{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains("r7 running"), "{}", ran.stdout);
    }
}

#[tokio::test]
async fn a_watch_survives_a_lost_connection_and_says_so() {
    let steps = vec![
        step(RolloutState::Running, 0, 0),
        Step::Break(Status::unavailable("the controller stops")),
        step(RolloutState::Completed, 0, 0),
    ];
    let ran = watched(steps).await;
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stderr.contains("lost (the controller stops)"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("connected again"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_watch_ends_by_its_timeout_and_shows_one_example_of_each_failure() {
    let controller = enrolled().await;
    controller.script(|script| {
        script.watch = vec![step(RolloutState::Running, 0, 0), Step::Wait].into();
    });
    let ran = controller
        .run(&["rollout", "watch", "r7", "--timeout", "300ms"])
        .await;
    assert_eq!(ran.code, 6, "{}", ran.stderr);
    assert!(ran.stderr.contains("r7 goes on"), "{}", ran.stderr);
    controller.script(|script| {
        script.watch = vec![step(RolloutState::Completed, 1, 0)].into();
        script.members = vec![Member {
            host: "web-3".to_owned(),
            reason: "health".to_owned(),
            detail: "the page is missing".to_owned(),
            ..Member::default()
        }];
    });
    let ran = controller.run(&["rollout", "watch", "r7"]).await;
    assert!(
        ran.stdout.contains("web-3") && ran.stdout.contains("the page is missing"),
        "{}",
        ran.stdout
    );
    controller.script(|script| {
        script.watch = vec![step(RolloutState::Completed, 1, 0)].into();
    });
    let ran = controller
        .run(&["rollout", "watch", "r7", "--output", "json"])
        .await;
    assert_eq!(ran.code, 3);
    let last: serde_json::Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["summary"]["exit_code"]),
        (&"summary".into(), &3.into())
    );
}

#[tokio::test]
async fn abort_waits_until_the_fence_is_closed() {
    let controller = enrolled().await;
    let open = |names: &[&str]| AwaitFenceResponse {
        open: names.iter().map(ToString::to_string).collect(),
        open_count: u32::try_from(names.len()).unwrap(),
        ..AwaitFenceResponse::default()
    };
    let closed = AwaitFenceResponse {
        closed: true,
        ..AwaitFenceResponse::default()
    };
    let fence = vec![
        Ok(open(&["web-1", "web-2"])),
        Err(Status::unavailable("it stops")),
        Ok(open(&["web-2"])),
        Ok(closed),
    ];
    controller.script(|script| script.fence = fence.clone().into());
    let ran = controller.run(&["rollout", "abort", "r7", "--wait"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("2 hosts are able to activate (web-1, web-2)"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("lost (it stops)") && ran.stderr.contains("1 host is able"),
        "{}",
        ran.stderr
    );
    assert!(ran.stdout.contains("the fence is closed"), "{}", ran.stdout);
    // Aborted before: the wait can be taken up again.
    controller.script(|script| {
        script.aborted = true;
        script.fence = vec![fence[3].clone()].into();
    });
    assert_eq!(
        controller
            .run(&["rollout", "abort", "r7", "--wait"])
            .await
            .code,
        0
    );
    let ran = controller.run(&["rollout", "abort", "r7"]).await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("r7 is aborted already"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn waiting_for_the_way_back_gives_one_document() {
    let controller = enrolled().await;
    let going_back = |state, done: u32, impossible: u32| {
        let mut rollout = rollout(state, 0, 0);
        let wanted = 10 - done - impossible;
        rollout.roll_back = Some(RollBack {
            total: 10,
            wanted,
            done,
            failed: 0,
            impossible,
        });
        Step::Rollout(Box::new(rollout))
    };
    for (impossible, code) in [(0, 0), (1, 3)] {
        controller.script(|script| {
            script.watch = vec![
                going_back(RolloutState::RollingBack, 4, 0),
                going_back(RolloutState::Aborted, 10 - impossible, impossible),
            ]
            .into();
        });
        let ran = controller
            .run(&["rollout", "rollback", "r7", "--wait", "--output", "json"])
            .await;
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(document["roll_back"]["done"], 10 - impossible);
    }
}

#[tokio::test]
async fn every_kind_of_error_has_its_code_and_its_words() {
    let controller = enrolled().await;
    let missing = controller.run(&["host", "show", "nobody"]).await;
    assert_eq!(missing.code, 2);
    assert_eq!(
        missing.stderr,
        "error: cannot show the host\n  there is no host nobody\n"
    );
    let file = controller.path("bad.toml");
    fs::write(&file, "release = 1\n").unwrap();
    let bad = controller
        .run(&["rollout", "create", file.to_str().unwrap()])
        .await;
    assert_eq!(bad.code, 78);
    assert!(
        bad.stderr.contains("line 1") && bad.stderr.contains('^'),
        "{}",
        bad.stderr
    );
    assert_eq!(controller.run(&["rollout", "start"]).await.code, 64);
    assert_eq!(controller.run(&["rollout", "strat"]).await.code, 64);
    let unknown = controller
        .run(&["--context", "defualt", "host", "list"])
        .await;
    assert_eq!(unknown.code, 78);
    assert!(
        unknown.stderr.contains("did you mean \"default\"?"),
        "{}",
        unknown.stderr
    );
    controller.script(|script| {
        script.hosts = Some(Status::unauthenticated("the certificate was revoked"));
    });
    let revoked = controller.run(&["host", "list"]).await;
    assert_eq!(revoked.code, 77);
    assert!(revoked.stderr.contains("comber init"), "{}", revoked.stderr);
    controller.stop();
    let gone = controller
        .run(&["host", "list", "--connect-timeout", "0s"])
        .await;
    assert_eq!(gone.code, 69, "{}", gone.stderr);
    assert!(
        gone.stderr.contains(&controller.url()) && gone.stderr.contains("hint:"),
        "{}",
        gone.stderr
    );
}

#[tokio::test]
async fn without_a_context_the_first_step_is_told() {
    let controller = Controller::start().await;
    let ran = controller.run(&["rollout", "list"]).await;
    assert_eq!(ran.code, 78);
    assert!(
        ran.stderr.contains("comber init --controller"),
        "{}",
        ran.stderr
    );
    let help = controller.ok(&["help", "exit-codes"]).await;
    assert!(
        help.contains("  69  the controller cannot be reached"),
        "{help}"
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            controller
                .ok(&["completion", shell])
                .await
                .contains("comber")
        );
    }
}
