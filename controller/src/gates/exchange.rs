//! One request to a source: bounded in time and size, on a connection of its own, without redirects.
//!
//! A source is configured by the controller's administrator, yet what it answers is hostile: it may be slow, huge or
//! no HTTP at all, and none of that may hold the controller or its memory.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Source;

/// Longest answer that is read: one number or verdict, with room for labels and reasons.
pub(super) const ANSWER_MAX: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The URL of the configuration.
    #[error("its url cannot be asked: {0}")]
    Url(String),
    /// Name lookup, TCP or TLS.
    #[error("cannot connect to {address}: {why}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system or TLS said.
        why: String,
    },
    /// Not all of it came in time.
    #[error("no answer within {0:?}")]
    Slow(std::time::Duration),
    /// Longer than is read.
    #[error("its answer is longer than {ANSWER_MAX} bytes")]
    Long,
    /// The connection broke, or it is no HTTP.
    #[error("it does not speak HTTP: {0}")]
    Broken(String),
}

/// Posts a body below the source's URL, and reads the whole answer.
pub(super) async fn post(
    source: &Source,
    path: &str,
    (kind, body): (&'static str, Vec<u8>),
) -> Result<(StatusCode, Bytes), AskError> {
    let whole = async {
        let request = request(source, path, (kind, body))?;
        let stream = connect(source).await?;
        exchange(stream, request).await
    };
    match tokio::time::timeout(source.timeout, whole).await {
        Ok(answered) => answered,
        Err(_) => Err(AskError::Slow(source.timeout)),
    }
}

fn request(
    source: &Source,
    path: &str,
    (kind, body): (&'static str, Vec<u8>),
) -> Result<Request<Full<Bytes>>, AskError> {
    let bad = || AskError::Url(source.url.to_string());
    let authority = source.url.authority().ok_or_else(bad)?;
    let prefix = source.url.path().trim_end_matches('/');
    let place = format!("{prefix}{path}");
    let place = if place.is_empty() {
        "/"
    } else {
        place.as_str()
    };
    let query = source.url.query().map(|query| format!("?{query}"));
    let mut request = Request::post(format!("{place}{}", query.unwrap_or_default()))
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, HeaderValue::from_static(kind))
        .header(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(authorization) = &source.authorization {
        request = request.header(header::AUTHORIZATION, authorization.clone());
    }
    request.body(Full::from(body)).map_err(|_| bad())
}

/// A stream of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(source: &Source) -> Result<Box<dyn Stream>, AskError> {
    let bad = || AskError::Url(source.url.to_string());
    let host = source.url.host().ok_or_else(bad)?;
    // An IPv6 address stands in brackets in a URL and without them everywhere else.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let default = if source.tls.is_some() { 443 } else { 80 };
    let port = source.url.port_u16().unwrap_or(default);
    let failed = |why: std::io::Error| AskError::Connect {
        address: format!("{host}:{port}"),
        why: why.to_string(),
    };
    let stream = TcpStream::connect((bare, port)).await.map_err(failed)?;
    let Some(tls) = &source.tls else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| bad())?;
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(name, stream).await.map_err(failed)?;
    Ok(Box::new(stream))
}

async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), AskError> {
    let broken = |error: &(dyn Error + 'static)| {
        AskError::Broken(comber_runtime::telemetry::error_chain(error))
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let work = async {
        let sent = sender.send_request(request).await;
        let answer = sent.map_err(|error| broken(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX);
        let body = body.collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                AskError::Long
            } else {
                broken(&*error)
            }
        })?;
        Ok((status, body.to_bytes()))
    };
    // The connection does its work while the answer is waited for; it may end first, with the answer read already.
    match select(pin!(work), pin!(connection)).await {
        Either::Left((answered, _)) => answered,
        Either::Right((_, work)) => work.await,
    }
}
