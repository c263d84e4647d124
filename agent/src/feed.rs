//! From what the link shows to what the machine is told.
//!
//! The link shows only the newest, so that it never waits; whoever reads late reads less. Invariant: the events told
//! are in an order that could have happened: nothing is desired by a controller that is not connected.

use comber_machine::Epoch;
use tokio::sync::{mpsc, watch};

use crate::{driver::FromLink, link::LinkView};

/// Tells the driver of every change until either side ends.
pub async fn run(mut view: watch::Receiver<LinkView>, events: mpsc::Sender<FromLink>) {
    let mut known = LinkView::default();
    loop {
        let present = view.borrow_and_update().clone();
        for event in news(&known, &present) {
            if events.send(event).await.is_err() {
                return;
            }
        }
        known = present;
        if view.changed().await.is_err() {
            return;
        }
    }
}

fn news(known: &LinkView, present: &LinkView) -> Vec<FromLink> {
    let desired = present
        .desired
        .clone()
        .filter(|_| present.received != known.received);
    let was_up = known.connected || present.connected || desired.is_some();
    let mut events = Vec::new();
    if was_up && !known.connected {
        events.push(FromLink::Connected);
    }
    if let Some((epoch, desired)) = desired {
        let epoch = Epoch(epoch);
        events.push(FromLink::Desired { epoch, desired });
    }
    if was_up && !present.connected {
        events.push(FromLink::Disconnected);
    }
    events
}

#[cfg(test)]
mod tests {
    use comber_model::assignment::Desired;

    use super::*;

    fn view(connected: bool, received: u64) -> LinkView {
        LinkView {
            connected,
            opened: 0,
            received,
            desired: (received > 0).then(|| ([1; 16], Desired::default())),
        }
    }

    fn told(known: &LinkView, present: &LinkView) -> String {
        let letter = |event: &FromLink| match event {
            FromLink::Connected => 'c',
            FromLink::Desired { .. } => 'd',
            FromLink::Disconnected => '-',
        };
        news(known, present).iter().map(letter).collect()
    }

    #[test]
    fn every_pair_of_views_is_told_in_an_order_that_could_have_happened() {
        let cases = [
            (view(false, 0), view(false, 0), ""),
            (view(false, 0), view(true, 0), "c"),
            (view(false, 0), view(true, 1), "cd"),
            (view(true, 1), view(true, 1), ""),
            (view(true, 1), view(true, 2), "d"),
            (view(true, 1), view(false, 1), "-"),
            (view(true, 1), view(false, 2), "d-"),
            (view(false, 1), view(false, 2), "cd-"),
        ];
        for (known, present, expected) in cases {
            assert_eq!(told(&known, &present), expected, "{known:?} {present:?}");
        }
    }

    #[tokio::test]
    async fn a_slow_driver_is_told_the_newest() {
        let shown = watch::Sender::new(view(true, 1));
        let (events, mut driver) = mpsc::channel(1);
        let feeding = run(shown.subscribe(), events);
        let test = async {
            for received in 2..=50 {
                shown.send_replace(view(true, received));
                tokio::task::yield_now().await;
            }
            drop(shown);
            let mut told = 0;
            while driver.recv().await.is_some() {
                told += 1;
            }
            told
        };
        let ((), told) = tokio::join!(feeding, test);
        assert!(told <= 4, "{told} events were told for 50 views");
    }
}
