//! Bytes by HTTP/1.1: `GET` and `HEAD /v1/artifacts/<sha256>` with a single range, and `/v1/metadata/<file>`, what the
//! publisher signed.
//!
//! A host reads only what its own assignment names; operators read everything. A body is read from disk in pieces as the
//! peer takes them, so a slow reader holds one piece.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use comber_model::{Action, Digest};
use comber_runtime::peer::PeerIdentity;
use comber_runtime::range::{Wanted, wanted};
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{Server, Stream};
use crate::api::access::{self, Peer};
use crate::core::World;

const PREFIX: &str = "/v1/artifacts/";
const METADATA: &str = "/v1/metadata/";
/// Bytes read at once: large enough that reading costs little beside encrypting.
const PIECE: usize = 256 << 10;
/// A request comes at once; a slower peer holds a connection for nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Serves one connection to its end.
pub(super) async fn converse(server: &Arc<Server>, stream: Stream, peer: Peer) {
    let service = service_fn(|request| answer(Arc::clone(server), peer.clone(), request));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(32);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Both arms may be dropped: the connection is polled on below.
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = server.shutdown.wait() => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        // An end by the peer's doing is no error of ours.
        let _ended = connection.await;
    }
}

async fn answer(
    server: Arc<Server>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    Ok(respond(&server, &peer, &request)
        .await
        .unwrap_or_else(|refusal| refusal))
}

async fn respond(
    server: &Server,
    peer: &Peer,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Response<Body>> {
    if let Some(certificate) = &peer.certificate
        && certificate.is_expired(server.clock.wall())
    {
        return Err(text(StatusCode::FORBIDDEN, "the certificate is over\n"));
    }
    let path = request.uri().path();
    if let Some(name) = path.strip_prefix(METADATA) {
        must_get(request)?;
        return metadata(&*server.core.read().await, peer, name, request.method());
    }
    let digest = path
        .strip_prefix(PREFIX)
        .and_then(|text| text.parse::<Digest>().ok());
    let digest = digest.ok_or_else(|| {
        text(
            StatusCode::NOT_FOUND,
            "artifacts are at /v1/artifacts/<sha256>, metadata at /v1/metadata/<file>; all else is gRPC\n",
        )
    })?;
    must_get(request)?;
    may_read(&*server.core.read().await, peer, digest)?;
    let missing = || text(StatusCode::NOT_FOUND, "there is no such artifact\n");
    let path = server.artifacts.path(digest).ok_or_else(missing)?;
    let failed = |error: std::io::Error| {
        tracing::error!(%digest, %error, "an artifact cannot be read");
        text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the artifact cannot be read\n",
        )
    };
    let mut file = File::open(path).await.map_err(failed)?;
    let length = file.metadata().await.map_err(failed)?.len();
    let etag = format!("\"{digest}\"");
    let range = match wanted(request.headers(), &etag, length) {
        Wanted::All => None,
        Wanted::Part(range) => Some(range),
        Wanted::Nothing => return Err(unsatisfiable(length)),
    };
    let part = range.clone().unwrap_or(0..length);
    file.seek(std::io::SeekFrom::Start(part.start))
        .await
        .map_err(failed)?;
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, "application/zstd")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, etag)
        .header(header::CONTENT_LENGTH, part.end - part.start);
    if range.is_some() {
        let told = format!("bytes {}-{}/{length}", part.start, part.end - 1);
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, told);
    }
    let body = if request.method() == Method::HEAD {
        empty()
    } else {
        pieces(file, part.end - part.start, server.metrics.clone())
    };
    response
        .body(body)
        .map_err(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "\n"))
}

#[expect(
    clippy::result_large_err,
    reason = "the error is the answer that is sent"
)]
fn must_get(request: &Request<Incoming>) -> Result<(), Response<Body>> {
    if request.method() == Method::GET || request.method() == Method::HEAD {
        return Ok(());
    }
    let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    let allow = HeaderValue::from_static("GET, HEAD");
    refusal.headers_mut().insert(header::ALLOW, allow);
    Err(refusal)
}

/// A file of the publisher's metadata. It is for everybody who was enrolled; strangers learn nothing.
#[expect(
    clippy::result_large_err,
    reason = "the error is the answer that is sent"
)]
fn metadata(
    world: &World,
    peer: &Peer,
    name: &str,
    method: &Method,
) -> Result<Response<Body>, Response<Body>> {
    access::admit(world, peer)
        .map_err(|error| text(StatusCode::FORBIDDEN, format!("{error}\n")))?;
    if peer.identity.is_none() {
        return Err(text(
            StatusCode::UNAUTHORIZED,
            "a certificate is needed; get one with comber-agent enroll, or comber init\n",
        ));
    }
    let file = world.trust.as_deref().and_then(|trust| trust.file(name));
    let missing = || text(StatusCode::NOT_FOUND, "there is no such metadata\n");
    let file = file.ok_or_else(missing)?.to_owned();
    let length = file.len();
    let mut response = if *method == Method::HEAD {
        Response::new(empty())
    } else {
        text(StatusCode::OK, file)
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CONTENT_LENGTH, length.into());
    // What is newest changes at any time, and nobody in between decides for how long it is.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Operators read everything, a host what its own assignment names.
#[expect(
    clippy::result_large_err,
    reason = "the error is the answer that is sent"
)]
fn may_read(world: &World, peer: &Peer, digest: Digest) -> Result<(), Response<Body>> {
    access::admit(world, peer)
        .map_err(|error| text(StatusCode::FORBIDDEN, format!("{error}\n")))?;
    let named = |name: &str| {
        let host = name.parse().ok().and_then(|id| world.active_host(&id));
        let assignment = host.and_then(|view| view.desired.assignment.as_ref());
        assignment.is_some_and(|assignment| match &assignment.action {
            Action::Install { artifact } => artifact.digest == digest,
            Action::Remove => false,
        })
    };
    match &peer.identity {
        Some(PeerIdentity::Operator(_)) => Ok(()),
        Some(PeerIdentity::Host(name)) if named(name) => Ok(()),
        Some(PeerIdentity::Host(_)) => Err(text(
            StatusCode::FORBIDDEN,
            "a host reads only what its assignment names\n",
        )),
        None => Err(text(
            StatusCode::UNAUTHORIZED,
            "a certificate is needed; get one with comber-agent enroll, or comber init\n",
        )),
    }
}

/// The next `left` bytes of a file, as the peer takes them.
fn pieces(file: File, left: u64, metrics: crate::metrics::ServeMetrics) -> Body {
    let frames = stream::unfold(
        (file, left, metrics),
        |(mut file, left, metrics)| async move {
            if left == 0 {
                return None;
            }
            let size = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            let mut piece = BytesMut::with_capacity(size);
            let read = (&mut file).take(size as u64).read_buf(&mut piece).await;
            let read = match read {
                Ok(0) => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
                read => read,
            };
            match read {
                Ok(read) => {
                    metrics.bytes.inc_by(read as u64);
                    let rest = left - read as u64;
                    Some((Ok(Frame::data(piece.freeze())), (file, rest, metrics)))
                }
                Err(error) => Some((Err(error), (file, 0, metrics))),
            }
        },
    );
    StreamBody::new(frames).boxed_unsync()
}

fn unsatisfiable(length: u64) -> Response<Body> {
    let mut response = text(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "the range is not there\n",
    );
    if let Ok(value) = format!("bytes */{length}").parse() {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}

fn empty() -> Body {
    Full::default()
        .map_err(|never| match never {})
        .boxed_unsync()
}
