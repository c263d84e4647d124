//! The one TLS port: gRPC over HTTP/2 and the bytes of artifacts over HTTP/1.1, told apart by ALPN.
//!
//! One accept loop; one task per connection, which ends with it. Handshakes, connections, windows and streams are
//! bounded, and peers without certificate have few places and little time, so that they cannot keep hosts out. When the process stops, HTTP/2 connections are told
//! so and may finish what they began for [`DRAIN`].

mod bytes;
mod connections;
mod grpc;
mod refusal;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use comber_runtime::clock::Clock;
use comber_runtime::identity::CertificateFacts;
use comber_runtime::peer::{InvalidPeer, PeerIdentity};
use comber_runtime::shutdown::Shutdown;
use comber_runtime::{task, tls};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::service::Routes;

use connections::{Connections, Place, sweep};
use refusal::Refusal;

use crate::api::access::Peer;
use crate::artifact::Artifacts;
use crate::core::Core;
use crate::metrics::ServeMetrics;

/// A handshake takes two round trips; a slower peer holds a place for nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Peers without certificate at once: enough for a fleet that enrols all at once, since each is done in a moment, and
/// far too few to keep hosts out.
const STRANGERS: usize = 512;
/// Enrolment and a health check are done in a moment; a peer without certificate that stays holds a place for nothing.
const STRANGER: Duration = Duration::from_secs(30);
/// How long a gRPC connection that is cut may still say why; its requests are refused meanwhile.
const LAST_WORDS: Duration = Duration::from_millis(250);
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
    /// The time, by which certificates end.
    pub clock: Clock,
    /// Bounds.
    pub limits: Limits,
    /// When to end.
    pub shutdown: Shutdown,
}

/// Serves until the process stops, and until its connections have drained.
pub async fn serve(listener: TcpListener, server: Server) {
    let limit = server.limits.connections;
    let places = Arc::new(Semaphore::new(limit));
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    let connections = Connections::default();
    let sweeping = sweep(
        connections.clone(),
        server.core.clone(),
        server.clock.clone(),
        server.metrics.clone(),
        server.shutdown.clone(),
    );
    task::spawn("sweep", &server.shutdown, sweeping);
    let server = Arc::new(server);
    loop {
        // Both arms may be dropped: a connection that is not yet accepted stays in the kernel's queue.
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = server.shutdown.wait() => break,
        };
        match accepted {
            Ok(accepted) => {
                let (strangers, connections) = (Arc::clone(&strangers), connections.clone());
                let connection = converse(Arc::clone(&server), accepted, strangers, connections);
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

/// A connection after its handshake. Boxed: it is large, and passed on more than once while futures keep room for it.
type Stream = Box<TlsStream<TcpStream>>;

/// A connection before its handshake.
struct Accepted {
    stream: TcpStream,
    address: SocketAddr,
    _place: OwnedSemaphorePermit,
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<Accepted> {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.map_err(std::io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok(Accepted {
        stream,
        address,
        _place: place,
    })
}

/// One connection from handshake to end.
async fn converse(
    server: Arc<Server>,
    accepted: Accepted,
    strangers: Arc<Semaphore>,
    connections: Connections,
) {
    let Accepted {
        stream,
        address,
        _place,
    } = accepted;
    // Boxed, so that the room of the handshake is free again once it is done, and each protocol takes what it needs.
    match Box::pin(greet(&server, stream, address)).await {
        Ok((stream, peer)) if peer.identity.is_some() => {
            let place = connections.enter(peer.clone());
            Box::pin(talk_until_cut(&server, stream, peer, place)).await;
        }
        Ok((stream, peer)) => {
            let place = tokio::time::timeout(HANDSHAKE, strangers.acquire()).await;
            let Ok(Ok(_place)) = place else {
                return refused(&server, address, &Refusal::Crowd);
            };
            // Whatever it does then, it has had the time for what a stranger may do.
            let _over = tokio::time::timeout(STRANGER, Box::pin(talk(&server, stream, peer))).await;
        }
        Err(refusal) => refused(&server, address, &refusal),
    }
}

/// The handshake, and whom it proved the peer to be.
async fn greet(
    server: &Server,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<(Stream, Peer), Refusal> {
    // Latency matters more than packets on a stream of small messages.
    let _best_effort = stream.set_nodelay(true);
    let acceptor = TlsAcceptor::from(Arc::clone(&server.tls));
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = stream
        .map_err(|_| Refusal::Slow)?
        .map_err(Refusal::Handshake)?;
    let peer = identify(&stream, address)?;
    Ok((Box::new(stream), peer))
}

/// Talks until the peer is let in no more. An agent is still told why its stream ends; bytes end at once.
async fn talk_until_cut(server: &Arc<Server>, stream: Stream, peer: Peer, mut place: Place) {
    let is_grpc = speaks_grpc(&stream);
    let mut talking = std::pin::pin!(talk(server, stream, peer));
    // Both arms may be dropped: what is cut is not continued, except as below.
    tokio::select! {
        () = talking.as_mut() => return,
        () = place.cut() => {}
    }
    if is_grpc {
        let _cut = tokio::time::timeout(LAST_WORDS, talking).await;
    }
}

fn speaks_grpc(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(tls::ALPN_H2)
}

async fn talk(server: &Arc<Server>, stream: Stream, peer: Peer) {
    if speaks_grpc(&stream) {
        grpc::converse(server, stream, peer).await;
    } else {
        Box::pin(bytes::converse(server, stream, peer)).await;
    }
}

fn refused(server: &Server, address: SocketAddr, why: &Refusal) {
    server.metrics.refused(why.word());
    tracing::debug!(%address, %why, "connection refused");
}

/// Who the verified certificate says the peer is.
fn identify(stream: &TlsStream<TcpStream>, address: SocketAddr) -> Result<Peer, InvalidPeer> {
    let certificates = stream.get_ref().1.peer_certificates();
    let Some(leaf) = certificates.and_then(|chain| chain.first()) else {
        let (identity, certificate) = (None, None);
        return Ok(Peer {
            identity,
            certificate,
            address,
        });
    };
    let identity = Some(PeerIdentity::from_certificate(leaf)?);
    let facts = CertificateFacts::from_der(leaf).map_err(|_| InvalidPeer::Certificate)?;
    Ok(Peer {
        identity,
        certificate: Some(Arc::new(facts)),
        address,
    })
}
