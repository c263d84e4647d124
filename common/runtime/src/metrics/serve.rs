//! The small plain HTTP/1.1 listener that monitoring scrapes: `/metrics` and `/healthz`.
//!
//! It serves no secrets and changes nothing, so it has no TLS; it should listen on loopback or a monitoring network.
//! Invariant: however it is used, it holds at most [`MAX_CONNECTIONS`] connections, each for a bounded time.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Body, Bytes},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{CONTENT_TYPE, encode};
use crate::{shutdown::Shutdown, task};

/// A few scrapers and a load balancer need fewer than ten; more than this is a mistake or an attack.
const MAX_CONNECTIONS: usize = 64;
/// A scraper sends its request at once; a slower one would hold a connection for nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// One connection may serve scrapes for this long; then the client opens another.
const MAX_LIFE: Duration = Duration::from_mins(10);
/// After a failed accept (no more file descriptors) wait, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the token is set; connections that are open then are dropped, a scrape is not worth waiting for.
///
/// `/healthz` answers 200 while the process runs and 503 once it is ending, so that a load balancer leaves it alone.
pub async fn serve(listener: TcpListener, registry: Arc<Registry>, shutdown: Shutdown) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Cancel-safe: a connection that is not yet accepted stays in the kernel's queue.
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            _ = shutdown.wait() => return,
        };
        match accepted {
            Ok((stream, slot)) => {
                let connection = converse(stream, Arc::clone(&registry), shutdown.clone(), slot);
                task::spawn("metrics", &shutdown, connection);
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

async fn converse(
    stream: TcpStream,
    registry: Arc<Registry>,
    shutdown: Shutdown,
    _slot: OwnedSemaphorePermit,
) {
    let service = service_fn(|request| {
        let response = respond(&request, &registry, &shutdown);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Cancel-safe: whichever ends first, the connection is dropped whole.
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "a scraper's connection broke");
        },
        () = tokio::time::sleep(MAX_LIFE) => {}
        _ = shutdown.wait() => {}
    }
}

fn respond<B: Body>(
    request: &Request<B>,
    registry: &Registry,
    shutdown: &Shutdown,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return answer(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "only GET and HEAD\n".into(),
        );
    }
    match request.uri().path() {
        "/metrics" => match encode(registry) {
            Ok(text) => answer(StatusCode::OK, CONTENT_TYPE, text),
            Err(_) => answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain",
                "a metric cannot be written\n".into(),
            ),
        },
        "/healthz" if shutdown.is_set() => answer(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            "stopping\n".into(),
        ),
        "/healthz" => answer(StatusCode::OK, "text/plain", "ok\n".into()),
        _ => answer(
            StatusCode::NOT_FOUND,
            "text/plain",
            "only /metrics and /healthz\n".into(),
        ),
    }
}

fn answer(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{metrics::Metrics, shutdown::Cause};

    async fn ask(address: std::net::SocketAddr, line: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn serves_metrics_and_health_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let served = task::spawn(
            "test",
            &shutdown,
            serve(listener, Metrics::new("test", "0").seal(), shutdown.clone()),
        );
        let scrape = ask(address, "GET /metrics").await;
        assert!(
            scrape.contains(CONTENT_TYPE) && scrape.ends_with("# EOF\n"),
            "{scrape}"
        );
        assert!(
            ask(address, "GET /healthz")
                .await
                .starts_with("HTTP/1.1 200")
        );
        assert!(
            ask(address, "POST /metrics")
                .await
                .starts_with("HTTP/1.1 405")
        );
        assert!(
            ask(address, "GET /etc/passwd")
                .await
                .starts_with("HTTP/1.1 404")
        );
        shutdown.trigger(Cause::Signal);
        served.await.unwrap();
    }

    #[test]
    fn health_fails_while_the_process_ends() {
        let shutdown = Shutdown::new();
        let request = Request::get("/healthz")
            .body(Full::new(Bytes::new()))
            .unwrap();
        assert_eq!(
            respond(&request, &Registry::default(), &shutdown).status(),
            StatusCode::OK
        );
        shutdown.trigger(Cause::Signal);
        assert_eq!(
            respond(&request, &Registry::default(), &shutdown).status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
}
