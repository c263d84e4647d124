//! The binary from enrolment to the acknowledged report: forward, back, held, alone, across a reboot and a kill.

use comber_model::{Action, Assignment};
use comber_proto::agent::v1::{ActualState, AgentState, FailureClass, ReportResult};
use serde_json::json;

use crate::{
    controller::{Plan, TestController},
    host::{Host, Release},
};

/// A check that passes once the test lets it. It ends by itself: after a kill of the agent nobody stops it.
const WAITS_FOR_GO: &str = "touch \"$TEST_DIR/checking\"; n=0\n\
    while [ ! -e \"$TEST_DIR/go\" ] && [ $n -lt 200 ]; do sleep 0.1; n=$((n + 1)); done\n[ -e \"$TEST_DIR/go\" ]";

/// A plan that grants and acknowledges everything.
pub(crate) fn plan(generation: u64, assignment: Assignment) -> Plan {
    Plan {
        generation,
        assignment: Some(assignment),
        permits: true,
        acknowledges: true,
    }
}

pub(crate) fn is(state: AgentState) -> impl Fn(&ActualState) -> bool {
    move |actual| actual.state == i32::from(state)
}

/// A state that reports an end, once it is of that generation.
pub(crate) fn reports(generation: u64) -> impl Fn(&ActualState) -> bool {
    move |actual| {
        let ends = actual.reports.iter();
        ends.into_iter()
            .any(|report| report.generation == generation)
    }
}

/// Brings `version` to the host and waits until its report was acknowledged.
pub(crate) async fn bring(controller: &TestController, generation: u64, version: &str) {
    let release = Release::good(version);
    let artifact = release.publish(controller);
    let from = controller.received().len();
    controller.plan(plan(generation, release.assignment(artifact)));
    controller
        .heard("the report", from, reports(generation))
        .await;
    let acknowledged = |actual: &ActualState| {
        actual.reports.is_empty() && actual.generation == generation && actual.attempt.is_some()
    };
    controller
        .heard("idle again", from, move |actual| {
            acknowledged(actual) && is(AgentState::Idle)(actual)
        })
        .await;
}

#[tokio::test]
async fn fetches_asks_activates_verifies_commits_and_reports_until_acknowledged() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    let release = Release::good("1");
    let artifact = release.publish(&controller);
    let held = Plan {
        permits: false,
        acknowledges: false,
        ..plan(3, release.assignment(artifact))
    };
    controller.plan(held.clone());
    let waiting = controller
        .heard("a request", 0, is(AgentState::AwaitingPermit))
        .await;
    assert_eq!(waiting.generation, 3);
    assert_eq!(host.active(), None, "it was activated without a permit");

    controller.plan(Plan {
        permits: true,
        ..held.clone()
    });
    let committed = controller.heard("the report", 0, reports(3)).await;
    assert_eq!(
        committed.reports[0].result,
        i32::from(ReportResult::Committed)
    );
    assert_eq!(committed.installed[0].release, "app@1");
    assert_eq!(host.active().as_deref(), Some("1"));

    // Not acknowledged, it is said again after a restart of either side.
    host.kill().await;
    let from = controller.received().len();
    host.start();
    controller.heard("the report again", from, reports(3)).await;
    controller.plan(Plan {
        acknowledges: true,
        permits: true,
        ..held
    });
    controller.heard("idle", from, is(AgentState::Idle)).await;
    let status = host
        .becomes("idle", |status| status["state"] == "idle")
        .await;
    assert_eq!(
        status["installed"],
        json!([{ "release": "app@1", "previous": null }])
    );
    assert_eq!(status["host"], "web-1");
    assert_eq!(status["running"], true);
    assert!(host.terminate().await.success());
    assert_eq!(host.status().await["running"], false);
}

#[tokio::test]
async fn a_failed_check_brings_the_host_back_and_is_remembered() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    bring(&controller, 3, "1").await;
    let bad = Release {
        check: "echo 'port 80 is closed' >&2; exit 1",
        verify: "1s",
        ..Release::good("2")
    };
    let artifact = bad.publish(&controller);
    let from = controller.received().len();
    controller.plan(plan(4, bad.assignment(artifact)));
    let back = controller.heard("the report", from, reports(4)).await;
    let report = back
        .reports
        .iter()
        .find(|report| report.generation == 4)
        .unwrap();
    assert_eq!(report.result, i32::from(ReportResult::RolledBack));
    let failure = report.failure.as_ref().unwrap();
    assert_eq!(
        failure.class,
        i32::from(FailureClass::Health),
        "{failure:?}"
    );
    assert_eq!(back.locally_bad, ["app@2"]);
    assert_eq!(host.active().as_deref(), Some("1"));

    // Told the same again, it refuses by itself.
    let again = Assignment {
        attempt: 2,
        ..bad.assignment(artifact)
    };
    controller.plan(plan(5, again));
    let refused = controller.heard("the refusal", from, reports(5)).await;
    let report = refused
        .reports
        .iter()
        .find(|report| report.generation == 5)
        .unwrap();
    assert_eq!(report.result, i32::from(ReportResult::NotActivated));
    assert_eq!(host.active().as_deref(), Some("1"));
}

#[tokio::test]
async fn without_a_permit_it_never_activates_and_a_withdrawn_assignment_leaves_no_trace() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    let release = Release::good("1");
    let artifact = release.publish(&controller);
    let held = Plan {
        permits: false,
        ..plan(3, release.assignment(artifact))
    };
    controller.plan(held.clone());
    controller
        .heard("a request", 0, is(AgentState::AwaitingPermit))
        .await;
    host.kill().await;
    host.start();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let status = host.status().await;
    assert_eq!(status["state"], "awaiting_permit");
    assert!(
        status["waits_for"].as_str().unwrap().contains("permit"),
        "{status:#}"
    );
    assert_eq!(host.active(), None);

    let from = controller.received().len();
    controller.plan(Plan {
        generation: 4,
        assignment: None,
        ..held
    });
    let idle = controller.heard("idle", from, is(AgentState::Idle)).await;
    assert_eq!(idle.generation, 4);
    assert_eq!(host.active(), None);
}

#[tokio::test]
async fn a_lower_generation_is_refused_by_the_running_agent() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    bring(&controller, 5, "1").await;
    let release = Release::good("2");
    let artifact = release.publish(&controller);
    controller.plan(plan(4, release.assignment(artifact)));
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    let status = host.status().await;
    assert_eq!(
        (&status["generation"], &status["state"]),
        (&json!(5), &json!("idle"))
    );
    assert_eq!(host.active().as_deref(), Some("1"));
}

#[tokio::test]
async fn once_activated_it_finishes_without_a_controller_and_reports_on_its_return() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    let slow = Release {
        check: WAITS_FOR_GO,
        ..Release::good("1")
    };
    let artifact = slow.publish(&controller);
    controller.plan(plan(3, slow.assignment(artifact)));
    host.exists("checking").await;
    let stopped = controller.stop().await;
    std::fs::write(host.path("go"), "").unwrap();
    host.becomes("committed", |status| status["state"] == "committed")
        .await;
    assert_eq!(host.active().as_deref(), Some("1"));
    let controller = stopped.start().await;
    let told = controller.heard("the report", 0, reports(3)).await;
    assert_eq!(told.reports[0].result, i32::from(ReportResult::Committed));
    host.becomes("idle", |status| status["state"] == "idle")
        .await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_an_activation_is_gone_on_from() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    let slow = Release {
        check: WAITS_FOR_GO,
        ..Release::good("1")
    };
    let artifact = slow.publish(&controller);
    controller.plan(plan(3, slow.assignment(artifact)));
    host.exists("checking").await;
    assert!(host.terminate().await.success(), "{}", host.log());
    assert_eq!(host.status().await["state"], "verifying");
    std::fs::write(host.path("go"), "").unwrap();
    host.start();
    let told = controller.heard("the report", 0, reports(3)).await;
    assert_eq!(told.reports[0].result, i32::from(ReportResult::Committed));
}

#[tokio::test]
async fn a_release_that_needs_a_reboot_is_proved_in_the_next_boot() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    let release = Release {
        more: "reboot = 'required'",
        ..Release::good("1")
    };
    let artifact = release.publish(&controller);
    controller.plan(plan(3, release.assignment(artifact)));
    host.exists("reboot-requested").await;
    let status = host.status().await;
    assert_eq!(status["state"], "rebooting", "{status:#}");
    host.kill().await;
    host.next_boot();
    let from = controller.received().len();
    host.start();
    let told = controller.heard("the report", from, reports(3)).await;
    assert_eq!(
        told.reports[0].result,
        i32::from(ReportResult::Committed),
        "{}",
        host.log()
    );
    assert_ne!(told.boot_id, controller.received()[0].boot_id);
}

#[tokio::test]
async fn bytes_that_are_not_what_was_published_are_never_activated() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    let release = Release::good("1");
    let artifact = release.publish(&controller);
    controller.corrupt_artifact(&artifact.digest.to_string());
    controller.plan(plan(3, release.assignment(artifact)));
    let told = controller.heard("the report", 0, reports(3)).await;
    assert_eq!(
        told.reports[0].result,
        i32::from(ReportResult::NotActivated)
    );
    let failure = told.reports[0].failure.as_ref().unwrap();
    assert_eq!(failure.class, i32::from(FailureClass::Trust), "{failure:?}");
    assert_eq!(host.active(), None);
}

#[tokio::test]
async fn the_way_back_from_a_first_installation_takes_the_product_off() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    bring(&controller, 3, "1").await;
    let from = controller.received().len();
    let removal = Assignment {
        rollout: "r1".parse().unwrap(),
        release: "app@1".parse().unwrap(),
        action: Action::Remove,
        rolls_back: true,
        attempt: 2,
        retry_bad: false,
        disconnected: false,
    };
    controller.plan(plan(4, removal));
    let told = controller.heard("the report", from, reports(4)).await;
    let report = told
        .reports
        .iter()
        .find(|report| report.generation == 4)
        .unwrap();
    assert_eq!(
        report.result,
        i32::from(ReportResult::Committed),
        "{report:?}"
    );
    assert!(told.installed.is_empty(), "{:?}", told.installed);
    assert_eq!(host.active(), None);
}

#[tokio::test]
async fn a_bad_release_is_tried_again_where_an_operator_says_so() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    let mended = Release {
        check: "[ -e \"$TEST_DIR/mended\" ]",
        verify: "1s",
        ..Release::good("1")
    };
    let artifact = mended.publish(&controller);
    controller.plan(plan(3, mended.assignment(artifact)));
    let back = controller.heard("the failure", 0, reports(3)).await;
    assert_eq!(back.reports[0].result, i32::from(ReportResult::RolledBack));
    std::fs::write(host.path("mended"), "").unwrap();
    let again = Assignment {
        attempt: 2,
        retry_bad: true,
        ..mended.assignment(artifact)
    };
    controller.plan(plan(4, again));
    let told = controller.heard("the success", 0, reports(4)).await;
    let report = told
        .reports
        .iter()
        .find(|report| report.generation == 4)
        .unwrap();
    assert_eq!(
        report.result,
        i32::from(ReportResult::Committed),
        "{report:?}"
    );
    assert_eq!(
        (host.active().as_deref(), told.locally_bad.len()),
        (Some("1"), 0)
    );
}
