//! The connection to a controller: made with patience, and every answer turned into a result or an error in words.
//!
//! Touches the network. Invariant: a call that changes something is sent once; only connecting is tried again.

use std::sync::Arc;
use std::time::Duration;

use comber_proto::access::v1::access_service_client::AccessServiceClient;
use comber_proto::audit::v1::audit_service_client::AuditServiceClient;
use comber_proto::budget::v1::budget_service_client::BudgetServiceClient;
use comber_proto::enrolment::v1::enrolment_service_client::EnrolmentServiceClient;
use comber_proto::event::v1::event_service_client::EventServiceClient;
use comber_proto::freeze::v1::freeze_service_client::FreezeServiceClient;
use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_proto::release::v1::release_service_client::ReleaseServiceClient;
use comber_proto::rollout::v1::rollout_service_client::RolloutServiceClient;
use comber_proto::trust::v1::trust_service_client::TrustServiceClient;
use comber_runtime::backoff::Backoff;
use comber_runtime::bearer::BearerToken;
use comber_runtime::channel::{self, ChannelSettings, ConnectError};
use comber_runtime::tls::explain;
use http::Uri;
use rustls::ClientConfig;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::error::Outcome;
use crate::screen::Screen;
use crate::status;

/// A plan of a large fleet names every host in one message.
const MESSAGE_MAX: usize = 256 << 20;
/// The first pause between two tries to connect, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// A connection with what is sent along with each call.
pub(crate) type Connection = InterceptedService<Channel, Bearer>;

/// Sends an operator's token along, where the context holds one in place of a certificate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// The token as every call carries it.
    pub(crate) fn new(token: &BearerToken) -> Option<Self> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.reveal()).parse().ok()?;
        value.set_sensitive(true);
        Some(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A connection to one controller.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    bearer: Bearer,
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
                Ok(channel) => {
                    let bearer = Bearer::default();
                    return Ok(Self {
                        channel,
                        bearer,
                        address,
                    });
                }
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

    /// The same connection, each call with this token.
    pub(crate) fn bearing(self, bearer: Bearer) -> Self {
        Self { bearer, ..self }
    }

    fn connection(&self) -> Connection {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
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

    /// Operators.
    pub(crate) fn access(&self) -> AccessServiceClient<Connection> {
        AccessServiceClient::new(self.connection()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Who changed what.
    pub(crate) fn audit(&self) -> AuditServiceClient<Connection> {
        AuditServiceClient::new(self.connection())
    }

    /// Certificates and tokens.
    pub(crate) fn enrolment(&self) -> EnrolmentServiceClient<Connection> {
        EnrolmentServiceClient::new(self.connection())
    }

    /// The inventory.
    pub(crate) fn hosts(&self) -> HostServiceClient<Connection> {
        HostServiceClient::new(self.connection()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Releases.
    pub(crate) fn releases(&self) -> ReleaseServiceClient<Connection> {
        ReleaseServiceClient::new(self.connection()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Rollouts.
    pub(crate) fn rollouts(&self) -> RolloutServiceClient<Connection> {
        RolloutServiceClient::new(self.connection()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Disruption budgets.
    pub(crate) fn budgets(&self) -> BudgetServiceClient<Connection> {
        BudgetServiceClient::new(self.connection()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Freezes.
    pub(crate) fn freezes(&self) -> FreezeServiceClient<Connection> {
        FreezeServiceClient::new(self.connection()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// The publisher's metadata.
    pub(crate) fn trust(&self) -> TrustServiceClient<Channel> {
        TrustServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// What happened.
    pub(crate) fn events(&self) -> EventServiceClient<Connection> {
        EventServiceClient::new(self.connection())
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
