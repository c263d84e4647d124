//! `FleetLock` v1: hosts without agent (Fedora `CoreOS` with Zincati, for example) ask here before they reboot, and wait as
//! hosts with one do, by the same budgets.
//!
//! A listener of its own, off unless it is configured: the protocol knows no client certificates. It serves two paths,
//! takes at most `BODY_MAX` bytes a request and `CONNECTIONS_MAX` connections, and whoever reaches it can take and
//! give back locks, no more. A lock is durable before it is answered for. Errors are JSON, `{"kind", "value"}`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use comber_model::Invalid;
use comber_model::disruption::{LockGroup, LockId};
use comber_runtime::shutdown::Shutdown;
use comber_runtime::task;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::core::{Core, CoreError, LockAnswer};

/// A request is an id and a group; anything longer is none.
const BODY_MAX: usize = 4 << 10;
/// Hosts ask once a few minutes and are answered at once: a fleet of thousands needs few of these.
const CONNECTIONS_MAX: usize = 256;
/// A whole conversation; a client that takes longer asks again.
const LIFE: Duration = Duration::from_secs(30);
/// After a failed accept (no more file descriptors) wait, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections are served from.
#[derive(Clone)]
pub struct FleetLock {
    core: Core,
    tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for FleetLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetLock").finish_non_exhaustive()
    }
}

impl FleetLock {
    /// Locks of this core; with the settings of the controller's port where the listener speaks TLS.
    pub fn new(core: Core, tls: Option<&ServerConfig>) -> Self {
        let tls = tls.map(|config| {
            let mut config = config.clone();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            TlsAcceptor::from(Arc::new(config))
        });
        Self { core, tls }
    }
}

/// Serves until the process stops. What is asked then is asked again by its client.
pub async fn serve(listener: TcpListener, server: FleetLock, shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Cancel-safe: a connection that is not yet accepted stays in the kernel's queue.
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = shutdown.wait() => return,
        };
        match accepted {
            Ok((stream, place)) => {
                let conversation = converse(server.clone(), stream, place);
                let conversation = async move {
                    let _over = tokio::time::timeout(LIFE, conversation).await;
                };
                task::spawn("fleet lock", &shutdown, conversation);
            }
            Err(error) => {
                tracing::warn!(%error, "the fleet lock listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn converse(server: FleetLock, stream: TcpStream, _place: OwnedSemaphorePermit) {
    let Some(tls) = &server.tls else {
        return talk(&server.core, stream).await;
    };
    match tls.accept(stream).await {
        Ok(stream) => Box::pin(talk(&server.core, stream)).await,
        Err(error) => tracing::debug!(%error, "a fleet lock client's handshake failed"),
    }
}

async fn talk(core: &Core, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request| async {
        let answer = match respond(core, request).await {
            Ok(()) => answer(StatusCode::OK, "{}".to_owned()),
            Err(refusal) => refusal.answer(),
        };
        Ok::<_, Infallible>(answer)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LIFE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a fleet lock client's connection broke");
    }
}

/// Why a request is not granted: a word for programs and a text for people.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    value: String,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        Self {
            status,
            kind,
            value,
        }
    }

    fn bad(kind: &'static str, value: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, value)
    }

    fn answer(self) -> Response<Full<Bytes>> {
        let body = json!({ "kind": self.kind, "value": self.value });
        answer(self.status, body.to_string())
    }
}

impl From<CoreError> for Refusal {
    fn from(error: CoreError) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            error.to_string(),
        )
    }
}

fn answer(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

/// The body of both requests. Unknown fields are passed over, as later versions of the protocol may have them.
#[derive(Debug, Deserialize)]
struct LockRequest {
    client_params: ClientParams,
}

#[derive(Debug, Deserialize)]
struct ClientParams {
    id: String,
    group: String,
}

async fn respond<B>(core: &Core, request: Request<B>) -> Result<(), Refusal>
where
    B: Body<Data = Bytes> + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let wants_lock = match request.uri().path() {
        "/v1/pre-reboot" => true,
        "/v1/steady-state" => false,
        _ => {
            let text = "only /v1/pre-reboot and /v1/steady-state";
            return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_path", text));
        }
    };
    if request.method() != Method::POST {
        let (status, text) = (StatusCode::METHOD_NOT_ALLOWED, "only POST");
        return Err(Refusal::new(status, "wrong_method", text));
    }
    let protocol = request.headers().get("fleet-lock-protocol");
    if protocol.is_none_or(|value| value != "true") {
        let text = "the header fleet-lock-protocol must be true";
        return Err(Refusal::bad("missing_protocol_header", text));
    }
    let (id, group) = parse(request.into_body()).await?;
    if !wants_lock {
        core.release_lock(id, None).await?;
        return Ok(());
    }
    match core.take_lock(id, group).await? {
        LockAnswer::Held => Ok(()),
        LockAnswer::Waits(hold) => Err(Refusal::new(
            StatusCode::CONFLICT,
            "budget_spent",
            hold.to_string(),
        )),
        LockAnswer::NoBudget => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_budget",
            "no budget counts locks; set one with: comber budget set NAME --max 1 --fleet-lock",
        )),
        LockAnswer::TooMany => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_locks",
            "more locks are held than can be kept; give some back with: comber budget unlock ID",
        )),
    }
}

async fn parse<B>(body: B) -> Result<(LockId, LockGroup), Refusal>
where
    B: Body<Data = Bytes> + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let body = Limited::new(body, BODY_MAX).collect().await;
    let body =
        body.map_err(|_| Refusal::bad("invalid_body", "longer than 4 KiB, or broken off"))?;
    let request: LockRequest = serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Refusal::bad("invalid_body", error.to_string()))?;
    let invalid = |error: Invalid| Refusal::bad("invalid_params", error.to_string());
    let ClientParams { id, group } = request.client_params;
    Ok((
        id.parse().map_err(invalid)?,
        group.parse().map_err(invalid)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(body: &str) -> &'static str {
        let body = Full::new(Bytes::from(body.to_owned()));
        parse(body).await.unwrap_err().kind
    }

    #[tokio::test]
    async fn a_client_says_who_it_is_and_nothing_else_is_taken_for_that() {
        let body = r#"{"client_params":{"id":"c988d2509fdf","group":"default"},"later":1}"#;
        let (id, group) = parse(Full::new(Bytes::from(body))).await.unwrap();
        assert_eq!((id.as_str(), group.as_str()), ("c988d2509fdf", "default"));
        assert_eq!(refused("").await, "invalid_body");
        assert_eq!(refused("{}").await, "invalid_body");
        assert_eq!(refused(&" ".repeat(BODY_MAX + 1)).await, "invalid_body");
        let slash = r#"{"client_params":{"id":"../x","group":"default"}}"#;
        assert_eq!(refused(slash).await, "invalid_params");
        let empty = r#"{"client_params":{"id":"x","group":""}}"#;
        assert_eq!(refused(empty).await, "invalid_params");
    }
}
