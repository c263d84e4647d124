//! gRPC over one HTTP/2 connection.

use std::convert::Infallible;
use std::sync::Arc;

use comber_model::audit::Actor;
use comber_runtime::task::TaskExecutor;
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service as _;

use super::{Server, Stream, guard};
use crate::api::access::{self, Peer};
use crate::core::Refusal;

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
    let path = request.uri().path();
    let Some(row) = access::find(path) else {
        let unknown = Status::unimplemented(format!("there is no rpc {path}"));
        return Ok(unknown.into_http());
    };
    if let Err(status) = current(&server, &peer) {
        return Ok(status.into_http());
    }
    let caller = match access::enter(&server.core, row, &peer, request.headers()).await {
        Ok(caller) => Arc::new(caller),
        Err(status) => {
            let actor = access::claimed(&peer, request.headers());
            tell(&server, &peer, row.path, actor, &status);
            return Ok(status.into_http());
        }
    };
    request.headers_mut().remove(header::AUTHORIZATION);
    request.extensions_mut().insert(Arc::clone(&caller));
    let mut routes = server.routes.clone();
    let lost = caller
        .authority()
        .map(|authority| guard::lost(server.core.clone(), authority.clone()));
    let answer = caller.clone().run(routes.call(request.map(Body::new)));
    let answer = async {
        let answer = answer.await;
        if let Some(status) = answer
            .as_ref()
            .ok()
            .and_then(|answer| Status::from_header_map(answer.headers()))
        {
            tell(&server, &peer, row.path, caller.actor(), &status);
        }
        answer
    };
    let Some(mut lost) = lost else {
        return answer.await;
    };
    // The call may be dropped: what it asked of the core is carried out whole or refused there.
    tokio::select! {
        biased;
        answer = answer => answer.map(|answer| answer.map(|body| guard::guarded(body, lost))),
        status = &mut lost => Ok(status.into_http()),
    }
}

/// Has the audit log tell of a call that was refused for who called.
fn tell(server: &Server, peer: &Peer, rpc: &str, actor: Actor, status: &Status) {
    if matches!(
        status.code(),
        Code::PermissionDenied | Code::Unauthenticated
    ) {
        server.core.refused(Refusal {
            actor,
            address: peer.address.ip(),
            rpc: rpc.to_owned(),
            why: status.message().to_owned(),
        });
    }
}
