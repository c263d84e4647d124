//! A controller's port for one test, and the peers that connect to it.

use std::sync::Arc;
use std::time::Duration;

use comber_controller::api::{self, CertificateLives, Parts};
use comber_controller::artifact::Artifacts;
use comber_controller::core::{Core, Observer};
use comber_controller::metrics::{ServeMetrics, WorldCollector};
use comber_controller::pki::{Ca, RenewingCertificate};
use comber_controller::serve::{Limits, Server, serve};
use comber_controller::store::{Options, Store};
use comber_proto::agent::v1::agent_link_service_client::AgentLinkServiceClient;
use comber_proto::agent::v1::{ActualState, AgentState, LinkRequest, LinkResponse};
use comber_proto::enrolment::v1::enrolment_service_client::EnrolmentServiceClient;
use comber_proto::enrolment::v1::{CreateTokenRequest, EnrolRequest, EnrolResponse, IdentityKind};
use comber_runtime::channel::{self, ChannelSettings};
use comber_runtime::clock::{Clock, ManualClock};
use comber_runtime::identity::{Identity, PrivateKey, make_csr};
use comber_runtime::metrics::{Metrics, encode};
use comber_runtime::shutdown::{Cause, Shutdown};
use comber_runtime::token::Token;
use comber_runtime::{task, tls};
use comber_trust::dev;
use http::Uri;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Longest time that a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Life of every certificate.
pub(crate) const LIFE: Duration = Duration::from_hours(24);
/// Longest release that is taken.
pub(crate) const MAX_SIZE: u64 = 64 << 20;

struct Quiet;

impl Observer for Quiet {
    fn planned(&self, _seconds: f64) {}
}

/// A controller's port with everything behind it.
pub(crate) struct Port {
    pub(crate) ca: Arc<Ca>,
    pub(crate) core: Core,
    pub(crate) certificate: RenewingCertificate,
    pub(crate) clock: Clock,
    /// Moves the clock that certificates and plans go by.
    pub(crate) hand: ManualClock,
    pub(crate) url: Uri,
    pub(crate) dir: TempDir,
    registry: Arc<Registry>,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
}

impl Port {
    pub(crate) async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::manual("2026-11-24T12:00:00Z".parse().unwrap());
        let ca = Arc::new(Ca::load_or_create(&dir.path().join("pki"), clock.wall()).unwrap());
        let store = Store::open(&dir.path().join("store"), Options::default()).unwrap();
        let shutdown = Shutdown::new();
        let core = Core::start(store, clock.clone(), &shutdown, Arc::new(Quiet)).unwrap();
        let place = dir.path().join("artifacts");
        let artifacts = Arc::new(Artifacts::open(&place, MAX_SIZE, clock.wall()).unwrap());
        let mut metrics = Metrics::new("controller", "0");
        let measured = ServeMetrics::register(&mut metrics);
        let counts = Box::new(WorldCollector::new(core.clone()));
        metrics.registry().register_collector(counts);
        let names = vec!["localhost".to_owned()];
        let certificate =
            RenewingCertificate::issue(Arc::clone(&ca), names, LIFE, 0, clock.wall()).unwrap();
        let lives = CertificateLives {
            host: LIFE,
            operator: LIFE,
        };
        let routes = api::routes(&Parts {
            core: core.clone(),
            artifacts: Arc::clone(&artifacts),
            metrics: measured.clone(),
            ca: Arc::clone(&ca),
            lives,
            clock: clock.clone(),
            scratch: dir.path().join("scratch"),
            shutdown: shutdown.clone(),
        });
        // Signed for whichever of the two clocks is ahead: the verifying library reads the machine's own.
        let signed_at = clock.wall().max(Clock::system().wall());
        dev::create(&dir.path().join("repository"), signed_at).unwrap();
        let trusted = [ca.certificate().clone()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server {
            tls: tls::server(certificate.served(), &trusted, &clock).unwrap(),
            routes: routes.unwrap(),
            core: core.clone(),
            artifacts,
            metrics: measured,
            clock: clock.clone(),
            limits: Limits {
                connections: 100,
                keepalive: Duration::from_secs(30),
                keepalive_timeout: Duration::from_secs(10),
            },
            shutdown: shutdown.clone(),
        };
        Self {
            ca,
            core,
            certificate,
            clock,
            hand,
            url: format!("https://localhost:{port}").parse().unwrap(),
            dir,
            registry: metrics.seal(),
            serving: task::spawn("serve", &shutdown, serve(listener, server)),
            shutdown,
        }
    }

    /// Asks it to stop; what must have ended by then is up to the test.
    pub(crate) fn stop(&self) {
        self.shutdown.trigger(Cause::Requested("test".into()));
    }

    /// Waits until it has stopped serving.
    pub(crate) async fn stopped(self) {
        let stopped = tokio::time::timeout(PATIENCE, self.serving).await;
        stopped.expect("it does not stop").unwrap();
    }

    pub(crate) fn scrape(&self) -> String {
        encode(&self.registry).unwrap()
    }

    pub(crate) fn operator(&self) -> Identity {
        let key = PrivateKey::generate().unwrap();
        let request = make_csr(&key, "ada").unwrap();
        let issued = self
            .ca
            .issue_operator(&request, "ada", LIFE, self.clock.wall());
        let ca = self.ca.certificate_pem().to_owned();
        Identity::new(key, issued.unwrap().chain_pem, ca).unwrap()
    }

    /// A certificate of the CA for a host, whatever the core knows of it.
    pub(crate) fn host_certificate(&self, name: &str) -> Identity {
        let key = PrivateKey::generate().unwrap();
        let request = make_csr(&key, name).unwrap();
        let issued = self.ca.issue_host(&request, name, LIFE, self.clock.wall());
        let ca = self.ca.certificate_pem().to_owned();
        Identity::new(key, issued.unwrap().chain_pem, ca).unwrap()
    }

    /// Connects with an identity.
    pub(crate) async fn as_peer(&self, identity: &Identity) -> Channel {
        let config = tls::client(identity, &self.clock).unwrap();
        let settings = ChannelSettings::default();
        channel::connect(&self.url, &config, &settings)
            .await
            .unwrap()
    }

    pub(crate) async fn as_operator(&self) -> Channel {
        self.as_peer(&self.operator()).await
    }

    /// Connects as somebody who has nothing but a token.
    pub(crate) async fn as_stranger(&self) -> Channel {
        let config = tls::enrolment_client(self.ca.pin(), &self.clock).unwrap();
        let settings = ChannelSettings::default();
        channel::connect(&self.url, &config, &settings)
            .await
            .unwrap()
    }

    /// A new token's secret.
    pub(crate) async fn token(&self, request: CreateTokenRequest) -> Vec<u8> {
        let mut client = EnrolmentServiceClient::new(self.as_operator().await);
        let made = client.create_token(request).await.unwrap().into_inner();
        let token: Token = made.token.parse().unwrap();
        token.secret().to_vec()
    }

    /// Enrols over the wire, as an agent does.
    pub(crate) async fn try_enrol(
        &self,
        secret: &[u8],
        name: &str,
    ) -> Result<(PrivateKey, EnrolResponse), Status> {
        let key = PrivateKey::generate().unwrap();
        let request = EnrolRequest {
            secret: secret.to_vec(),
            name: name.to_owned(),
            kind: IdentityKind::Host.into(),
            signing_request: make_csr(&key, name).unwrap(),
        };
        let mut client = EnrolmentServiceClient::new(self.as_stranger().await);
        let response = client.enrol(request).await?.into_inner();
        Ok((key, response))
    }

    /// A host with its certificate.
    pub(crate) async fn enrol(&self, name: &str) -> Identity {
        let secret = self.token(for_hosts()).await;
        let (key, response) = self.try_enrol(&secret, name).await.unwrap();
        Identity::new(key, response.certificate_chain, response.ca).unwrap()
    }
}

/// A token for one host of any name.
pub(crate) fn for_hosts() -> CreateTokenRequest {
    CreateTokenRequest {
        kind: IdentityKind::Host.into(),
        ..CreateTokenRequest::default()
    }
}

/// A host's end of its stream.
pub(crate) struct Agent {
    says: mpsc::Sender<LinkRequest>,
    hears: Streaming<LinkResponse>,
}

impl Agent {
    /// Opens the stream and says `actual` first.
    pub(crate) async fn attach(channel: Channel, actual: ActualState) -> Result<Self, Status> {
        let request = LinkRequest {
            actual: Some(actual),
            presence: None,
        };
        Self::open(channel, request).await
    }

    /// The same with another first message.
    pub(crate) async fn open(channel: Channel, first: LinkRequest) -> Result<Self, Status> {
        let (says, said) = mpsc::channel(8);
        says.send(first).await.unwrap();
        let said = tokio_stream::wrappers::ReceiverStream::new(said);
        let mut client = AgentLinkServiceClient::new(channel);
        let hears = client.link(said).await?.into_inner();
        Ok(Self { says, hears })
    }

    pub(crate) async fn say(&self, request: LinkRequest) {
        self.says.send(request).await.unwrap();
    }

    /// The next desired state, or how the stream ended.
    pub(crate) async fn hear(&mut self) -> Result<Option<LinkResponse>, Status> {
        let heard = tokio::time::timeout(PATIENCE, self.hears.message()).await;
        heard.expect("nothing came")
    }

    /// How the stream ends, whatever comes before.
    pub(crate) async fn ends_with(&mut self) -> Status {
        loop {
            match self.hear().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("closed"),
                Err(status) => return status,
            }
        }
    }
}

/// An idle agent.
pub(crate) fn idle() -> ActualState {
    ActualState {
        state: AgentState::Idle.into(),
        since: Some(comber_model::wire::time::to_timestamp(
            Timestamp::UNIX_EPOCH,
        )),
        boot_id: "boot".to_owned(),
        agent_version: "0.1.0".to_owned(),
        ..ActualState::default()
    }
}
