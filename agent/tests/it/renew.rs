//! Renewal with certificates that live for seconds.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use comber_agent::renew::Renewal;
use comber_runtime::{clock::Clock, shutdown::Shutdown, task};
use jiff::SignedDuration;

use crate::{
    controller::TestController,
    support::{PATIENCE, enrolled, quick},
};

fn renewal(
    controller: &TestController,
    store: &Arc<comber_agent::identity::IdentityStore>,
) -> Renewal {
    Renewal {
        controller: controller.url(),
        channel: quick().channel(),
        identity: Arc::clone(store),
        clock: Clock::system(),
    }
}

#[tokio::test]
async fn a_short_life_is_renewed_again_and_again_without_a_gap() {
    let controller = TestController::start().await;
    let life = SignedDuration::from_secs(6);
    controller.certificates_live(life);
    let dir = tempfile::tempdir().unwrap();
    let first = controller.shared.ca.identity("web-1", life);
    let store = enrolled(dir.path(), &controller.url(), &first);
    let shutdown = Shutdown::new();
    let mut present = store.subscribe();
    let task = task::spawn("renewal", &shutdown, renewal(&controller, &store).run());
    let mut before = first.facts().clone();
    for _ in 0..2 {
        tokio::time::timeout(PATIENCE, present.changed())
            .await
            .unwrap()
            .unwrap();
        let renewed = Arc::clone(&present.borrow_and_update());
        let now = Clock::system().wall();
        assert!(
            before.not_after >= now,
            "there was no valid certificate at {now}"
        );
        assert!(renewed.facts().not_after > before.not_after);
        assert_ne!(renewed.facts().serial, before.serial);
        before = renewed.facts().clone();
    }
    let on_disk = comber_agent::identity::load(dir.path()).unwrap();
    assert_eq!(on_disk.facts(), &before);
    assert_ne!(on_disk.key().to_pem(), first.key().to_pem());
    task.abort();
}

#[tokio::test]
async fn a_controller_that_is_down_at_the_time_is_asked_again() {
    let controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let first = controller
        .shared
        .ca
        .identity("web-1", SignedDuration::from_secs(20));
    let store = enrolled(dir.path(), &controller.url(), &first);
    // Its time has come already, by a clock that is most of the life ahead.
    let (clock, _hand) = Clock::manual(first.facts().not_after - SignedDuration::from_secs(2));
    let shutdown = Shutdown::new();
    let renewal = Renewal {
        clock,
        ..renewal(&controller, &store)
    };
    let stopped = controller.stop().await;
    let mut present = store.subscribe();
    let task = task::spawn("renewal", &shutdown, renewal.run());
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(stopped.shared.renewals.load(Ordering::SeqCst), 0);
    let controller = stopped.start().await;
    tokio::time::timeout(PATIENCE, present.changed())
        .await
        .unwrap()
        .unwrap();
    assert!(controller.shared.renewals.load(Ordering::SeqCst) >= 1);
    task.abort();
}
