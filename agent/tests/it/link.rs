//! The stream: whole states first and after every break, only the newest of many, nothing from bad messages.

use comber_model::{Generation, assignment::Desired, wire::desired_to_wire};
use comber_proto::agent::v1::{Assignment, DesiredState, LinkResponse};
use jiff::SignedDuration;

use crate::{
    controller::TestController,
    support::{Linked, facts, status},
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn desired(generation: u64) -> DesiredState {
    let desired = Desired {
        generation: Generation(generation),
        ..Desired::default()
    };
    desired_to_wire([9; 16], &desired)
}

fn generation_is(wanted: u64) -> impl Fn(&comber_agent::link::LinkView) -> bool {
    move |view| {
        let desired = view.desired.as_ref();
        desired.is_some_and(|(_, desired)| desired.generation == Generation(wanted))
    }
}

#[tokio::test]
async fn says_everything_on_connect_and_again_after_a_restart_of_the_controller() {
    let controller = TestController::start().await;
    let identity = controller.shared.ca.identity("web-1", HOUR);
    let mut linked = Linked::start(&controller.url(), &identity);
    let first = controller.heard("the first state", 0, |_| true).await;
    assert_eq!((first.generation, first.boot_id.as_str()), (1, "boot-1"));
    controller.desire(desired(5));
    linked.seen("generation 5", generation_is(5)).await;

    let before = controller.received().len();
    let stopped = controller.stop().await;
    linked.seen("the break", |view| !view.connected).await;
    // What happens meanwhile is part of the first state afterwards.
    linked.status.send_replace(status(5));
    let controller = stopped.start().await;
    let again = controller.heard("the state again", before, |_| true).await;
    assert_eq!(again.generation, 5);
    let view = linked.seen("the stream again", |view| view.connected).await;
    assert_eq!(view.desired.unwrap().1.generation, Generation(5));
    linked.stop().await;
}

#[tokio::test]
async fn of_many_changes_the_last_always_arrives_and_not_every_one_is_sent() {
    let controller = TestController::start().await;
    let identity = controller.shared.ca.identity("web-1", HOUR);
    let linked = Linked::start(&controller.url(), &identity);
    controller.heard("the first state", 0, |_| true).await;
    for generation in 2..=1000 {
        linked.status.send_replace(status(generation));
        if generation % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    controller
        .heard("the last", 0, |state| state.generation == 1000)
        .await;
    let heard: Vec<u64> = controller
        .received()
        .iter()
        .map(|state| state.generation)
        .collect();
    assert!(
        heard.len() < 100,
        "{} states were sent for 1000 changes",
        heard.len()
    );
    assert!(heard.is_sorted(), "{heard:?}");
    linked.stop().await;
}

#[tokio::test]
async fn a_bad_message_is_refused_whole_and_the_stream_stays() {
    let controller = TestController::start().await;
    let identity = controller.shared.ca.identity("web-1", HOUR);
    let mut linked = Linked::start(&controller.url(), &identity);
    controller.desire(desired(3));
    linked.seen("generation 3", generation_is(3)).await;
    let bad = [
        LinkResponse { desired: None },
        LinkResponse {
            desired: Some(DesiredState {
                epoch: vec![1; 15],
                ..desired(4)
            }),
        },
        LinkResponse {
            desired: Some(DesiredState {
                assignment: Some(Assignment::default()),
                ..desired(4)
            }),
        },
        LinkResponse {
            desired: Some(DesiredState {
                assignment: Some(Assignment {
                    release: "../../etc@1".into(),
                    rollout: "r1".into(),
                    attempt: 1,
                    ..Assignment::default()
                }),
                ..desired(4)
            }),
        },
    ];
    for message in bad {
        controller.say(message);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    controller.desire(desired(6));
    let view = linked.seen("generation 6", generation_is(6)).await;
    assert_eq!(view.received, 2, "a bad message reached the driver");
    assert_eq!(controller.streams(), 1, "the stream was given up");
    linked.stop().await;
}

#[tokio::test]
async fn a_message_beyond_the_bound_ends_the_stream_and_changes_nothing() {
    let controller = TestController::start().await;
    let identity = controller.shared.ca.identity("web-1", HOUR);
    let mut linked = Linked::start(&controller.url(), &identity);
    controller.desire(desired(3));
    linked.seen("generation 3", generation_is(3)).await;
    controller.say(LinkResponse {
        desired: Some(DesiredState {
            epoch: vec![1; 1 << 20],
            ..desired(4)
        }),
    });
    linked.seen("the break", |view| !view.connected).await;
    assert!(generation_is(3)(&linked.view.borrow()));
    controller.desire(desired(5));
    linked.seen("generation 5", generation_is(5)).await;
    linked.stop().await;
}

#[tokio::test]
async fn facts_are_reported_once_and_again_only_when_they_change() {
    let controller = TestController::start().await;
    let identity = controller.shared.ca.identity("web-1", HOUR);
    controller.desire(desired(1));
    let linked = Linked::start(&controller.url(), &identity);
    assert_eq!(controller.facts(1).await[0].hostname, "one");
    linked.facts.send_replace(Some(facts("one")));
    linked.facts.send_replace(Some(facts("two")));
    let reported = controller.facts(2).await;
    assert_eq!(reported[1].hostname, "two");

    // A restart of the same controller has lost nothing.
    let before = controller.received().len();
    let controller = controller.stop().await.start().await;
    controller.heard("the state again", before, |_| true).await;
    controller.desire(desired(2));
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(controller.facts_so_far(), 2);

    // Another epoch is another database, which has not seen them.
    let restored = DesiredState {
        epoch: vec![8; 16],
        ..desired(2)
    };
    controller.desire(restored);
    assert_eq!(controller.facts(3).await[2].hostname, "two");
    linked.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_not_presented_and_a_new_enrolment_is_found() {
    let controller = TestController::start().await;
    let old = controller
        .shared
        .ca
        .identity("web-1", SignedDuration::from_secs(-5));
    let linked = Linked::start(&controller.url(), &old);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(controller.streams(), 0);
    let explained = comber_agent::link::expired(&old, &comber_runtime::clock::Clock::system());
    assert!(explained.unwrap().contains("comber-agent enroll"));
    let new = controller.shared.ca.identity("web-1", HOUR);
    comber_agent::identity::save_enrolled(linked.dir.path(), &controller.url(), &new).unwrap();
    controller.heard("the first state", 0, |_| true).await;
    assert_eq!(linked.store.present().facts(), new.facts());
    linked.stop().await;
}

#[tokio::test]
async fn the_last_state_is_sent_before_the_agent_ends() {
    let controller = TestController::start().await;
    let identity = controller.shared.ca.identity("web-1", HOUR);
    let mut linked = Linked::start(&controller.url(), &identity);
    linked.seen("the stream", |view| view.connected).await;
    linked.status.send_replace(status(77));
    linked.stop().await;
    controller
        .heard("the last state", 0, |state| state.generation == 77)
        .await;
}
