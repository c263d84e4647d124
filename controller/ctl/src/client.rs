//! The connection to a controller: made with patience, and every answer turned into a result or an error in words.
//!
//! Touches the network. Invariant: a call that changes something is sent once; only connecting is tried again.

use std::sync::Arc;
use std::time::Duration;

use comber_proto::budget::v1::budget_service_client::BudgetServiceClient;
use comber_proto::enrolment::v1::enrolment_service_client::EnrolmentServiceClient;
use comber_proto::event::v1::event_service_client::EventServiceClient;
use comber_proto::freeze::v1::freeze_service_client::FreezeServiceClient;
use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_proto::release::v1::release_service_client::ReleaseServiceClient;
use comber_proto::rollout::v1::rollout_service_client::RolloutServiceClient;
use comber_proto::trust::v1::trust_service_client::TrustServiceClient;
use comber_runtime::backoff::Backoff;
use comber_runtime::channel::{self, ChannelSettings, ConnectError};
use comber_runtime::tls::explain;
use http::Uri;
use rustls::ClientConfig;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::error::Outcome;
use crate::screen::Screen;
use crate::status;

/// A plan of a large fleet names every host in one message.
const MESSAGE_MAX: usize = 256 << 20;
/// The first pause between two tries to connect, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// A connection to one controller.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    address: String,
}

impl Client {
    /// Connects, trying again for `patience` while nothing answers there.
    pub(crate) async fn connect(
        url: &Uri,
        tls: &Arc<ClientConfig>,
        patience: Duration,
        screen: &Screen,
    ) -> Outcome<Self> {
        let address = url.to_string().trim_end_matches('/').to_owned();
        let settings = ChannelSettings {
            user_agent: concat!("comber-cli/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..ChannelSettings::default()
        };
        let mut waiting = Waiting::new(patience);
        loop {
            match channel::connect(url, tls, &settings).await {
                Ok(channel) => return Ok(Self { channel, address }),
                Err(error) => {
                    let cause = explain(&error);
                    if !may_come_up(&error, &cause)
                        || !waiting.pause(&address, &cause, screen).await
                    {
                        return Err(status::unreachable("connect", &address, &cause));
                    }
                }
            }
        }
    }

    /// The answer, or what went wrong in words; `doing` goes on after "cannot".
    pub(crate) fn answered<T>(
        &self,
        doing: &str,
        result: Result<Response<T>, Status>,
    ) -> Outcome<T> {
        match result {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(self.refused(doing, &status)),
        }
    }

    /// The same for a stream that broke.
    pub(crate) fn refused(&self, doing: &str, status: &Status) -> crate::error::CliError {
        status::in_words(doing, &self.address, status)
    }

    /// Where the controller is, for people.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Certificates and tokens.
    pub(crate) fn enrolment(&self) -> EnrolmentServiceClient<Channel> {
        EnrolmentServiceClient::new(self.channel.clone())
    }

    /// The inventory.
    pub(crate) fn hosts(&self) -> HostServiceClient<Channel> {
        HostServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Releases.
    pub(crate) fn releases(&self) -> ReleaseServiceClient<Channel> {
        ReleaseServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Rollouts.
    pub(crate) fn rollouts(&self) -> RolloutServiceClient<Channel> {
        RolloutServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Disruption budgets.
    pub(crate) fn budgets(&self) -> BudgetServiceClient<Channel> {
        BudgetServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Freezes.
    pub(crate) fn freezes(&self) -> FreezeServiceClient<Channel> {
        FreezeServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// The publisher's metadata.
    pub(crate) fn trust(&self) -> TrustServiceClient<Channel> {
        TrustServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// What happened.
    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
    }
}

/// Time left for connecting; says once that it waits.
struct Waiting {
    left: Duration,
    backoff: Backoff,
    told: bool,
}

impl Waiting {
    fn new(patience: Duration) -> Self {
        Self {
            left: patience,
            backoff: Backoff::new(PAUSES.0, PAUSES.1),
            told: false,
        }
    }

    /// Waits a little; false where no time is left. The pauses count, not what the tries themselves take.
    async fn pause(&mut self, address: &str, cause: &str, screen: &Screen) -> bool {
        if self.left.is_zero() {
            return false;
        }
        // The whole ceiling, without jitter: one person's command is no stampede.
        let pause = self.backoff.next(u64::MAX).min(self.left);
        self.left -= pause;
        if !self.told && self.backoff.tries() > 2 {
            let cause = cause.split("; ").next().unwrap_or(cause);
            let cause = cause
                .rsplit_once("cannot reach")
                .map_or(cause, |(_, why)| why.trim());
            screen.note(&format!(
                "waiting for the controller at {address} ({cause})"
            ));
            self.told = true;
        }
        tokio::time::sleep(pause).await;
        true
    }
}

/// A controller that is starting refuses connections for a moment; a wrong certificate or name does not mend itself.
fn may_come_up(error: &ConnectError, cause: &str) -> bool {
    match error {
        ConnectError::Tcp { .. } => true,
        ConnectError::Transport(_) => cause.contains("Connection refused"),
        ConnectError::Address { .. } | ConnectError::Tls { .. } | ConnectError::Timeout { .. } => {
            false
        }
    }
}
