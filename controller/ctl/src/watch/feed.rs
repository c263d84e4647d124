//! The two streams of a watch as one.
//!
//! Touches the network. Invariant: cancelling `next` loses nothing.

use comber_proto::event::v1::{Event, WatchEventsRequest, WatchEventsResponse};
use comber_proto::rollout::v1::{Rollout, WatchRolloutRequest, WatchRolloutResponse};
use tonic::{Status, Streaming};

use crate::client::Client;

/// Both streams of one connection.
pub(super) struct Feed {
    rollouts: Streaming<WatchRolloutResponse>,
    events: Streaming<WatchEventsResponse>,
}

/// What a stream brought.
pub(super) enum News {
    /// The rollout as it is now.
    Rollout(Box<Rollout>),
    /// Something happened.
    Event(Box<Event>),
    /// Time went by.
    Nothing,
}

impl Feed {
    /// Opens both; events go on after number `after`, or begin with the `last` so many where nothing was seen yet.
    pub(super) async fn open(
        client: &Client,
        id: &str,
        after: u64,
        last: u32,
    ) -> Result<Self, Status> {
        let request = WatchRolloutRequest { id: id.to_owned() };
        let rollouts = client.rollouts().watch_rollout(request).await?.into_inner();
        let mut request = WatchEventsRequest {
            after,
            rollout: id.to_owned(),
            host: String::new(),
            follow: true,
            last: if after == 0 { last } else { 0 },
        };
        let events = match client.events().watch_events(request.clone()).await {
            // What was kept has moved on beyond what was seen: a gap in the log of events is no reason to end.
            Err(status) if status.code() == tonic::Code::OutOfRange => {
                (request.after, request.last) = (0, last);
                client.events().watch_events(request).await?
            }
            answer => answer?,
        };
        Ok(Self {
            rollouts,
            events: events.into_inner(),
        })
    }

    /// The events after `after` that are there now.
    pub(super) async fn rest(
        client: &Client,
        id: &str,
        after: u64,
    ) -> Result<Streaming<WatchEventsResponse>, Status> {
        let request = WatchEventsRequest {
            after,
            rollout: id.to_owned(),
            ..WatchEventsRequest::default()
        };
        Ok(client.events().watch_events(request).await?.into_inner())
    }

    /// What comes next. A stream that ends in order counts as a lost connection: neither ends by itself while the
    /// rollout is not over, so the controller is stopping.
    pub(super) async fn next(&mut self) -> Result<News, Status> {
        let ended = || Status::unavailable("the controller ended the stream");
        // Biased, so that the events that led to a state are told before it. Both arms are cancel-safe.
        tokio::select! {
            biased;
            message = self.events.message() => {
                let event = message?.ok_or_else(ended)?.event;
                Ok(event.map_or(News::Nothing, |event| News::Event(Box::new(event))))
            }
            message = self.rollouts.message() => {
                let rollout = message?.ok_or_else(ended)?.rollout;
                Ok(rollout.map_or(News::Nothing, |rollout| News::Rollout(Box::new(rollout))))
            }
        }
    }
}
