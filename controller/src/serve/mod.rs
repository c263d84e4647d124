//! The one TLS port: gRPC over HTTP/2 and the bytes of artifacts over HTTP/1.1, told apart by ALPN.
//!
//! One accept loop; one task per connection, which ends with it. A connection costs nothing before its handshake is
//! done, and handshakes, connections, windows and streams are bounded. When the process stops, HTTP/2 connections are told
//! so and may finish what they began for [`DRAIN`].

mod bytes;
mod grpc;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use comber_runtime::peer::PeerIdentity;
use comber_runtime::shutdown::Shutdown;
use comber_runtime::{task, tls};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::service::Routes;

use crate::api::access::Peer;
use crate::artifact::Artifacts;
use crate::core::Core;
use crate::metrics::ServeMetrics;

/// A handshake takes two round trips; a slower peer holds a place for nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After a failed accept (no more file descriptors) wait, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may finish what they began when the process stops.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Bounds of the port.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections at once; further ones wait to be accepted.
    pub connections: usize,
    /// Between two pings of an HTTP/2 connection.
    pub keepalive: Duration,
    /// For the answer to a ping.
    pub keepalive_timeout: Duration,
}

/// What connections are served from.
#[derive(Debug, Clone)]
pub struct Server {
    /// Whom to believe, and what to present.
    pub tls: Arc<ServerConfig>,
    /// The gRPC services.
    pub routes: Routes,
    /// The state, for who may read which artifact.
    pub core: Core,
    /// The bytes.
    pub artifacts: Arc<Artifacts>,
    /// What is measured.
    pub metrics: ServeMetrics,
    /// Bounds.
    pub limits: Limits,
    /// When to end.
    pub shutdown: Shutdown,
}

/// Serves until the process stops, and until its connections have drained.
pub async fn serve(listener: TcpListener, server: Server) {
    let limit = server.limits.connections;
    let places = Arc::new(Semaphore::new(limit));
    let server = Arc::new(server);
    loop {
        // Both arms may be dropped: a connection that is not yet accepted stays in the kernel's queue.
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = server.shutdown.wait() => break,
        };
        match accepted {
            Ok((stream, address, place)) => {
                let connection = converse(Arc::clone(&server), stream, address, place);
                task::spawn("connection", &server.shutdown, connection);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(limit).unwrap_or(u32::MAX);
    // Every place is free again once every connection has ended; what has not by then is dropped with the process.
    let _drained = tokio::time::timeout(DRAIN, places.acquire_many(all)).await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address, place))
}

/// One connection from handshake to end.
async fn converse(
    server: Arc<Server>,
    stream: TcpStream,
    address: SocketAddr,
    _place: OwnedSemaphorePermit,
) {
    // Latency matters more than packets on a stream of small messages.
    let _best_effort = stream.set_nodelay(true);
    let acceptor = TlsAcceptor::from(Arc::clone(&server.tls));
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return refused(&server, address, &tls::explain(&error)),
        Err(_) => return refused(&server, address, "the handshake took too long"),
    };
    let peer = match identify(&stream, address) {
        Ok(peer) => peer,
        Err(why) => return refused(&server, address, &why),
    };
    if stream.get_ref().1.alpn_protocol() == Some(tls::ALPN_H2) {
        grpc::converse(&server, stream, peer).await;
    } else {
        bytes::converse(&server, stream, peer).await;
    }
}

fn refused(server: &Server, address: SocketAddr, why: &str) {
    server.metrics.refused.inc();
    tracing::debug!(%address, why, "connection refused");
}

/// Who the verified certificate says the peer is.
fn identify(stream: &TlsStream<TcpStream>, address: SocketAddr) -> Result<Peer, String> {
    let certificates = stream.get_ref().1.peer_certificates();
    let identity = match certificates.and_then(|chain| chain.first()) {
        Some(leaf) => {
            let identity = PeerIdentity::from_certificate(leaf);
            Some(identity.map_err(|error| error.to_string())?)
        }
        None => None,
    };
    Ok(Peer { identity, address })
}
