//! Events, as they are stored and as they come.

use std::collections::VecDeque;
use std::pin::Pin;

use comber_model::event::Event;
use comber_model::{HostId, RolloutId};
use comber_proto::event::v1::event_service_server::EventService;
use comber_proto::event::v1::{WatchEventsRequest, WatchEventsResponse};
use comber_runtime::shutdown::Shutdown;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{status, view};
use crate::core::Core;

/// Events read at once.
const PAGE: usize = 500;
/// Most events that `last` can ask for.
const LAST_MAX: u32 = 10_000;

/// The service.
#[derive(Debug)]
pub(super) struct Events {
    core: Core,
    shutdown: Shutdown,
}

impl Events {
    /// Events of this core.
    pub(super) fn new(core: Core, shutdown: Shutdown) -> Self {
        Self { core, shutdown }
    }
}

#[tonic::async_trait]
impl EventService for Events {
    type WatchEventsStream =
        Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let filter = Filter::parse(&request)?;
        let mut follower = Follower {
            changed: self.core.changed(),
            core: self.core.clone(),
            shutdown: self.shutdown.clone(),
            filter,
            after: request.after,
            ready: VecDeque::new(),
            follow: request.follow,
        };
        if request.last > 0 {
            follower
                .skip_to_last(request.last.min(LAST_MAX) as usize)
                .await?;
        } else {
            // An answer that the stream cannot begin is better told at once.
            follower.fill().await?;
        }
        let stream = stream::unfold(Some(follower), |follower| async {
            let mut follower = follower?;
            match follower.next().await {
                Ok(Some(event)) => {
                    let response = WatchEventsResponse { event: Some(event) };
                    Some((Ok(response), Some(follower)))
                }
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Which events are asked for.
#[derive(Debug, Clone)]
struct Filter {
    rollout: Option<RolloutId>,
    host: Option<HostId>,
}

impl Filter {
    fn parse(request: &WatchEventsRequest) -> Result<Self, Status> {
        let rollout = match request.rollout.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|error| status::invalid(&error))?),
        };
        let host = match request.host.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|error| status::invalid(&error))?),
        };
        Ok(Self { rollout, host })
    }

    fn wants_all(&self) -> bool {
        self.rollout.is_none() && self.host.is_none()
    }

    fn wants(&self, event: &Event) -> bool {
        let rollout = self.rollout.is_none_or(|id| event.rollout == Some(id));
        rollout
            && self
                .host
                .as_ref()
                .is_none_or(|host| event.host.as_ref() == Some(host))
    }
}

/// A place among the events, which moves on.
struct Follower {
    core: Core,
    changed: watch::Receiver<u64>,
    shutdown: Shutdown,
    filter: Filter,
    after: u64,
    ready: VecDeque<(u64, Event)>,
    follow: bool,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<comber_proto::event::v1::Event>, Status> {
        loop {
            if let Some((number, event)) = self.ready.pop_front() {
                return Ok(Some(view::event(number, &event)));
            }
            if self.fill().await? {
                continue;
            }
            if !self.follow {
                return Ok(None);
            }
            // Both arms may be dropped: the watch remembers that it was not looked at, and its sender goes with the core.
            let goes_on = tokio::select! {
                changed = self.changed.changed() => changed.is_ok(),
                _ = self.shutdown.wait() => false,
            };
            if !goes_on {
                return Err(Status::unavailable(
                    "the controller is stopping; connect again",
                ));
            }
        }
    }

    /// Reads the next page; false where there is nothing newer.
    async fn fill(&mut self) -> Result<bool, Status> {
        // Looked at before reading, so that what comes meanwhile is not missed.
        self.changed.mark_unchanged();
        let page = self.core.events(self.after, PAGE).await?;
        let Some((newest, _)) = page.last() else {
            return Ok(false);
        };
        self.after = *newest;
        self.ready.extend(
            page.into_iter()
                .filter(|(_, event)| self.filter.wants(event)),
        );
        Ok(true)
    }

    async fn skip_to_last(&mut self, last: usize) -> Result<(), Status> {
        if self.filter.wants_all() {
            // All that are older would be read for nothing. Numbers have no gaps.
            let newest = self.core.read().await.newest_event();
            self.after = self.after.max(newest.saturating_sub(last as u64));
        }
        while self.fill().await? {
            let surplus = self.ready.len().saturating_sub(last);
            self.ready.drain(..surplus);
        }
        Ok(())
    }
}
