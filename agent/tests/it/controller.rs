//! A controller for tests: speaks the agent's protocol over TLS on loopback, remembers what it heard, and says what the
//! test tells it to, be it nonsense.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use comber_model::{
    Assignment, Generation, Grant, Nonce, assignment::Desired, wire::desired_to_wire,
};
use comber_proto::{
    agent::v1::{
        ActualState, DesiredState, Facts, KnownPackages, LinkRequest, LinkResponse,
        ReportFactsRequest, ReportFactsResponse, ReportPackagesRequest, ReportPackagesResponse,
        agent_link_service_server::{AgentLinkService, AgentLinkServiceServer},
    },
    enrolment::v1::{
        CreateTokenRequest, CreateTokenResponse, EnrolRequest, EnrolResponse, ListTokensRequest,
        ListTokensResponse, RenewRequest, RenewResponse, RevokeCertificateRequest,
        RevokeCertificateResponse, RevokeTokenRequest, RevokeTokenResponse,
        enrolment_service_server::{EnrolmentService, EnrolmentServiceServer},
    },
};
use comber_runtime::{
    clock::Clock,
    peer::PeerIdentity,
    shutdown::{Cause, Shutdown},
    task::{self, TaskExecutor},
    tls,
    token::Token,
};
use futures_util::{Stream, StreamExt};
use http::{Uri, header, header::HeaderValue};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::SignedDuration;
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, Streaming, service::Routes};
use tower_service::Service;

use crate::{
    ca::{LONG, TestCa},
    vendor::Vendor,
};

/// Longest time that a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// What outlives a restart of the controller.
pub(crate) struct Shared {
    pub(crate) ca: TestCa,
    /// Everything received on streams, oldest first.
    received: watch::Sender<Vec<ActualState>>,
    facts: watch::Sender<Vec<Facts>>,
    /// Every call that reported packages, its parts joined.
    packages: watch::Sender<Vec<ReportPackagesRequest>>,
    /// The digest of the list that it says it holds; `None`: it takes none.
    held: Mutex<Option<Vec<u8>>>,
    desired: watch::Sender<Option<LinkResponse>>,
    /// Uses left, by secret.
    tokens: Mutex<HashMap<Vec<u8>, Rule>>,
    ttl: Mutex<SignedDuration>,
    artifacts: Mutex<HashMap<String, Bytes>>,
    /// Who signs what it hands out.
    pub(crate) vendor: Vendor,
    /// Whether enrolment hands out the vendor's root.
    pub(crate) offers_root: AtomicBool,
    /// Answers in place of the vendor's metadata, by file.
    pub(crate) lies: Mutex<HashMap<String, Lie>>,
    _dir: TempDir,
    plan: Mutex<Option<Plan>>,
    /// How many streams were opened.
    pub(crate) streams: AtomicUsize,
    /// How many renewals were answered.
    pub(crate) renewals: AtomicUsize,
}

/// What is shown in place of a metadata file.
#[derive(Clone, Debug)]
pub(crate) enum Lie {
    /// These bytes.
    Bytes(Vec<u8>),
    /// There is none.
    Gone,
    /// Bytes without end.
    Endless,
}

struct Rule {
    uses: u32,
    name: Option<String>,
}

/// What the controller wants of its one host, and how it treats it. Answers follow from this and the last state heard.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) generation: u64,
    pub(crate) assignment: Option<Assignment>,
    /// Whether each request for a permit is granted.
    pub(crate) permits: bool,
    /// Whether reports are acknowledged.
    pub(crate) acknowledges: bool,
}

impl Plan {
    fn answer(&self, actual: Option<&ActualState>) -> DesiredState {
        let nonce = actual
            .and_then(|actual| actual.attempt.as_ref())
            .map_or(0, |attempt| attempt.nonce);
        let grant = (self.permits && nonce != 0).then_some(Grant {
            nonce: Nonce(nonce),
            granted_at: jiff::Timestamp::UNIX_EPOCH,
            ttl: Duration::from_mins(1),
        });
        let reports = actual.iter().flat_map(|actual| &actual.reports);
        let acknowledged = reports.map(|report| report.number).max().unwrap_or(0);
        let desired = Desired {
            generation: Generation(self.generation),
            assignment: self.assignment.clone(),
            grant,
            acknowledged: if self.acknowledges { acknowledged } else { 0 },
        };
        desired_to_wire(EPOCH, &desired)
    }
}

/// The database of every test's controller.
pub(crate) const EPOCH: [u8; 16] = [9; 16];

impl Shared {
    fn answer(&self) {
        let plan = self.plan.lock().unwrap().clone();
        let Some(plan) = plan else { return };
        let desired = Some(plan.answer(self.received.borrow().last()));
        self.desired.send_replace(Some(LinkResponse { desired }));
    }
}

pub(crate) struct TestController {
    pub(crate) shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
    shutdown: Shutdown,
}

impl TestController {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared {
            vendor: Vendor::new(dir.path()),
            offers_root: AtomicBool::new(true),
            lies: Mutex::default(),
            _dir: dir,
            ca: TestCa::new(),
            received: watch::Sender::default(),
            facts: watch::Sender::default(),
            packages: watch::Sender::default(),
            held: Mutex::default(),
            desired: watch::Sender::default(),
            tokens: Mutex::default(),
            ttl: Mutex::new(SignedDuration::try_from(LONG).unwrap()),
            artifacts: Mutex::default(),
            plan: Mutex::default(),
            streams: AtomicUsize::default(),
            renewals: AtomicUsize::default(),
        };
        Self::start_at(Arc::new(shared), ([127, 0, 0, 1], 0).into()).await
    }

    async fn start_at(shared: Arc<Shared>, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let config = tls::server(
            &shared.ca.server(),
            std::slice::from_ref(&shared.ca.der),
            &Clock::system(),
        )
        .unwrap();
        let accepting = accept(listener, config, Arc::clone(&shared), shutdown.clone());
        task::spawn("accept", &shutdown, accepting);
        Self {
            shared,
            address,
            shutdown,
        }
    }

    pub(crate) fn url(&self) -> Uri {
        format!("https://{}", self.address).parse().unwrap()
    }

    /// Every connection breaks and nothing listens any more.
    pub(crate) async fn stop(self) -> Stopped {
        self.shutdown.trigger(Cause::Requested("test".into()));
        // The port is free once the accepting task has dropped its listener.
        tokio::task::yield_now().await;
        Stopped {
            shared: Arc::clone(&self.shared),
            address: self.address,
        }
    }

    pub(crate) fn token(&self, uses: u32, name: Option<&str>) -> Token {
        let token = Token::generate(self.shared.ca.pin()).unwrap();
        let name = name.map(str::to_owned);
        let mut tokens = self.shared.tokens.lock().unwrap();
        tokens.insert(token.secret().to_vec(), Rule { uses, name });
        token
    }

    pub(crate) fn certificates_live(&self, ttl: SignedDuration) {
        *self.shared.ttl.lock().unwrap() = ttl;
    }

    pub(crate) fn publish_artifact(&self, hex: &str, bytes: Vec<u8>) {
        let mut artifacts = self.shared.artifacts.lock().unwrap();
        artifacts.insert(hex.to_owned(), bytes.into());
    }

    /// One bit of what is sent for it is another than what was published.
    pub(crate) fn corrupt_artifact(&self, hex: &str) {
        let mut artifacts = self.shared.artifacts.lock().unwrap();
        let mut bytes = artifacts[hex].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        artifacts.insert(hex.to_owned(), bytes.into());
    }

    /// What is shown from now on in place of a metadata file.
    pub(crate) fn lie(&self, name: &str, lie: Lie) {
        self.shared
            .lies
            .lock()
            .unwrap()
            .insert(name.to_owned(), lie);
    }

    pub(crate) fn plan(&self, plan: Plan) {
        *self.shared.plan.lock().unwrap() = Some(plan);
        self.shared.answer();
    }

    pub(crate) fn desire(&self, desired: DesiredState) {
        self.say(LinkResponse {
            desired: Some(desired),
        });
    }

    pub(crate) fn say(&self, response: LinkResponse) {
        self.shared.desired.send_replace(Some(response));
    }

    pub(crate) fn received(&self) -> Vec<ActualState> {
        self.shared.received.borrow().clone()
    }

    /// Waits for a state that passes, among all that were and will be received from number `from` on.
    #[track_caller]
    pub(crate) fn heard(
        &self,
        what: &'static str,
        from: usize,
        passes: impl Fn(&ActualState) -> bool,
    ) -> impl Future<Output = ActualState> {
        let mut received = self.shared.received.subscribe();
        async move {
            let waiting = received.wait_for(|all| all.iter().skip(from).any(&passes));
            let found = tokio::time::timeout(PATIENCE, waiting).await.map(drop);
            let all = received.borrow().clone();
            assert!(found.is_ok(), "never heard: {what}; heard {all:#?}");
            all.into_iter().skip(from).find(passes).unwrap()
        }
    }

    pub(crate) async fn facts(&self, count: usize) -> Vec<Facts> {
        let mut facts = self.shared.facts.subscribe();
        let waiting = facts.wait_for(|all| all.len() >= count);
        let all = tokio::time::timeout(PATIENCE, waiting).await;
        all.expect("facts are reported").unwrap().clone()
    }

    /// What it says that it holds, from the next stream on.
    pub(crate) fn hold(&self, digest: &[u8]) {
        *self.shared.held.lock().unwrap() = Some(digest.to_vec());
    }

    pub(crate) async fn packages(&self, count: usize) -> Vec<ReportPackagesRequest> {
        let mut packages = self.shared.packages.subscribe();
        let waiting = packages.wait_for(|all| all.len() >= count);
        let all = tokio::time::timeout(PATIENCE, waiting).await;
        all.expect("packages are reported").unwrap().clone()
    }

    pub(crate) fn packages_so_far(&self) -> usize {
        self.shared.packages.borrow().len()
    }

    pub(crate) fn facts_so_far(&self) -> usize {
        self.shared.facts.borrow().len()
    }

    pub(crate) fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::SeqCst)
    }
}

impl Drop for TestController {
    fn drop(&mut self) {
        self.shutdown.trigger(Cause::Requested("test over".into()));
    }
}

/// A controller that is down; its address and memory are kept.
pub(crate) struct Stopped {
    pub(crate) shared: Arc<Shared>,
    address: SocketAddr,
}

impl Stopped {
    pub(crate) async fn start(self) -> TestController {
        TestController::start_at(self.shared, self.address).await
    }
}

async fn accept(
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = shutdown.wait() => return,
        };
        let serving = serve(
            stream,
            Arc::clone(&config),
            Arc::clone(&shared),
            shutdown.clone(),
        );
        let until = shutdown.clone();
        task::spawn("connection", &shutdown, async move {
            tokio::select! {
                () = serving => {}
                _ = until.wait() => {}
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) {
    let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await else {
        return;
    };
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let peer = certificate.map(|der| PeerIdentity::from_certificate(der).unwrap());
    let http2 = connection.alpn_protocol() == Some(tls::ALPN_H2);
    let io = TokioIo::new(stream);
    if http2 {
        let service = GrpcService { shared, peer };
        let routes = Routes::new(AgentLinkServiceServer::new(service.clone()))
            .add_service(EnrolmentServiceServer::new(service));
        let answer = service_fn(move |request| routes.clone().call(request));
        // A connection that breaks is part of the tests.
        let _ = hyper::server::conn::http2::Builder::new(TaskExecutor::new("stream", &shutdown))
            .serve_connection(io, answer)
            .await;
    } else {
        let answer = service_fn(move |request| {
            let answer = artifact(&shared, peer.as_ref(), &request);
            async move { Ok::<_, std::io::Error>(answer) }
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(io, answer)
            .await;
    }
}

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// `GET /v1/metadata/<name>`.
fn metadata(shared: &Shared, name: &str) -> http::Response<Body> {
    let lie = shared.lies.lock().unwrap().get(name).cloned();
    let body = match lie {
        Some(Lie::Bytes(bytes)) => Some(full(bytes)),
        Some(Lie::Gone) => None,
        Some(Lie::Endless) => {
            let piece = Bytes::from(vec![b' '; 64 << 10]);
            let pieces = futures_util::stream::repeat_with(move || Ok(Frame::data(piece.clone())));
            Some(StreamBody::new(pieces).boxed_unsync())
        }
        None => std::fs::read(shared.vendor.metadata().join(name))
            .ok()
            .map(full),
    };
    match body {
        Some(body) => http::Response::new(body),
        None => gone(),
    }
}

fn gone() -> http::Response<Body> {
    let answer = http::Response::builder().status(404);
    answer.body(full(Bytes::new())).unwrap()
}

/// `GET /v1/artifacts/<hex>`, with `Range: bytes=N-`.
fn artifact(
    shared: &Shared,
    peer: Option<&PeerIdentity>,
    request: &http::Request<hyper::body::Incoming>,
) -> http::Response<Body> {
    if let (Some(name), Some(PeerIdentity::Host(_))) =
        (request.uri().path().strip_prefix("/v1/metadata/"), peer)
    {
        return metadata(shared, name);
    }
    let hex = request.uri().path().strip_prefix("/v1/artifacts/");
    let bytes = hex.and_then(|hex| shared.artifacts.lock().unwrap().get(hex).cloned());
    let (Some(bytes), Some(PeerIdentity::Host(_))) = (bytes, peer) else {
        return gone();
    };
    let range = request.headers().get(header::RANGE);
    let from = range
        .and_then(|range| {
            range
                .to_str()
                .ok()?
                .strip_prefix("bytes=")?
                .strip_suffix('-')
        })
        .map_or(0, |from| from.parse::<usize>().unwrap());
    let total = bytes.len();
    let mut answer = http::Response::new(full(bytes.slice(from..)));
    if range.is_some() {
        *answer.status_mut() = http::StatusCode::PARTIAL_CONTENT;
        let sent = format!("bytes {from}-{}/{total}", total - 1);
        let sent = HeaderValue::from_str(&sent).unwrap();
        answer.headers_mut().insert(header::CONTENT_RANGE, sent);
    }
    answer
}

#[derive(Clone)]
struct GrpcService {
    shared: Arc<Shared>,
    peer: Option<PeerIdentity>,
}

impl GrpcService {
    fn host(&self) -> Result<String, Status> {
        match &self.peer {
            Some(PeerIdentity::Host(name)) => Ok(name.clone()),
            Some(PeerIdentity::Operator(_)) | None => Err(Status::unauthenticated("hosts only")),
        }
    }
}

#[tonic::async_trait]
impl AgentLinkService for GrpcService {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<LinkResponse, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        self.host()?;
        self.shared.streams.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        let up = request.into_inner().filter_map(move |message| {
            let actual = message.ok().and_then(|message| message.actual);
            if let Some(actual) = actual {
                shared.received.send_modify(|all| all.push(actual));
                shared.answer();
            }
            std::future::ready(None)
        });
        let down = WatchStream::new(self.shared.desired.subscribe());
        let mut held = self.shared.held.lock().unwrap().clone();
        let down = down.filter_map(move |response| {
            let response = response.map(|mut response: LinkResponse| {
                if let Some(desired) = &mut response.desired {
                    desired.packages = held.take().map(|digest| KnownPackages { digest });
                }
                Ok(response)
            });
            std::future::ready(response)
        });
        Ok(Response::new(Box::pin(futures_util::stream::select(
            up, down,
        ))))
    }

    async fn report_packages(
        &self,
        request: Request<Streaming<ReportPackagesRequest>>,
    ) -> Result<Response<ReportPackagesResponse>, Status> {
        self.host()?;
        let mut parts = request.into_inner();
        let mut whole = ReportPackagesRequest::default();
        while let Some(part) = parts.message().await? {
            whole.change = whole.change.or(part.change);
            whole.removed.extend(part.removed);
            whole.added.extend(part.added);
        }
        let change = whole.change.clone().unwrap();
        self.shared.packages.send_modify(|all| all.push(whole));
        let mut held = self.shared.held.lock().unwrap();
        if change.base.is_empty() || held.as_ref() == Some(&change.base) {
            *held = Some(change.result);
        }
        let digest = held.clone().unwrap_or_default();
        Ok(Response::new(ReportPackagesResponse { digest }))
    }

    async fn report_facts(
        &self,
        request: Request<ReportFactsRequest>,
    ) -> Result<Response<ReportFactsResponse>, Status> {
        self.host()?;
        let facts = request.into_inner().facts.unwrap();
        self.shared.facts.send_modify(|all| all.push(facts));
        Ok(Response::new(ReportFactsResponse {}))
    }
}

#[tonic::async_trait]
impl EnrolmentService for GrpcService {
    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let request = request.into_inner();
        let mut tokens = self.shared.tokens.lock().unwrap();
        let rule = tokens.get_mut(&request.secret);
        let rule = rule.filter(|rule| rule.uses > 0);
        let rule = rule.ok_or_else(|| Status::unauthenticated("no such token"))?;
        if rule.name.as_ref().is_some_and(|name| *name != request.name) {
            return Err(Status::permission_denied("the name is not allowed"));
        }
        rule.uses -= 1;
        let ttl = *self.shared.ttl.lock().unwrap();
        let ca = &self.shared.ca;
        Ok(Response::new(EnrolResponse {
            certificate_chain: ca.issue_host(&request.signing_request, &request.name, ttl),
            ca: ca.pem.clone(),
            release_root: if self.shared.offers_root.load(Ordering::SeqCst) {
                self.shared.vendor.root()
            } else {
                String::new()
            },
        }))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let host = self.host()?;
        self.shared.renewals.fetch_add(1, Ordering::SeqCst);
        let ttl = *self.shared.ttl.lock().unwrap();
        let (ca, request) = (&self.shared.ca, request.into_inner());
        Ok(Response::new(RenewResponse {
            certificate_chain: ca.issue_host(&request.signing_request, &host, ttl),
            ca: ca.pem.clone(),
        }))
    }

    async fn create_token(
        &self,
        _: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        Err(Status::permission_denied("operators only"))
    }

    async fn list_tokens(
        &self,
        _: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        Err(Status::permission_denied("operators only"))
    }

    async fn revoke_certificate(
        &self,
        _: Request<RevokeCertificateRequest>,
    ) -> Result<Response<RevokeCertificateResponse>, Status> {
        Err(Status::permission_denied("operators only"))
    }

    async fn revoke_token(
        &self,
        _: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        Err(Status::permission_denied("operators only"))
    }
}
