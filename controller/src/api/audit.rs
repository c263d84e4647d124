//! The audit log, as it is kept and as it grows.

use std::collections::VecDeque;
use std::pin::Pin;

use comber_model::audit::{Entry, Sealed};
use comber_proto::audit::v1 as wire;
use comber_proto::audit::v1::audit_service_server::AuditService;
use comber_runtime::shutdown::Shutdown;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::Parts;
use crate::core::Core;

/// Entries read at once.
const PAGE: usize = 500;

type Answers = Pin<Box<dyn Stream<Item = Result<wire::WatchAuditResponse, Status>> + Send>>;

/// The service.
#[derive(Debug)]
pub(super) struct Audit {
    core: Core,
    shutdown: Shutdown,
}

impl Audit {
    /// The log of this core.
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            core: parts.core.clone(),
            shutdown: parts.shutdown.clone(),
        }
    }
}

#[tonic::async_trait]
impl AuditService for Audit {
    type WatchAuditStream = Answers;

    async fn watch_audit(
        &self,
        request: Request<wire::WatchAuditRequest>,
    ) -> Result<Response<Answers>, Status> {
        let request = request.into_inner();
        let end = self.core.read().await.audited();
        let last = match request.last {
            0 => 0,
            last => end.saturating_sub(u64::from(last)),
        };
        let reader = Reader {
            changed: self.core.changed(),
            core: self.core.clone(),
            shutdown: self.shutdown.clone(),
            after: request.after.max(last),
            ready: VecDeque::new(),
            asked: request,
        };
        let stream = stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(entry)) => {
                    let response = wire::WatchAuditResponse { entry: Some(entry) };
                    Some((Ok(response), Some(reader)))
                }
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// A place in the log, which moves on.
struct Reader {
    core: Core,
    changed: watch::Receiver<u64>,
    shutdown: Shutdown,
    after: u64,
    ready: VecDeque<(u64, Sealed)>,
    asked: wire::WatchAuditRequest,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<wire::Entry>, Status> {
        loop {
            if let Some((number, sealed)) = self.ready.pop_front() {
                if wants(&self.asked, &sealed) {
                    return Ok(Some(wire::Entry {
                        number,
                        body: sealed.body,
                        hash: sealed.hash.0.to_vec(),
                    }));
                }
                continue;
            }
            // Looked at before reading, so that what comes meanwhile is not missed.
            self.changed.mark_unchanged();
            // The lock is held while a batch is written, so what is read here is not the half of one.
            drop(self.core.read().await);
            let page = self.core.audit(self.after, PAGE).await?;
            if let Some((newest, _)) = page.last() {
                self.after = *newest;
                self.ready.extend(page);
                continue;
            }
            if !self.asked.follow {
                return Ok(None);
            }
            // Both arms may be dropped: the watch remembers that it was not looked at.
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
}

fn wants(asked: &wire::WatchAuditRequest, sealed: &Sealed) -> bool {
    if asked.actor.is_empty() && asked.object.is_empty() && !asked.refused {
        return true;
    }
    let Ok(entry) = serde_json::from_str::<Entry>(&sealed.body) else {
        return true;
    };
    let actor = asked.actor.is_empty() || entry.actor.name == asked.actor;
    let object = asked.object.is_empty() || entry.object.as_deref() == Some(&*asked.object);
    actor && object && (!asked.refused || entry.refused.is_some())
}
