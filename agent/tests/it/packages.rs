//! Packages over the link: what is sent, and that nothing is sent where nothing changed.

use std::sync::Arc;

use comber_agent::packages::HostPackages;
use comber_model::packages::PackageList;
use comber_model::{Generation, assignment::Desired, wire::desired_to_wire};
use comber_proto::agent::v1::DesiredState;
use jiff::SignedDuration;

use crate::{controller::TestController, support::Linked};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn desired(generation: u64) -> DesiredState {
    let desired = Desired {
        generation: Generation(generation),
        ..Desired::default()
    };
    desired_to_wire([9; 16], &desired)
}

fn packages(versions: &[&str]) -> Arc<HostPackages> {
    let purls = versions
        .iter()
        .map(|version| format!("pkg:deb/debian/{version}?arch=amd64"));
    let list = PackageList::new(purls.map(|purl| purl.parse().unwrap())).unwrap();
    Arc::new(HostPackages::new(list))
}

#[tokio::test]
async fn a_change_is_one_difference_and_a_reconnect_sends_nothing() {
    let controller = TestController::start().await;
    let identity = controller.shared.ca.identity("web-1", HOUR);
    controller.hold(&[]);
    controller.desire(desired(1));
    let linked = Linked::start(&controller.url(), &identity);
    linked
        .packages
        .send_replace(Some(packages(&["a@1", "b@1"])));
    let first = controller.packages(1).await.remove(0);
    assert!(first.change.unwrap().base.is_empty(), "it is whole");
    assert_eq!(first.added.len(), 2);

    linked
        .packages
        .send_replace(Some(packages(&["a@2", "b@1"])));
    let second = controller.packages(2).await.remove(1);
    assert_eq!(second.removed, ["pkg:deb/debian/a@1?arch=amd64"]);
    assert_eq!(second.added, ["pkg:deb/debian/a@2?arch=amd64"]);

    let before = controller.received().len();
    let controller = controller.stop().await.start().await;
    controller.heard("the state again", before, |_| true).await;
    controller.desire(desired(2));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(controller.packages_so_far(), 2);
    linked.stop().await;
}

#[tokio::test]
async fn a_controller_that_holds_an_older_list_or_none_gets_all() {
    let controller = TestController::start().await;
    let identity = controller.shared.ca.identity("web-1", HOUR);
    controller.hold(&[7; 32]);
    controller.desire(desired(1));
    let linked = Linked::start(&controller.url(), &identity);
    linked.packages.send_replace(Some(packages(&["a@1"])));
    let first = controller.packages(1).await.remove(0);
    assert!(first.change.unwrap().base.is_empty(), "its base is unknown");

    let stopped = controller.stop().await;
    let controller = stopped.start().await;
    controller.hold(&[]);
    controller.desire(desired(2));
    let again = controller.packages(2).await.remove(1);
    assert_eq!(again.added.len(), 1);
    linked.stop().await;
}

#[tokio::test]
async fn a_controller_of_before_is_not_called() {
    let controller = TestController::start().await;
    let identity = controller.shared.ca.identity("web-1", HOUR);
    controller.desire(desired(1));
    let mut linked = Linked::start(&controller.url(), &identity);
    linked.packages.send_replace(Some(packages(&["a@1"])));
    linked
        .seen("a desired state", |view| view.received > 0)
        .await;
    controller.facts(1).await;
    assert_eq!(controller.packages_so_far(), 0);
    linked.stop().await;
}
