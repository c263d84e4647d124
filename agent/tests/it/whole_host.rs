//! Reboots by logind and the state of the whole host, with the real binary and clients of systemd that say what the test
//! wants.

use std::fs;

use comber_proto::agent::v1::{FailureClass, ReportResult};

use crate::{
    controller::TestController,
    host::{Host, Release},
    rollout::{bring, plan, reports},
};

const LOCKED: &str =
    r#"{"type":"a(ssssuu)","data":[[["shutdown","a backup","copies the disk","block",0,37]]]}"#;
const NOT_LOCKED: &str = r#"{"type":"a(ssssuu)","data":[[]]}"#;

/// The host boots as logind was asked to.
async fn boots(host: &mut Host) {
    host.exists("logind-asked").await;
    host.kill().await;
    fs::remove_file(host.path("logind-asked")).unwrap();
    host.next_boot();
    host.start();
}

#[tokio::test]
async fn an_inhibitor_holds_the_reboot_up_until_it_is_gone() {
    let controller = TestController::start().await;
    let mut host = Host::with_systemd(&controller).await;
    host.answers("inhibitors", LOCKED);
    host.start();
    let release = Release {
        more: "reboot = 'required'",
        ..Release::good("1")
    };
    let artifact = release.publish(&controller);
    controller.plan(plan(3, release.assignment(artifact)));
    let status = host
        .becomes("held up", |status| {
            status["waits_for"].as_str().unwrap().contains("refused")
        })
        .await;
    let why = status["waits_for"].as_str().unwrap();
    assert!(
        why.contains("a backup (process 37): copies the disk"),
        "{why}"
    );
    assert!(!host.path("logind-asked").exists());
    // It is asked again after a minute, and at once after a start.
    host.kill().await;
    host.answers("inhibitors", NOT_LOCKED);
    host.start();
    boots(&mut host).await;
    let committed = controller.heard("the report", 0, reports(3)).await;
    assert_eq!(
        committed.reports[0].result,
        i32::from(ReportResult::Committed)
    );
}

#[tokio::test]
async fn a_unit_that_fails_after_the_boot_brings_the_host_back_with_a_second_reboot() {
    let controller = TestController::start().await;
    let mut host = Host::with_systemd(&controller).await;
    host.answers("failed", "old.service loaded failed failed failed before\n");
    host.start();
    bring(&controller, 3, "1").await;
    let release = Release {
        more: "reboot = 'required'",
        ..Release::good("2")
    };
    let artifact = release.publish(&controller);
    let from = controller.received().len();
    controller.plan(plan(4, release.assignment(artifact)));
    host.exists("logind-asked").await;
    host.answers(
        "failed",
        "old.service loaded failed failed x\nweb.service loaded failed failed y\n",
    );
    boots(&mut host).await;
    // What was undone is gone with the second boot.
    host.exists("logind-asked").await;
    host.answers("failed", "old.service loaded failed failed x\n");
    host.answers("state", "starting");
    boots(&mut host).await;
    let waiting = host
        .becomes("coming up", |status| status["state"] == "rolling_back")
        .await;
    assert!(
        waiting["waits_for"].as_str().unwrap().contains("come up"),
        "{waiting:#}"
    );
    host.answers("state", "degraded");
    let back = controller.heard("the report", from, reports(4)).await;
    let report = back.reports.iter().find(|report| report.generation == 4);
    let report = report.unwrap();
    assert_eq!(report.result, i32::from(ReportResult::RolledBack));
    let failure = report.failure.as_ref().unwrap();
    assert_eq!(failure.class, i32::from(FailureClass::Health));
    assert_eq!(
        failure.detail,
        "failed now and not before the activation: web.service"
    );
    assert_eq!(host.active().as_deref(), Some("1"));
}

#[tokio::test]
async fn a_host_that_does_not_come_up_from_the_way_back_is_broken() {
    let controller = TestController::start().await;
    let mut host = Host::with_systemd(&controller).await;
    host.start();
    let release = Release {
        more: "reboot = 'required'\nsystem = { up = '1s' }",
        ..Release::good("1")
    };
    let artifact = release.publish(&controller);
    controller.plan(plan(3, release.assignment(artifact)));
    host.exists("logind-asked").await;
    host.answers("state", "maintenance");
    boots(&mut host).await;
    boots(&mut host).await;
    let broken = controller.heard("the report", 0, reports(3)).await;
    assert_eq!(broken.reports[0].result, i32::from(ReportResult::Broken));
    let detail = &broken.reports[0].failure.as_ref().unwrap().detail;
    let expected = "the host did not come up within 1s: it is maintenance; it went back because of reboot: the host did not";
    assert!(detail.starts_with(expected), "{detail}");
}

#[tokio::test]
async fn a_release_that_wants_the_controller_is_kept_once_it_was_reached_anew() {
    let controller = TestController::start().await;
    let mut host = Host::with_systemd(&controller).await;
    host.start();
    let release = Release {
        more: "system = { controller = true }",
        ..Release::good("1")
    };
    let artifact = release.publish(&controller);
    controller.plan(plan(3, release.assignment(artifact)));
    controller.heard("the report", 0, reports(3)).await;
    let status = host
        .becomes("idle", |status| status["state"] == "idle")
        .await;
    assert_eq!(status["link"]["opened"], 2, "{status:#}");
}
