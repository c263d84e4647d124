//! A controller, or a relay with its certificate, that is malicious: whatever it says and shows, nothing of it is installed.
//!
//! The double speaks the agent's real protocol with a certificate of the fleet's own CA, so it is both: a controller that was
//! taken over, and somebody in between who has its key.

use std::fs;

use comber_model::{Action, Artifact, Assignment};
use comber_proto::agent::v1::{FailureClass, ReportResult};
use comber_trust::{dev, publisher::Publisher};

use crate::{
    controller::{Lie, TestController},
    host::{Host, Release},
    rollout::{bring, plan, reports},
    vendor::{Vendor, now},
};

impl Vendor {
    /// Changes what is listed, and publishes that.
    pub(crate) fn change(&self, change: impl FnOnce(&Publisher)) {
        change(&self.publisher());
        self.publish();
    }

    /// Publishes a timestamp that ended yesterday.
    pub(crate) fn freeze(&self) {
        let then = now() - jiff::SignedDuration::from_hours(24 * 366);
        let publisher = Publisher::open(&self.dir, dev::lives(), then).unwrap();
        publisher.refresh().unwrap();
        dev::publish(&self.dir, then).unwrap();
    }
}

/// A host that runs `app@1`, with the controller that will turn.
async fn fleet() -> (TestController, Host) {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    bring(&controller, 3, "1").await;
    (controller, host)
}

/// The assignment is refused as a matter of trust, in these words, and the host runs what it ran.
async fn refused(controller: &TestController, host: &Host, assignment: Assignment, words: &str) {
    let generation = 100 + u64::from(assignment.attempt);
    let from = controller.received().len();
    controller.plan(plan(generation, assignment));
    let told = controller
        .heard("the refusal", from, reports(generation))
        .await;
    let mut ends = told.reports.iter();
    let report = ends.find(|report| report.generation == generation).unwrap();
    assert_eq!(report.result, i32::from(ReportResult::NotActivated));
    let failure = report.failure.as_ref().unwrap();
    assert_eq!(failure.class, i32::from(FailureClass::Trust), "{failure:?}");
    assert!(failure.detail.contains(words), "{}", failure.detail);
    assert_eq!(host.active().as_deref(), Some("1"));
}

fn changed(mut assignment: Assignment, change: impl FnOnce(&mut Artifact)) -> Assignment {
    if let Action::Install { artifact } = &mut assignment.action {
        change(artifact);
    }
    assignment
}

fn file(controller: &TestController, name: &str) -> Vec<u8> {
    fs::read(controller.shared.vendor.metadata().join(name)).unwrap()
}

#[tokio::test]
async fn wrong_bytes_are_not_installed() {
    let (controller, host) = fleet().await;
    let release = Release::good("2");
    let artifact = release.publish(&controller);
    controller.corrupt_artifact(&artifact.digest.to_string());
    refused(&controller, &host, release.assignment(artifact), "").await;
}

#[tokio::test]
async fn old_metadata_is_not_believed() {
    let (controller, host) = fleet().await;
    let old = file(&controller, "timestamp.json");
    let release = Release::good("2");
    let artifact = release.publish(&controller);
    bring(&controller, 4, "3").await;
    controller.lie("timestamp.json", Lie::Bytes(old));
    let generation = 110;
    let from = controller.received().len();
    controller.plan(plan(generation, release.assignment(artifact)));
    let told = controller
        .heard("the refusal", from, reports(generation))
        .await;
    let report = told.reports.iter().find(|one| one.generation == generation);
    let failure = report.unwrap().failure.as_ref().unwrap();
    assert_eq!(failure.class, i32::from(FailureClass::Trust), "{failure:?}");
    assert!(failure.detail.contains("older than"), "{}", failure.detail);
    assert_eq!(host.active().as_deref(), Some("3"));
}

#[tokio::test]
async fn mixed_versions_are_not_believed() {
    let (controller, host) = fleet().await;
    let release = Release::good("2");
    let old = file(&controller, "2.targets.json");
    let artifact = release.publish(&controller);
    controller.lie("3.targets.json", Lie::Bytes(old));
    let assignment = release.assignment(artifact);
    refused(&controller, &host, assignment, "metadata_refused").await;
}

#[tokio::test]
async fn an_unlisted_release_is_not_installed() {
    let (controller, host) = fleet().await;
    let release = Release::good("2");
    let artifact = release.publish(&controller);
    let withdrawn = "app@2".parse().unwrap();
    let vendor = &controller.shared.vendor;
    vendor.change(|publisher| publisher.withdraw(&withdrawn).unwrap());
    let assignment = release.assignment(artifact);
    refused(&controller, &host, assignment, "not among the releases").await;
}

#[tokio::test]
async fn a_forged_assignment_is_not_carried_out() {
    let (controller, host) = fleet().await;
    let release = Release::good("2");
    let listed = release.publish(&controller);
    // The bytes of the one under the name of the other, which are both listed.
    let other = Release::good("3").publish(&controller);
    let forged = changed(release.assignment(listed), |artifact| *artifact = other);
    refused(&controller, &host, forged, "other bytes").await;
}

#[tokio::test]
async fn a_frozen_timestamp_ends_what_is_installed() {
    let (controller, host) = fleet().await;
    let release = Release::good("2");
    let artifact = release.publish(&controller);
    controller.shared.vendor.freeze();
    let assignment = release.assignment(artifact);
    refused(&controller, &host, assignment, "metadata_expired").await;
}

#[tokio::test]
async fn endless_data_is_given_up() {
    let (controller, host) = fleet().await;
    let release = Release::good("2");
    let artifact = release.publish(&controller);
    controller.lie("timestamp.json", Lie::Endless);
    let assignment = release.assignment(artifact);
    refused(&controller, &host, assignment, "at most").await;
}

#[tokio::test]
async fn a_wrong_length_is_not_believed() {
    let (controller, host) = fleet().await;
    let release = Release::good("2");
    let artifact = release.publish(&controller);
    let long = changed(release.assignment(artifact), |artifact| {
        artifact.length += 1;
    });
    refused(&controller, &host, long, "other bytes").await;
    // As carried it is not signed, and is bounded by what is.
    let endless = Assignment {
        attempt: 2,
        ..changed(release.assignment(artifact), |artifact| {
            artifact.carried_length = u64::MAX / 4;
        })
    };
    refused(&controller, &host, endless, "bytes are announced").await;
}

#[tokio::test]
async fn an_older_release_comes_back_only_as_a_rollback_that_the_publisher_allows() {
    let (controller, host) = fleet().await;
    let release = Release::good("1");
    let older = release.publish(&controller);
    bring(&controller, 4, "2").await;
    let generation = 110;
    let assignment = release.assignment(older);
    let from = controller.received().len();
    controller.plan(plan(generation, assignment.clone()));
    let told = controller
        .heard("the refusal", from, reports(generation))
        .await;
    let report = told.reports.iter().find(|one| one.generation == generation);
    let failure = report.unwrap().failure.as_ref().unwrap();
    assert!(
        failure.detail.contains("only a rollback"),
        "{}",
        failure.detail
    );
    let back = Assignment {
        rolls_back: true,
        ..assignment.clone()
    };
    let from = controller.received().len();
    controller.plan(plan(111, back.clone()));
    controller.heard("the way back", from, reports(111)).await;
    assert_eq!(host.active().as_deref(), Some("1"));
    // Below the floor there is no way back either.
    bring(&controller, 112, "3").await;
    let vendor = &controller.shared.vendor;
    vendor.change(|publisher| publisher.floor(&"app".parse().unwrap(), 4).unwrap());
    let from = controller.received().len();
    controller.plan(plan(113, back));
    let told = controller.heard("the refusal", from, reports(113)).await;
    let report = told.reports.iter().find(|one| one.generation == 113);
    let failure = report.unwrap().failure.as_ref().unwrap();
    assert!(failure.detail.contains("floor"), "{}", failure.detail);
    assert_eq!(host.active().as_deref(), Some("3"));
}

#[tokio::test]
async fn a_record_that_is_damaged_or_gone_fails_closed_with_an_alarm() {
    let (controller, host) = fleet().await;
    let release = Release::good("2");
    let artifact = release.publish(&controller);
    let path = host.path("state/trust/record.json");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let assignment = release.assignment(artifact);
    refused(&controller, &host, assignment.clone(), "trust_record").await;
    fs::remove_file(&path).unwrap();
    let again = Assignment {
        attempt: 2,
        ..assignment.clone()
    };
    refused(&controller, &host, again, "trust_record").await;
    let status = host.status().await;
    assert_eq!(status["trust"]["state"], "damaged", "{status:#}");
    assert!(host.log().contains("installs nothing"), "{}", host.log());
    // Only an administrator of the host begins anew, and says with whom.
    let root = host.path("root.json");
    fs::write(&root, controller.shared.vendor.root()).unwrap();
    let root = root.display().to_string();
    let init = host.command(&["trust", "init", &root]).await;
    assert!(!init.status.success(), "{init:?}");
    let reset = host.command(&["trust", "reset", &root, "--yes"]).await;
    assert!(reset.status.success(), "{reset:?}");
    let from = controller.received().len();
    let after = Assignment {
        attempt: 3,
        ..assignment
    };
    controller.plan(plan(120, after));
    controller.heard("the update", from, reports(120)).await;
    assert_eq!(host.active().as_deref(), Some("2"));
}

#[tokio::test]
async fn a_host_without_a_root_installs_nothing_and_says_so_until_it_is_handed_one() {
    let controller = TestController::start().await;
    let offers = &controller.shared.offers_root;
    offers.store(false, std::sync::atomic::Ordering::SeqCst);
    let mut host = Host::enrolled(&controller).await;
    host.start();
    let release = Release::good("1");
    let artifact = release.publish(&controller);
    let assignment = release.assignment(artifact);
    controller.plan(plan(3, assignment.clone()));
    let told = controller.heard("the refusal", 0, reports(3)).await;
    let failure = told.reports[0].failure.as_ref().unwrap();
    assert!(failure.detail.contains("no_root"), "{}", failure.detail);
    assert_eq!(controller.facts(1).await[0].trust, "no_root");
    assert_eq!(host.status().await["trust"]["state"], "no_root");
    let root = host.path("root.json");
    fs::write(&root, controller.shared.vendor.root()).unwrap();
    let init = host
        .command(&["trust", "init", &root.display().to_string()])
        .await;
    assert!(init.status.success(), "{init:?}");
    let from = controller.received().len();
    let again = Assignment {
        attempt: 2,
        ..assignment
    };
    controller.plan(plan(4, again));
    controller.heard("the installation", from, reports(4)).await;
    assert_eq!(host.active().as_deref(), Some("1"));
}

#[tokio::test]
async fn a_root_that_the_administrator_hands_over_counts_above_the_controllers() {
    let controller = TestController::start().await;
    let other = tempfile::tempdir().unwrap();
    let publisher = dev::create(&other.path().join("repository"), now()).unwrap();
    let root = publisher
        .metadata()
        .join("1.root.json")
        .display()
        .to_string();
    let host = Host::new();
    let token = controller.token(1, None);
    let (url, token) = (controller.url().to_string(), token.reveal());
    let arguments = [
        "enroll",
        "--controller",
        &url,
        "--token",
        &token,
        "--root",
        &root,
    ];
    let output = host.command(&arguments).await;
    assert!(output.status.success(), "{output:?}");
    let sha256 = comber_trust::look_at_root(&fs::read_to_string(&root).unwrap());
    let pinned = fs::read_to_string(host.path("state/trust/pinned")).unwrap();
    assert_eq!(pinned.trim(), sha256.unwrap().sha256);
    let mut host = host;
    host.start();
    let release = Release::good("1");
    let artifact = release.publish(&controller);
    controller.plan(plan(3, release.assignment(artifact)));
    let told = controller.heard("the refusal", 0, reports(3)).await;
    let failure = told.reports[0].failure.as_ref().unwrap();
    assert_eq!(failure.class, i32::from(FailureClass::Trust), "{failure:?}");
    assert_eq!(host.active(), None);
}

#[tokio::test]
async fn what_a_host_verified_it_keeps_while_metadata_cannot_be_had() {
    let (controller, host) = fleet().await;
    let two = Release::good("2");
    let artifact = two.publish(&controller);
    // It learns of it with another release, and then nobody shows it any metadata.
    bring(&controller, 4, "0.9").await;
    controller.lie("timestamp.json", Lie::Gone);
    let from = controller.received().len();
    let back = Assignment {
        rolls_back: true,
        ..two.assignment(artifact)
    };
    controller.plan(plan(5, back));
    controller.heard("the installation", from, reports(5)).await;
    assert_eq!(host.active().as_deref(), Some("2"));
}

#[tokio::test]
async fn a_host_that_slept_walks_along_the_roots() {
    let (controller, host) = fleet().await;
    let vendor = &controller.shared.vendor;
    let one = std::num::NonZeroU64::MIN;
    for _ in 0..2 {
        vendor.change(|publisher| {
            publisher
                .set_threshold(comber_trust::RoleType::Root, one)
                .unwrap();
        });
    }
    bring(&controller, 4, "2").await;
    let status = host.status().await;
    assert_eq!(status["trust"]["versions"][0], 3, "{status:#}");
    // Who hides the roots in between shows an older world, and that is not believed.
    controller.lie("4.root.json", Lie::Bytes(b"{}".to_vec()));
    let release = Release::good("3");
    let artifact = release.publish(&controller);
    let from = controller.received().len();
    controller.plan(plan(5, release.assignment(artifact)));
    let told = controller.heard("the refusal", from, reports(5)).await;
    let failure = told.reports[0].failure.as_ref().unwrap();
    assert_eq!(failure.class, i32::from(FailureClass::Trust), "{failure:?}");
    assert_eq!(host.active().as_deref(), Some("2"));
}
