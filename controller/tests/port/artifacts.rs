//! Uploads over gRPC, and what is read back over HTTP/1.1.

use std::fs;

use bytes::Bytes;
use comber_bundle::Built;
use comber_proto::release::v1::release_service_client::ReleaseServiceClient;
use comber_proto::release::v1::{
    DeleteReleaseRequest, PublishReleaseRequest, StatUploadRequest, UploadRequest, UploadStart,
};
use comber_proto::rollout::v1::rollout_service_client::RolloutServiceClient;
use comber_proto::rollout::v1::{CreateRolloutRequest, StartRolloutRequest};
use comber_proto::trust::v1::trust_service_client::TrustServiceClient;
use comber_proto::trust::v1::{ImportRepositoryRequest, ImportRepositoryResponse, ImportStart};
use comber_runtime::channel::dial;
use comber_runtime::clock::Clock;
use comber_runtime::identity::Identity;
use comber_runtime::shutdown::Shutdown;
use comber_runtime::{task, tls};
use comber_trust::publisher::Publisher;
use comber_trust::{Signed, dev};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::ClientConfig;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::port::{Agent, MAX_SIZE, PATIENCE, Port, idle};

/// A built release.
pub(crate) struct Bundle {
    pub(crate) digest: [u8; 32],
    pub(crate) bytes: Vec<u8>,
    repository: PathBuf,
}

impl Bundle {
    pub(crate) fn build(port: &Port, version: &str) -> Self {
        Self::large(port, version, 160_000)
    }

    /// With a member of so many bytes.
    pub(crate) fn large(port: &Port, version: &str, bytes: u32) -> Self {
        let source = port.dir.path().join(format!("source-{version}"));
        fs::create_dir_all(source.join("files")).unwrap();
        // Not to be compressed, so that ranges have something to cut.
        let data: Vec<u8> = (0..bytes / 4)
            .flat_map(|i| i.wrapping_mul(0x9E37_79B1).to_be_bytes())
            .collect();
        fs::write(source.join("files/data"), data).unwrap();
        let manifest = format!(
            "name = \"app\"\nversion = \"{version}\"\n[installer]\ntype = \"archive\"\npath = \"/opt/app\"\n"
        );
        fs::write(source.join("release.toml"), manifest).unwrap();
        let out = port.dir.path().join(format!("app-{version}.comber"));
        let built = comber_bundle::build(&source, &out, &mut |_| {}).unwrap();
        let repository = port.dir.path().join("repository");
        list(&repository, &built, port.clock.wall());
        Self {
            digest: built.artifact.digest.0,
            bytes: fs::read(out).unwrap(),
            repository,
        }
    }

    /// Has the controller verify and keep what the publisher lists.
    pub(crate) async fn import(&self, channel: Channel) -> Result<(), Status> {
        import(&self.repository, channel, true).await.map(drop)
    }

    pub(crate) fn path(&self) -> String {
        format!("/v1/artifacts/{}", comber_model::Digest(self.digest))
    }

    /// Sends bytes of an upload that is `length` long.
    async fn send(&self, channel: Channel, offset: u64, bytes: &[u8]) -> Result<u64, Status> {
        let start = UploadStart {
            digest: self.digest.to_vec(),
            carried_length: self.bytes.len() as u64,
            offset,
        };
        let mut pieces: Vec<UploadRequest> = bytes
            .chunks(16 << 10)
            .map(|data| UploadRequest {
                start: None,
                data: data.to_vec(),
            })
            .collect();
        pieces.insert(
            0,
            UploadRequest {
                start: Some(start),
                data: Vec::new(),
            },
        );
        let mut client = ReleaseServiceClient::new(channel);
        let response = client.upload(tokio_stream::iter(pieces)).await?;
        Ok(response.into_inner().received)
    }

    async fn stat(&self, channel: Channel) -> (u64, bool) {
        let request = StatUploadRequest {
            digest: self.digest.to_vec(),
            carried_length: self.bytes.len() as u64,
        };
        let mut client = ReleaseServiceClient::new(channel);
        let stat = client.stat_upload(request).await.unwrap().into_inner();
        (stat.received, stat.complete)
    }

    async fn finish(&self, channel: Channel) -> Result<bool, Status> {
        self.import(channel.clone()).await?;
        let request = PublishReleaseRequest {
            digest: self.digest.to_vec(),
        };
        let mut client = ReleaseServiceClient::new(channel);
        Ok(client.publish_release(request).await?.into_inner().already)
    }

    pub(crate) async fn publish(&self, channel: Channel) {
        self.send(channel.clone(), 0, &self.bytes).await.unwrap();
        self.finish(channel).await.unwrap();
    }
}

/// The publisher lists a bundle.
fn list(repository: &Path, built: &Built, now: Timestamp) {
    let now = now.max(Clock::system().wall());
    let publisher = Publisher::open(repository, dev::lives(), now).unwrap();
    let tar = repository.join("decoded");
    comber_bundle::decode(&built.path, &built.artifact, &tar).unwrap();
    let id = built.listing.manifest().id();
    let counter = publisher.next_counter(&id.name).unwrap();
    let signed = Signed {
        product: id.name,
        version: id.version,
        counter,
        platforms: None,
        min_agent: None,
        min_from: None,
        rollback_ok: true,
    };
    publisher.add(&tar, signed).unwrap();
    dev::publish(repository, now).unwrap();
}

/// Sends what a repository's directory publishes.
pub(crate) async fn import(
    repository: &Path,
    channel: Channel,
    pin: bool,
) -> Result<ImportRepositoryResponse, Status> {
    let mut pieces = vec![ImportRepositoryRequest {
        start: Some(ImportStart { pin }),
        ..ImportRepositoryRequest::default()
    }];
    for entry in fs::read_dir(repository.join("metadata")).unwrap() {
        let entry = entry.unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        pieces.extend(bytes.chunks(700).map(|data| ImportRepositoryRequest {
            start: None,
            name: entry.file_name().into_string().unwrap(),
            data: data.to_vec(),
        }));
    }
    let mut client = TrustServiceClient::new(channel);
    let answer = client.import_repository(tokio_stream::iter(pieces)).await;
    answer.map(tonic::Response::into_inner)
}

/// One request over HTTP/1.1.
pub(crate) async fn ask(
    port: &Port,
    config: Arc<ClientConfig>,
    method: Method,
    path: &str,
    headers: &[(header::HeaderName, &str)],
) -> Response<Bytes> {
    let mut config = (*config).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = dial(&port.url, Arc::new(config), PATIENCE).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    task::spawn("client", &Shutdown::new(), connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost");
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(parts, body)
}

pub(crate) async fn get(
    port: &Port,
    identity: &Identity,
    path: &str,
    range: Option<&str>,
) -> Response<Bytes> {
    let config = tls::client(identity, &port.clock).unwrap();
    let headers: Vec<_> = range
        .map(|range| (header::RANGE, range))
        .into_iter()
        .collect();
    ask(port, config, Method::GET, path, &headers).await
}

/// Starts a rollout of a release to every host, and waits until this one has its assignment.
pub(crate) async fn assigned(port: &Port, agent: &mut Agent, release: &str) {
    let spec =
        format!("release = \"{release}\"\nselector = \"true\"\n[[wave]]\nhosts = \"rest\"\n");
    assigned_by(port, agent, &spec).await;
}

/// The same by the text of a rollout.
pub(crate) async fn assigned_by(port: &Port, agent: &mut Agent, spec: &str) {
    let mut rollouts = RolloutServiceClient::new(port.as_operator().await);
    let create = CreateRolloutRequest {
        spec: spec.to_owned(),
    };
    let made = rollouts.create_rollout(create).await.unwrap();
    let made = made.into_inner().rollout.unwrap();
    let start = StartRolloutRequest {
        id: made.id.clone(),
    };
    rollouts.start_rollout(start).await.unwrap();
    loop {
        let desired = agent.hear().await.unwrap().unwrap().desired.unwrap();
        if let Some(assignment) = desired.assignment {
            assert_eq!(
                (assignment.rollout, assignment.release),
                (made.id, made.release)
            );
            return;
        }
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_it_stood_and_is_published_once() {
    let port = Port::open().await;
    let (bundle, channel) = (Bundle::build(&port, "1"), port.as_operator().await);
    let (half, length) = (bundle.bytes.len() / 2, bundle.bytes.len() as u64);
    assert_eq!(bundle.stat(channel.clone()).await, (0, false));
    let received = bundle
        .send(channel.clone(), 0, &bundle.bytes[..half])
        .await
        .unwrap();
    assert_eq!(received, half as u64);
    let early = bundle.finish(channel.clone()).await.unwrap_err();
    assert_eq!(early.code(), Code::InvalidArgument, "{early}");
    // What can never become right was thrown away.
    assert_eq!(bundle.stat(channel.clone()).await, (0, false));
    bundle
        .send(channel.clone(), 0, &bundle.bytes[..half])
        .await
        .unwrap();
    let wrong = bundle
        .send(channel.clone(), 1, &bundle.bytes[1..])
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Code::FailedPrecondition, "{wrong}");
    let (there, _) = bundle.stat(channel.clone()).await;
    assert_eq!(there, half as u64);
    bundle
        .send(channel.clone(), there, &bundle.bytes[half..])
        .await
        .unwrap();
    assert!(!bundle.finish(channel.clone()).await.unwrap());
    assert_eq!(bundle.stat(channel.clone()).await, (length, true));
    assert!(
        bundle.finish(channel.clone()).await.unwrap(),
        "not told that it was there"
    );
    let text = port.scrape();
    assert!(
        text.contains("comber_uploads_total{result=\"received\"} 3"),
        "{text}"
    );
}

#[tokio::test]
async fn uploads_that_cannot_be_good_are_refused() {
    let port = Port::open().await;
    let (bundle, channel) = (Bundle::build(&port, "1"), port.as_operator().await);
    let mut altered = bundle.bytes.clone();
    altered[1000] ^= 1;
    bundle.send(channel.clone(), 0, &altered).await.unwrap();
    let refused = bundle.finish(channel.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let longer = [&bundle.bytes[..], b"more"].concat();
    let refused = bundle.send(channel.clone(), 0, &longer).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let mut client = ReleaseServiceClient::new(channel.clone());
    let stat = StatUploadRequest {
        digest: vec![1; 32],
        carried_length: MAX_SIZE + 1,
    };
    let refused = client.stat_upload(stat).await.unwrap_err();
    assert!(
        refused.message().contains("artifacts.max_size"),
        "{refused}"
    );
    let stat = StatUploadRequest {
        digest: vec![1; 31],
        carried_length: 1,
    };
    let refused = client.stat_upload(stat).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let unnamed = UploadRequest {
        start: None,
        data: vec![1],
    };
    let refused = client
        .upload(tokio_stream::once(unnamed))
        .await
        .unwrap_err();
    assert!(refused.message().starts_with("start"), "{refused}");
    let refused = bundle.finish(channel).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test]
async fn an_operator_reads_artifacts_whole_and_in_parts() {
    let port = Port::open().await;
    let bundle = Bundle::build(&port, "1");
    bundle.publish(port.as_operator().await).await;
    let (ada, path, length) = (port.operator(), bundle.path(), bundle.bytes.len());
    let whole = get(&port, &ada, &path, None).await;
    assert_eq!(
        (
            whole.status(),
            whole.headers()[header::ACCEPT_RANGES].as_bytes()
        ),
        (StatusCode::OK, &b"bytes"[..])
    );
    assert!(whole.body() == &bundle.bytes, "other bytes");
    let cut = get(&port, &ada, &path, Some("bytes=1000-1999")).await;
    assert_eq!(cut.status(), StatusCode::PARTIAL_CONTENT);
    assert!(cut.body() == &bundle.bytes[1000..2000], "other bytes");
    let told = cut.headers()[header::CONTENT_RANGE].to_str().unwrap();
    assert_eq!(told, format!("bytes 1000-1999/{length}"));
    let rest = get(&port, &ada, &path, Some("bytes=100000-")).await;
    assert!(rest.body() == &bundle.bytes[100_000..], "other bytes");
    let beyond = get(&port, &ada, &path, Some(&format!("bytes={length}-"))).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(
        beyond.headers()[header::CONTENT_RANGE],
        format!("bytes */{length}").as_str()
    );
    let config = tls::client(&ada, &port.clock).unwrap();
    let head = ask(&port, config, Method::HEAD, &path, &[]).await;
    assert_eq!(
        head.headers()[header::CONTENT_LENGTH],
        length.to_string().as_str()
    );
    assert_eq!(head.headers()[header::ETAG], whole.headers()[header::ETAG]);
    assert!(head.body().is_empty());
    let sent = format!(
        "comber_artifact_sent_bytes_total {}",
        length + 1000 + length - 100_000
    );
    assert!(
        port.scrape().contains(&sent),
        "{sent} not in {}",
        port.scrape()
    );
}

#[tokio::test]
async fn what_is_no_artifact_is_told_as_it_is() {
    let port = Port::open().await;
    let ada = port.operator();
    let config = tls::client(&ada, &port.clock).unwrap();
    let nothing = format!("/v1/artifacts/{}", "0".repeat(64));
    for path in [
        "/",
        "/v1/artifacts/",
        "/v1/artifacts/../../pki/ca.key",
        "/v1/artifacts/zz",
        &nothing,
    ] {
        let answer = get(&port, &ada, path, None).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(!answer.body().is_empty(), "{path}");
    }
    let answer = ask(&port, config, Method::DELETE, &nothing, &[]).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()[header::ALLOW], "GET, HEAD");
}

#[tokio::test]
async fn a_host_reads_only_what_it_shall_install() {
    let port = Port::open().await;
    let operator = port.as_operator().await;
    let (one, two) = (Bundle::build(&port, "1"), Bundle::build(&port, "2"));
    one.publish(operator.clone()).await;
    two.publish(operator.clone()).await;
    let identity = port.enrol("web-1").await;
    let mut agent = Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    agent.hear().await.unwrap();
    let early = get(&port, &identity, &one.path(), None).await;
    assert_eq!(early.status(), StatusCode::FORBIDDEN);

    assigned(&port, &mut agent, "app@1").await;
    let cut = get(&port, &identity, &one.path(), Some("bytes=5-9")).await;
    assert!(cut.body() == &one.bytes[5..10], "other bytes");
    let other = get(&port, &identity, &two.path(), None).await;
    assert_eq!(other.status(), StatusCode::FORBIDDEN);
    let stranger = tls::enrolment_client(port.ca.pin(), &port.clock).unwrap();
    let refused = ask(&port, stranger, Method::GET, &one.path(), &[]).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);

    let mut releases = ReleaseServiceClient::new(operator);
    let needed = DeleteReleaseRequest {
        id: "app@1".to_owned(),
    };
    let refused = releases.delete_release(needed).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let free = DeleteReleaseRequest {
        id: "app@2".to_owned(),
    };
    releases.delete_release(free).await.unwrap();
    let gone = get(&port, &port.operator(), &two.path(), None).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
}
