//! The port before any request: certificates, renewal, and peers that speak something else.

use std::time::Duration;

use comber_controller::pki::Ca;
use comber_proto::host::v1::ListHostsRequest;
use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_runtime::channel::{self, ChannelSettings, dial};
use comber_runtime::identity::{CertificateFacts, Identity, PrivateKey, make_csr};
use comber_runtime::tls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::port::{PATIENCE, Port};

async fn served(port: &Port, identity: &Identity) -> String {
    let config = tls::client(identity, &port.clock).unwrap();
    let stream = dial(&port.url, config, PATIENCE).await.unwrap();
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    CertificateFacts::from_der(&chain[0]).unwrap().serial
}

#[tokio::test]
async fn the_servers_certificate_is_renewed_while_connections_go_on() {
    let mut port = Port::open().await;
    let identity = port.operator();
    let mut open = HostServiceClient::new(port.as_peer(&identity).await);
    let before = served(&port, &identity).await;
    port.certificate.renew(port.clock.wall()).unwrap();
    let after = served(&port, &identity).await;
    assert_ne!(before, after);
    assert_eq!(port.certificate.facts().serial, after);
    open.list_hosts(ListHostsRequest::default()).await.unwrap();
}

/// Waits until a refusal with this word is counted.
async fn counted(port: &Port, word: &str) {
    // It is there from its first count on; a client that tries again is counted again.
    let line = format!("comber_connections_refused_total{{reason=\"{word}\"}} ");
    let waiting = async {
        while !port.scrape().contains(&line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(in_time.is_ok(), "no {line} in {}", port.scrape());
}

/// Calls with an identity that is refused.
async fn call(port: &Port, identity: &Identity) {
    let config = tls::client(identity, &port.clock).unwrap();
    let settings = ChannelSettings::default();
    // In TLS 1.3 the client's handshake can end before the server's does: the first call fails then.
    if let Ok(channel) = channel::connect(&port.url, &config, &settings).await {
        let mut hosts = HostServiceClient::new(channel);
        let called = hosts.list_hosts(ListHostsRequest::default()).await;
        called.unwrap_err();
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_and_counted() {
    let port = Port::open().await;
    let other = Ca::load_or_create(&port.dir.path().join("other"), port.clock.wall()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let request = make_csr(&key, "ada").unwrap();
    let life = Duration::from_hours(1);
    let issued = other.issue_operator(&request, "ada", life, port.clock.wall());
    let ca = port.ca.certificate_pem().to_owned();
    let foreign = Identity::new(key, issued.unwrap().chain_pem, ca).unwrap();
    call(&port, &foreign).await;
    counted(&port, "certificate_refused").await;
}

#[tokio::test]
async fn a_certificate_that_is_over_is_refused_and_counted() {
    let mut port = Port::open().await;
    let identity = port.operator();
    port.hand.advance(Duration::from_hours(23));
    port.certificate.renew(port.clock.wall()).unwrap();
    let mut hosts = HostServiceClient::new(port.as_peer(&identity).await);
    let all = ListHostsRequest::default;
    hosts.list_hosts(all()).await.unwrap();
    port.hand.advance(Duration::from_hours(2));
    call(&port, &identity).await;
    counted(&port, "certificate_expired").await;
}

#[tokio::test]
async fn plain_text_and_silence_do_not_disturb_the_port() {
    let port = Port::open().await;
    let address = format!("localhost:{}", port.url.port_u16().unwrap());
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // Whatever it says, it ends.
    let _ended = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer))
        .await
        .unwrap();
    counted(&port, "not_tls").await;
    drop(TcpStream::connect(&address).await.unwrap());
    counted(&port, "hung_up").await;
    let silent = TcpStream::connect(&address).await.unwrap();
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    hosts.list_hosts(ListHostsRequest::default()).await.unwrap();
    drop(silent);
}
