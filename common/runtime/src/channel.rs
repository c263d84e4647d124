//! gRPC channels over our own TLS: HTTP/2 with keepalive, so that both ends notice a peer that vanished.
//!
//! Touches the network only when asked to connect. Invariant: every connection is verified by the [`ClientConfig`] that
//! the caller made; no address can lead to plain text.

mod dial;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::tls::ALPN_H2;
pub use dial::{ConnectError, dial};

/// How a channel connects and how it notices that the other side is gone.
#[derive(Clone, Debug)]
pub struct ChannelSettings {
    /// For name lookup, TCP and TLS together.
    pub connect_timeout: Duration,
    /// How often to ping; 30 s costs 1.5 % of one core at 20,000 hosts.
    pub keepalive_interval: Duration,
    /// How long to wait for the answer to a ping before the connection counts as dead.
    pub keepalive_timeout: Duration,
    /// Whether to ping while no call runs; a stream is a call, so only other clients need it.
    pub keepalive_while_idle: bool,
    /// Program and version, for the controller's log.
    pub user_agent: String,
}

impl Default for ChannelSettings {
    /// Ten seconds to connect, pings every 30 s with 10 s for the answer.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            keepalive_while_idle: false,
            user_agent: concat!("comber/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Connects now; an error says why, see [`crate::tls::explain`].
///
/// `url` is `https://host:port`. A channel whose connection breaks later fails the calls that run and connects again for
/// the next one.
pub async fn connect(
    url: &Uri,
    tls: &ClientConfig,
    settings: &ChannelSettings,
) -> Result<Channel, ConnectError> {
    let (endpoint, connector) = prepare(url, tls, settings)?;
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(ConnectError::from_transport)
}

/// Like [`connect`], but the first call connects; only a malformed address fails here.
pub fn connect_lazy(
    url: &Uri,
    tls: &ClientConfig,
    settings: &ChannelSettings,
) -> Result<Channel, ConnectError> {
    let (endpoint, connector) = prepare(url, tls, settings)?;
    Ok(endpoint.connect_with_connector_lazy(connector))
}

fn prepare(
    url: &Uri,
    tls: &ClientConfig,
    settings: &ChannelSettings,
) -> Result<(Endpoint, Connector), ConnectError> {
    dial::check(url)?;
    let endpoint = Endpoint::from(url.clone())
        .user_agent(settings.user_agent.clone())
        .map_err(ConnectError::from_transport)?
        .http2_keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .keep_alive_while_idle(settings.keepalive_while_idle);
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok((
        endpoint,
        Connector {
            tls: Arc::new(tls),
            timeout: settings.connect_timeout,
        },
    ))
}

/// What tonic calls for each new connection.
#[derive(Clone)]
struct Connector {
    tls: Arc<ClientConfig>,
    timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let Self { tls, timeout } = self.clone();
        Box::pin(async move { dial(&url, tls, timeout).await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests;
