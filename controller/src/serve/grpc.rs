//! gRPC over one HTTP/2 connection.

use std::convert::Infallible;
use std::sync::Arc;

use comber_runtime::task::TaskExecutor;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service as _;

use super::{Server, Stream};
use crate::api::access::{self, Peer};

/// Bytes that a peer may send on one stream, and on the connection, before they are read: bounds what a hostile peer
/// can make us hold. Uploads reach a disk's speed with it.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Calls at once on one connection: an agent needs two, a busy operator a few.
const STREAMS: u32 = 64;
/// Longest list of headers in bytes.
const HEADERS: u32 = 16 << 10;

/// Serves one connection to its end.
pub(super) async fn converse(server: &Arc<Server>, stream: Stream, peer: Peer) {
    let mut builder = http2::Builder::new(TaskExecutor::new("call", &server.shutdown));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .keep_alive_interval(server.limits.keepalive)
        .keep_alive_timeout(server.limits.keepalive_timeout);
    let service = service_fn(|request| {
        // Boxed, so that its room is free again while the response streams, for a host's whole stay.
        Box::pin(call(Arc::clone(server), peer.clone(), request))
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Both arms may be dropped: the connection is polled on below.
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = server.shutdown.wait() => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    if let Err(error) = ended {
        tracing::debug!(address = %peer.address, %error, "connection ended");
    }
}

/// Refuses a certificate that ended since the handshake; the sweep is about to end the connection.
fn current(server: &Server, peer: &Peer) -> Result<(), Status> {
    let now = server.clock.wall();
    match &peer.certificate {
        Some(certificate) if certificate.is_expired(now) => Err(Status::unauthenticated(format!(
            "the certificate ended at {}; connect again with its successor",
            certificate.not_after
        ))),
        Some(_) | None => Ok(()),
    }
}

async fn call(
    server: Arc<Server>,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let allowed = access::check(request.uri().path(), &peer).and_then(|()| current(&server, &peer));
    // A stranger learns nothing from the world, and waits for nothing.
    let admitted = match (&allowed, &peer.identity) {
        (Ok(()), Some(_)) => access::admit(&*server.core.read().await, &peer).map_err(Into::into),
        (Ok(()), None) | (Err(_), _) => allowed,
    };
    if let Err(status) = admitted {
        return Ok(status.into_http());
    }
    request.extensions_mut().insert(peer);
    server.routes.clone().call(request.map(Body::new)).await
}
