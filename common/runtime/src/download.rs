//! Bulk bytes: one HTTP/1.1 GET on a fresh TLS connection, whole or from an offset on.
//!
//! The caller verifies what arrives by length and digest; here only the transport is judged. The connection is driven by
//! whoever reads the body, so dropping the [`Download`] ends it and no task stays behind.
//! Invariant: a download that makes no progress for the idle timeout fails.

use std::{future::Future, pin::Pin, sync::Arc, task::Poll, time::Duration};

use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::{
    Response,
    body::{Body, Bytes, Incoming},
    client::conn::http1::{self, Connection},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::{
    channel::{ConnectError, dial},
    tls::ALPN_HTTP1,
};

type Io = TokioIo<TlsStream<TcpStream>>;

/// What to fetch and how long to wait.
#[derive(Clone, Debug)]
pub struct GetRequest {
    /// `https://host:port/path?query`.
    pub url: Uri,
    /// The first byte wanted; what is before it is already here.
    pub offset: u64,
    /// For name lookup, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Longest silence before and between bytes.
    pub idle_timeout: Duration,
}

/// Why bytes did not arrive.
#[derive(Debug, Error)]
pub enum GetError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The request cannot be put into HTTP.
    #[error("{url} cannot be asked for")]
    Request {
        /// As given.
        url: String,
    },
    /// The connection broke or the answer is not HTTP.
    #[error("the connection broke while {step}")]
    Broken {
        /// What was going on.
        step: &'static str,
        /// What hyper said.
        #[source]
        source: hyper::Error,
    },
    /// Nothing came for the idle timeout.
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    /// The server answers something else than bytes.
    #[error("the server answers {status}")]
    Status {
        /// 404: no such artifact; 403: not for this host; 416: the offset is past the end.
        status: StatusCode,
    },
    /// The server sends another part than was asked for: appending it would corrupt the file.
    #[error("bytes from {wanted} on were asked for, the server sends {sent}")]
    Range {
        /// The offset that was asked for.
        wanted: u64,
        /// The `Content-Range` of the answer.
        sent: String,
    },
}

impl GetError {
    /// Whether the same request may succeed later: all but an answer that will stay the same.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retryable(),
            Self::Request { .. } => false,
            Self::Broken { .. } | Self::Idle(_) | Self::Range { .. } => true,
            Self::Status { status } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                    )
            }
        }
    }
}

/// An answer whose body is still to be read by [`Download::chunk`].
#[derive(Debug)]
pub struct Download {
    offset: u64,
    length: Option<u64>,
    body: Incoming,
    driver: Driver,
    idle_timeout: Duration,
}

impl Download {
    /// Where the bytes begin: the offset asked for, or 0 when the server sends the whole and the file starts anew.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes will come, when the server says so.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes; `None` once all came. After an error the download is of no more use.
    ///
    /// Cancel-safe: bytes that were not returned are returned by the next call.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, GetError> {
        let Self {
            body,
            driver,
            idle_timeout,
            ..
        } = self;
        let next = std::future::poll_fn(|context| {
            driver.advance(context);
            loop {
                let Some(frame) = std::task::ready!(Pin::new(&mut *body).poll_frame(context))
                else {
                    return Poll::Ready(Ok(None));
                };
                match frame.map(http_body_frame) {
                    Ok(Some(bytes)) => return Poll::Ready(Ok(Some(bytes))),
                    // Trailers carry nothing that we use.
                    Ok(None) => {}
                    Err(source) => {
                        return Poll::Ready(Err(GetError::Broken {
                            step: "reading the body",
                            source,
                        }));
                    }
                }
            }
        });
        match tokio::time::timeout(*idle_timeout, next).await {
            Ok(next) => next,
            Err(_) => Err(GetError::Idle(*idle_timeout)),
        }
    }
}

/// Asks for the bytes and waits for the head of the answer.
pub async fn https_get(request: &GetRequest, tls: &ClientConfig) -> Result<Download, GetError> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    let stream = dial(&request.url, Arc::new(tls), request.connect_timeout).await?;
    let head = head(request)?;
    let asking = ask(TokioIo::new(stream), head);
    let (response, driver) = match tokio::time::timeout(request.idle_timeout, asking).await {
        Ok(answered) => answered.map_err(|source| GetError::Broken {
            step: "waiting for the answer",
            source,
        })?,
        Err(_) => return Err(GetError::Idle(request.idle_timeout)),
    };
    let offset = check_answer(&response, request.offset)?;
    let length = response.body().size_hint().exact();
    Ok(Download {
        offset,
        length,
        body: response.into_body(),
        driver,
        idle_timeout: request.idle_timeout,
    })
}

/// The connection's own work, done whenever the reader is polled.
#[derive(Debug)]
struct Driver {
    connection: Option<Connection<Io, Empty<Bytes>>>,
}

impl Driver {
    /// An error of the connection reaches the reader through the body or the answer, so it is not told twice.
    fn advance(&mut self, context: &mut std::task::Context<'_>) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if Pin::new(connection).poll(context).is_ready() {
            self.connection = None;
        }
    }
}

async fn ask(
    io: Io,
    head: Request<Empty<Bytes>>,
) -> Result<(Response<Incoming>, Driver), hyper::Error> {
    let (mut sender, connection) = http1::handshake(io).await?;
    let mut driver = Driver {
        connection: Some(connection),
    };
    let mut answer = std::pin::pin!(sender.send_request(head));
    let response = std::future::poll_fn(|context| {
        driver.advance(context);
        answer.as_mut().poll(context)
    })
    .await?;
    Ok((response, driver))
}

fn head(request: &GetRequest) -> Result<Request<Empty<Bytes>>, GetError> {
    let unusable = || GetError::Request {
        url: request.url.to_string(),
    };
    let authority = request.url.authority().ok_or_else(unusable)?.as_str();
    let path = request
        .url
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let mut head = Request::get(path)
        .header(header::HOST, authority)
        // A body that a proxy recompressed would have other offsets.
        .header(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
    if request.offset > 0 {
        head = head.header(header::RANGE, format!("bytes={}-", request.offset));
    }
    head.body(Empty::new()).map_err(|_| unusable())
}

/// Where the bytes of the answer begin.
fn check_answer<B>(response: &Response<B>, wanted: u64) -> Result<u64, GetError> {
    match response.status() {
        StatusCode::OK => Ok(0),
        StatusCode::PARTIAL_CONTENT => {
            let sent = response.headers().get(header::CONTENT_RANGE);
            let sent = sent
                .and_then(|range| range.to_str().ok())
                .unwrap_or("no range");
            match range_start(sent) {
                Some(start) if start == wanted => Ok(start),
                Some(_) | None => Err(GetError::Range {
                    wanted,
                    sent: sent.to_owned(),
                }),
            }
        }
        status => Err(GetError::Status { status }),
    }
}

/// The first byte of `bytes 100-199/200`.
fn range_start(range: &str) -> Option<u64> {
    let (start, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    start.parse().ok()
}

fn http_body_frame(frame: hyper::body::Frame<Bytes>) -> Option<Bytes> {
    frame.into_data().ok()
}

#[cfg(test)]
mod tests;
