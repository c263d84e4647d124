//! Revocation and the end of certificates: what is open is cut, what comes is refused, on every way in.

use std::time::Duration;

use comber_proto::agent::v1::agent_link_service_client::AgentLinkServiceClient;
use comber_proto::agent::v1::{Facts, ReportFactsRequest};
use comber_proto::enrolment::v1::enrolment_service_client::EnrolmentServiceClient;
use comber_proto::enrolment::v1::{RenewRequest, RevokeCertificateRequest};
use comber_proto::event::v1::WatchEventsRequest;
use comber_proto::event::v1::event_service_client::EventServiceClient;
use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_proto::host::v1::{ListHostsRequest, RevokeHostRequest};
use comber_runtime::channel::dial;
use comber_runtime::clock::Clock;
use comber_runtime::identity::{Identity, PrivateKey, make_csr};
use comber_runtime::tls;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::artifacts::{Bundle, assigned, get};
use crate::port::{Agent, LIFE, PATIENCE, Port, idle};

async fn revoke(port: &Port, id: &str) {
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    let request = RevokeHostRequest {
        id: id.to_owned(),
        reason: "its disk was stolen".to_owned(),
    };
    let answer = hosts.revoke_host(request).await.unwrap().into_inner();
    let bar = answer.host.unwrap().bar.unwrap();
    assert_eq!(bar.detail, "revoked by ada: its disk was stolen");
}

async fn renew(channel: Channel, name: &str) -> Result<(), Status> {
    let key = PrivateKey::generate().unwrap();
    let request = RenewRequest {
        signing_request: make_csr(&key, name).unwrap(),
    };
    let mut client = EnrolmentServiceClient::new(channel);
    client.renew(request).await.map(drop)
}

async fn report_facts(channel: Channel) -> Result<(), Status> {
    let facts = Some(Facts::default());
    let mut client = AgentLinkServiceClient::new(channel);
    client
        .report_facts(ReportFactsRequest { facts })
        .await
        .map(drop)
}

/// A download that took its first bytes and reads no more for now.
struct Download(tokio_rustls::client::TlsStream<tokio::net::TcpStream>);

impl Download {
    async fn begin(port: &Port, identity: &Identity, path: &str) -> Self {
        let mut config = (*tls::client(identity, &port.clock).unwrap()).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut stream = dial(&port.url, std::sync::Arc::new(config), PATIENCE)
            .await
            .unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        Self(stream)
    }

    /// Reads until the connection ends; gives how many bytes came.
    async fn drain(mut self) -> usize {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        // An end without goodbye is one.
        let _cut = read.expect("the connection is still open");
        rest.len()
    }
}

#[tokio::test]
async fn a_revoked_host_is_cut_off_at_once_and_refused_everywhere() {
    let port = Port::open().await;
    // More than what the kernel's buffers on both sides take.
    let bundle = Bundle::large(&port, "1", 24 << 20);
    bundle.publish(port.as_operator().await).await;
    let identity = port.enrol("web-1").await;
    let channel = port.as_peer(&identity).await;
    let mut agent = Agent::attach(channel.clone(), idle()).await.unwrap();
    assigned(&port, &mut agent, "app@1").await;
    let path = bundle.path();
    assert_eq!(
        get(&port, &identity, &path, Some("bytes=0-9"))
            .await
            .status(),
        StatusCode::PARTIAL_CONTENT
    );
    let download = Download::begin(&port, &identity, &path).await;

    let watch = Clock::system();
    let begun = watch.boot();
    revoke(&port, "web-1").await;
    let ended = agent.ends_with().await;
    let took = watch.boot().saturating_sub(begun);
    println!("from the command to the end of the stream: {took:?}");
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended}");
    assert!(ended.message().contains("was revoked"), "{ended}");
    let came = download.drain().await;
    assert!(came < bundle.bytes.len(), "the whole artifact came");

    for refused in [
        report_facts(channel.clone()).await.unwrap_err(),
        report_facts(port.as_peer(&identity).await)
            .await
            .unwrap_err(),
        renew(port.as_peer(&identity).await, "web-1")
            .await
            .unwrap_err(),
        Agent::attach(port.as_peer(&identity).await, idle())
            .await
            .err()
            .unwrap(),
    ] {
        let is_told = refused.message().contains("was revoked");
        let is_cut = refused.code() == Code::Unavailable || refused.code() == Code::Unknown;
        assert!(is_told || is_cut, "{refused}");
    }
    let unread = get(&port, &identity, &path, Some("bytes=0-9")).await;
    assert_eq!(unread.status(), StatusCode::FORBIDDEN);
    let text = port.scrape();
    for line in [
        "comber_hosts_barred{state=\"revoked\"} 1",
        "comber_connections_cut_total{reason=\"barred\"}",
        "comber_streams 0",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }

    // The same name enrols again, within the same second even, and only what it got then is let in.
    let renewed = port.enrol("web-1").await;
    let mut agent = Agent::attach(port.as_peer(&renewed).await, idle())
        .await
        .unwrap();
    agent.hear().await.unwrap();
    let refused = report_facts(port.as_peer(&identity).await)
        .await
        .unwrap_err();
    assert!(refused.message().contains("was revoked"), "{refused}");
}

#[tokio::test]
async fn an_operators_certificate_is_revoked_by_its_number_and_what_it_watches_ends() {
    let port = Port::open().await;
    let thief = port.operator();
    let channel = port.as_peer(&thief).await;
    let watch = WatchEventsRequest {
        follow: true,
        ..WatchEventsRequest::default()
    };
    let mut events = EventServiceClient::new(channel.clone());
    let mut watched = events.watch_events(watch).await.unwrap().into_inner();
    let mut client = EnrolmentServiceClient::new(port.as_operator().await);
    let wrong = RevokeCertificateRequest {
        serial: "nothing".to_owned(),
    };
    let refused = client.revoke_certificate(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let request = RevokeCertificateRequest {
        serial: thief.facts().serial.to_uppercase(),
    };
    client.revoke_certificate(request).await.unwrap();
    let ending = async { while let Ok(Some(_)) = watched.message().await {} };
    let ended = tokio::time::timeout(PATIENCE, ending).await;
    assert!(ended.is_ok(), "the events still come");
    let mut hosts = HostServiceClient::new(port.as_peer(&thief).await);
    let refused = hosts.list_hosts(ListHostsRequest::default()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    // Another certificate of the same person is another.
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    hosts.list_hosts(ListHostsRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_stream_ends_with_its_certificate() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let channel = port.as_peer(&identity).await;
    let mut agent = Agent::attach(channel.clone(), idle()).await.unwrap();
    agent.hear().await.unwrap();
    port.hand.advance(LIFE + Duration::from_secs(1));
    agent.ends_with().await;
    let refused = report_facts(channel).await.unwrap_err();
    assert_ne!(refused.code(), Code::Ok, "{refused}");
    assert!(
        port.scrape()
            .contains("comber_connections_cut_total{reason=\"expired\"} 1"),
        "{}",
        port.scrape()
    );
}

#[tokio::test]
async fn a_host_reads_neither_what_another_shall_install_nor_what_nobody_shall() {
    let port = Port::open().await;
    let (one, two) = (Bundle::build(&port, "1"), Bundle::build(&port, "2"));
    for bundle in [&one, &two] {
        bundle.publish(port.as_operator().await).await;
    }
    let (web, db) = (port.enrol("web-1").await, port.enrol("db-1").await);
    let mut agent = Agent::attach(port.as_peer(&web).await, idle())
        .await
        .unwrap();
    let spec = "release = \"app@1\"\nselector = 'host == \"web-1\"'\n[[wave]]\nhosts = \"rest\"\n";
    crate::artifacts::assigned_by(&port, &mut agent, spec).await;
    let status = async |identity: &Identity, bundle: &Bundle| {
        get(&port, identity, &bundle.path(), None).await.status()
    };
    assert_eq!(status(&web, &one).await, StatusCode::OK);
    assert_eq!(status(&db, &one).await, StatusCode::FORBIDDEN);
    assert_eq!(status(&web, &two).await, StatusCode::FORBIDDEN);
    // Nothing tells a host whether an artifact that is not its own is there.
    let nothing = format!("/v1/artifacts/{}", "0".repeat(64));
    assert_eq!(
        get(&port, &db, &nothing, None).await.body(),
        get(&port, &db, &one.path(), None).await.body()
    );
}
