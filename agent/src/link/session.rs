//! One session: from connecting to the end of the stream.
//!
//! A message that does not check is refused whole and changes nothing; the stream stays, because the next message says
//! everything again. Invariant: the first message up is the host's whole state.

use std::{fmt, time::Duration};

use comber_model::wire::{desired_from_wire, known_packages};
use comber_proto::agent::v1::{
    ActualState, DesiredState, LinkRequest, LinkResponse, Presence,
    agent_link_service_client::AgentLinkServiceClient,
};
use comber_runtime::{
    channel,
    identity::Identity,
    shutdown::Shutdown,
    tls::{self, explain},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::{
    Link, LinkView,
    calls::failed,
    facts::{self, Acknowledged},
    packages::{self, Held},
    state::{Poke, poked},
};

/// Largest message down. The protocol's own are at most 2 kB; the rest is room for later fields.
const MESSAGE_MAX: usize = 16 * 1024;
/// Longest wait for the controller to close its side when the agent stops: a round trip on a slow line.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// How a session ended; its text is for the log.
#[derive(Debug)]
pub(super) enum Ended {
    /// The agent stops.
    Shutdown,
    /// The stream was open and is not any more.
    Closed { reason: String },
    /// Somebody wants a new one.
    Asked,
    /// The stream never opened.
    NotOpened { reason: String },
    /// The certificate is over: there was no try.
    Expired { explained: String },
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("the agent stops"),
            Self::Asked => f.write_str("asked to connect anew"),
            Self::Closed { reason } | Self::NotOpened { reason } => f.write_str(reason),
            Self::Expired { explained } => f.write_str(explained),
        }
    }
}

/// The two directions of an open stream.
struct Stream {
    up: mpsc::Sender<LinkRequest>,
    down: Streaming<LinkResponse>,
}

pub(super) async fn run(
    link: &mut Link,
    identity: &Identity,
    (acknowledged, presence): (&mut Acknowledged, Option<Presence>),
    shutdown: &Shutdown,
) -> Ended {
    let mut renewed = link.identity.subscribe();
    let shown = identity.facts().fingerprint.clone();
    let opening = open(link, identity, presence);
    let opened = tokio::select! {
        // A connection that was being made is dropped whole.
        opened = opening => opened,
        _ = shutdown.wait() => return Ended::Shutdown,
    };
    let (stream, channel) = match opened {
        Ok(opened) => opened,
        Err(reason) => return Ended::NotOpened { reason },
    };
    tracing::info!(controller = %link.controller, "link open");
    link.view.send_modify(|view| {
        view.connected = true;
        view.opened += 1;
    });
    let since = link.clock.wall();
    link.state.send_modify(|state| {
        state.since = Some(since);
        state.next_try = None;
    });
    let (epoch, epochs) = watch::channel(None);
    let (held, said) = watch::channel(None);
    let listing = packages::report(channel.clone(), &link.packages, said, link.settings);
    let reporting = facts::report(
        channel,
        link.facts.clone(),
        epochs,
        acknowledged,
        link.settings,
    );
    let conversation = Conversation {
        status: &mut link.status,
        view: &link.view,
        pokes: &mut link.pokes,
        epoch,
        held,
    };
    tokio::select! {
        // The futures live exactly as long as the session; none is continued after another ended.
        ended = conversation.run(stream, shutdown) => ended,
        // The controller ends a connection with the certificate that it was made with; this one is made again before.
        Ok(_) = renewed.wait_for(|present| present.facts().fingerprint != shown) => Ended::Asked,
        never = reporting => match never {},
        never = listing => match never {},
    }
}

async fn open(
    link: &mut Link,
    identity: &Identity,
    presence: Option<Presence>,
) -> Result<(Stream, Channel), String> {
    let tls = tls::client(identity, &link.clock).map_err(|error| explain(&error))?;
    let channel = channel::connect(&link.controller, &tls, &link.settings.channel())
        .await
        .map_err(|error| explain(&error))?;
    let mut client =
        AgentLinkServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX);
    // One slot: what is not sent yet is replaced by what is newer, never queued behind it.
    let (up, outgoing) = mpsc::channel(1);
    let first = LinkRequest {
        presence,
        ..request(&link.status.borrow_and_update())
    };
    up.try_send(first)
        .map_err(|_| "the first message found no room".to_owned())?;
    let limit = link.settings.connect_timeout;
    let opening = client.link(ReceiverStream::new(outgoing));
    match tokio::time::timeout(limit, opening).await {
        Ok(Ok(response)) => {
            let down = response.into_inner();
            Ok((Stream { up, down }, channel))
        }
        Ok(Err(status)) => Err(failed(&status).to_string()),
        Err(_) => Err(format!(
            "the controller did not open the stream within {limit:?}"
        )),
    }
}

fn request(status: &comber_model::HostStatus) -> LinkRequest {
    LinkRequest {
        actual: Some(ActualState::from(status)),
        presence: None,
    }
}

/// What an open stream needs of the link.
struct Conversation<'a> {
    status: &'a mut watch::Receiver<comber_model::HostStatus>,
    view: &'a watch::Sender<LinkView>,
    pokes: &'a mut watch::Receiver<Poke>,
    epoch: watch::Sender<Option<[u8; 16]>>,
    held: watch::Sender<Held>,
}

impl Conversation<'_> {
    async fn run(mut self, stream: Stream, shutdown: &Shutdown) -> Ended {
        let Stream { up, mut down } = stream;
        let mut unsent = false;
        let anew = self.pokes.borrow().anew;
        let mut last_refused = String::new();
        loop {
            tokio::select! {
                // Cancel-safe: a slot that is not taken stays free.
                slot = up.reserve(), if unsent => {
                    let Ok(slot) = slot else { return closed("the stream up ended") };
                    slot.send(request(&self.status.borrow_and_update()));
                    unsent = false;
                }
                // Cancel-safe: a change that was not seen stays unseen.
                changed = self.status.changed(), if !unsent => match changed {
                    Ok(()) => unsent = true,
                    Err(_) => return Ended::Shutdown,
                },
                // Cancel-safe: a poke that was not seen stays unseen.
                poke = poked(self.pokes) => {
                    if poke.anew != anew {
                        return Ended::Asked;
                    }
                    unsent = true;
                }
                // Cancel-safe: bytes of a message that is not complete stay in the decoder.
                message = down.message() => match message {
                    Ok(Some(message)) => self.take(message, &mut last_refused),
                    Ok(None) => return closed("the controller closed the stream"),
                    Err(status) => return closed(&failed(&status).to_string()),
                },
                _ = shutdown.wait() => break,
            }
        }
        self.leave(up, down, unsent).await
    }

    /// Sends what is unsent and closes in order, so that the controller does not remember less than the ledger where
    /// that can be helped. It is only a courtesy: a controller that does not close its side is not waited for.
    async fn leave(
        &mut self,
        up: mpsc::Sender<LinkRequest>,
        mut down: Streaming<LinkResponse>,
        unsent: bool,
    ) -> Ended {
        let leaving = async {
            if (unsent || self.status.has_changed().unwrap_or(false))
                && let Ok(slot) = up.reserve().await
            {
                slot.send(request(&self.status.borrow_and_update()));
            }
            drop(up);
            while let Ok(Some(_)) = down.message().await {}
        };
        // Either way the session is over.
        let _ = tokio::time::timeout(LEAVE_MAX, leaving).await;
        Ended::Shutdown
    }

    fn take(&self, message: LinkResponse, last_refused: &mut String) {
        match checked(message) {
            Ok((epoch, desired, held)) => {
                tracing::debug!(generation = desired.generation.0, "desired state received");
                self.epoch
                    .send_if_modified(|known| known.replace(epoch) != Some(epoch));
                if held.is_some() {
                    self.held.send_replace(held);
                }
                self.view.send_modify(|view| {
                    view.desired = Some((epoch, desired));
                    view.received += 1;
                });
            }
            // A controller that repeats itself must not fill the journal.
            Err(error) if error == *last_refused => {}
            Err(error) => {
                tracing::error!(error, "a message of the controller was refused whole");
                *last_refused = error;
            }
        }
    }
}

fn checked(
    message: LinkResponse,
) -> Result<([u8; 16], comber_model::assignment::Desired, Held), String> {
    let mut desired: DesiredState = message.desired.ok_or("desired: is missing")?;
    let held = desired.packages.take();
    let held = held.map(|held| known_packages(&held.digest));
    let held = held
        .transpose()
        .map_err(|error| error.within("packages").to_string())?;
    let (epoch, desired) = desired_from_wire(desired).map_err(|error| error.to_string())?;
    Ok((epoch, desired, held))
}

fn closed(reason: &str) -> Ended {
    Ended::Closed {
        reason: reason.to_owned(),
    }
}
