//! The open connections of known peers: what is cut when its peer is let in no more, or its certificate is over.
//!
//! One entry per connection, gone with it. A sweep asks of all of them again whenever the core bars somebody, and looks
//! for ended certificates once a second by the wall clock, so that a step of it counts too.
//! Invariant: no connection of a peer outlives the peer's leave by more than the sweep's pause.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use comber_runtime::clock::Clock;
use comber_runtime::shutdown::Shutdown;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::api::access::{self, Peer};
use crate::core::Core;
use crate::metrics::ServeMetrics;

/// Pause between two looks for ended certificates.
const LOOK: Duration = Duration::from_secs(1);

/// All open connections; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    peer: Peer,
    cut: Option<oneshot::Sender<()>>,
}

/// One connection's entry.
#[derive(Debug)]
pub(super) struct Place {
    connections: Connections,
    number: u64,
    cut: oneshot::Receiver<()>,
}

impl Connections {
    /// Enters a connection.
    pub(super) fn enter(&self, peer: Peer) -> Place {
        let (sender, cut) = oneshot::channel();
        let mut inner = self.inner.lock();
        let number = inner.next;
        inner.next += 1;
        let cut_by = Some(sender);
        inner.open.insert(number, Open { peer, cut: cut_by });
        Place {
            connections: self.clone(),
            number,
            cut,
        }
    }

    /// Cuts those that `why` gives a reason for.
    fn cut(&self, metrics: &ServeMetrics, why: impl Fn(&Peer) -> Option<Why>) {
        for open in self.inner.lock().open.values_mut() {
            let Some(why) = why(&open.peer) else { continue };
            if let Some(cut) = open.cut.take() {
                let name = open.peer.identity.as_ref().map(ToString::to_string);
                tracing::info!(peer = name, address = %open.peer.address, reason = why.word, "connection cut: {}", why.text);
                metrics.cut(why.word);
                // One that has ended meanwhile needs no cutting.
                let _gone = cut.send(());
            }
        }
    }
}

/// Why a connection is cut: a word for the metrics, a sentence for the log.
struct Why {
    word: &'static str,
    text: String,
}

impl Place {
    /// Waits until the connection is to be cut. Cancel-safe; not to be called again once it returned.
    pub(super) async fn cut(&mut self) {
        if (&mut self.cut).await.is_err() {
            // The sender goes with the entry, which goes with this place only.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.inner.lock().open.remove(&self.number);
    }
}

/// The sweep; runs for as long as the port.
pub(super) async fn sweep(
    connections: Connections,
    core: Core,
    clock: Clock,
    metrics: ServeMetrics,
    shutdown: Shutdown,
) {
    let mut barred = core.barred();
    loop {
        // Each arm may be dropped: a change that was not seen stays unseen, the others only wait.
        tokio::select! {
            changed = barred.changed() => {
                if changed.is_err() { return; }
                let world = core.read().await;
                connections.cut(&metrics, |peer| {
                    let refused = access::admit(&world, peer).err()?;
                    Some(Why { word: "barred", text: refused.to_string() })
                });
            }
            () = tokio::time::sleep(LOOK) => {
                let now = clock.wall();
                connections.cut(&metrics, |peer| over(peer, now));
            }
            _ = shutdown.wait() => return,
        }
    }
}

fn over(peer: &Peer, now: Timestamp) -> Option<Why> {
    let certificate = peer.certificate.as_ref()?;
    certificate.is_expired(now).then(|| Why {
        word: "expired",
        text: format!("its certificate ended at {}", certificate.not_after),
    })
}
