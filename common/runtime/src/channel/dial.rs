//! One TLS connection to the host and port of a URL.
//!
//! Shared by gRPC and by downloads, so both refuse the same addresses and explain failures the same way.

use std::{io, sync::Arc, time::Duration};

use http::Uri;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address cannot be used.
    #[error("{url} is not an address of a controller; write https://host:port")]
    Address {
        /// As given.
        url: String,
    },
    /// Name lookup or TCP.
    #[error("cannot reach {address}")]
    Tcp {
        /// Host and port.
        address: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The handshake; [`crate::tls::explain`] knows the remedies.
    #[error("no TLS connection to {address}")]
    Tls {
        /// Host and port.
        address: String,
        /// With a `rustls::Error` inside when a certificate was refused.
        #[source]
        source: io::Error,
    },
    /// Lookup, TCP and TLS together took too long.
    #[error("no connection to {address} within {timeout:?}")]
    Timeout {
        /// Host and port.
        address: String,
        /// The limit.
        timeout: Duration,
    },
    /// HTTP/2 could not be spoken over the connection.
    #[error("no gRPC channel")]
    Transport(#[source] tonic::transport::Error),
}

impl ConnectError {
    /// Whether the same call may succeed later without a change of settings.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Address { .. })
    }

    pub(super) fn from_transport(error: tonic::transport::Error) -> Self {
        Self::Transport(error)
    }
}

/// Connects and verifies the server by `tls` for the host in `url`; the port is 443 unless given.
pub async fn dial(
    url: &Uri,
    tls: Arc<ClientConfig>,
    timeout: Duration,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let (host, port) = check(url)?;
    let address = format!("{host}:{port}");
    let bad_name = |_| ConnectError::Address {
        url: url.to_string(),
    };
    let name = ServerName::try_from(bare(host).to_owned()).map_err(bad_name)?;
    let connecting = async {
        let stream = tcp(bare(host), port)
            .await
            .map_err(|source| ConnectError::Tcp {
                address: address.clone(),
                source,
            })?;
        TlsConnector::from(tls)
            .connect(name, stream)
            .await
            .map_err(|source| ConnectError::Tls {
                address: address.clone(),
                source,
            })
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(ConnectError::Timeout { address, timeout }),
    }
}

/// The host and port of an https URL.
pub(super) fn check(url: &Uri) -> Result<(&str, u16), ConnectError> {
    let host = url.host().filter(|host| !host.is_empty());
    match (url.scheme_str(), host) {
        (Some("https"), Some(host)) => Ok((host, url.port_u16().unwrap_or(443))),
        (_, _) => Err(ConnectError::Address {
            url: url.to_string(),
        }),
    }
}

/// An IPv6 address stands in brackets in a URL and without them everywhere else.
fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    // Small messages must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    Ok(stream)
}
