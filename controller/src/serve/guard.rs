//! Cuts an operator's calls and streams off when it loses the right to them.
//!
//! Wraps the body of every answer to an operator: no service has to think of it. Invariant: a body that was cut off
//! ends with a status that says why, and gives nothing after it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::core::{Authority, Core};

/// Ends by time alone are looked for so often: well within the second in which they must show.
const TICK: Duration = Duration::from_millis(500);

type Lost = Pin<Box<dyn Future<Output = Status> + Send>>;

/// Resolves when the operator may no longer do what it was let in for.
pub(super) fn lost(core: Core, authority: Authority) -> Lost {
    Box::pin(async move {
        let mut rights = core.rights();
        loop {
            // Looked at before the rights are read, so that what changes meanwhile is not missed.
            rights.mark_unchanged();
            let ends_by_itself = {
                let world = core.read().await;
                if let Err(why) = world.still(&authority, world.now()) {
                    return why.into();
                }
                world.ends_by_itself(&authority)
            };
            let tick = async {
                if ends_by_itself {
                    tokio::time::sleep(TICK).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            // Both arms may be dropped: the watch remembers that it was not looked at.
            tokio::select! {
                changed = rights.changed() => {
                    if changed.is_err() {
                        return Status::unavailable("the controller is stopping; connect again");
                    }
                }
                () = tick => {}
            }
        }
    })
}

/// A body that ends where the right to it does.
pub(super) fn guarded(body: Body, lost: Lost) -> Body {
    Body::new(Guarded {
        body,
        lost,
        over: false,
    })
}

struct Guarded {
    body: Body,
    lost: Lost,
    over: bool,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = self.lost.as_mut().poll(context) {
            self.over = true;
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(
                status
                    .add_header(&mut trailers)
                    .map(|()| Frame::trailers(trailers)),
            ));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
