//! Whom the two ends accept, tried by real handshakes on loopback with certificates of the real CA.
//!
//! Every connection is made in both directions to the first byte: with TLS 1.3 a client learns only then that its own
//! certificate was refused.

use std::{io, path::Path, sync::Arc, time::Duration};

use comber_runtime::{
    channel::{ConnectError, dial},
    clock::{Clock, ManualClock},
    identity::{Identity, PrivateKey, make_csr},
    peer::PeerIdentity,
    tls::{self, Pin, ServerCertificate, certified_key, explain},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

const DAY: Duration = Duration::from_hours(24);
const MINUTE: Duration = Duration::from_mins(1);

/// A controller with its CA and a clock that the test holds.
struct Site {
    ca: Arc<Ca>,
    clock: Clock,
    hand: ManualClock,
    serving: RenewingCertificate,
    _dir: tempfile::TempDir,
}

/// What each end says about one connection.
struct Outcome {
    /// The server's certificate as the client saw it.
    client: Result<CertificateDer<'static>, String>,
    /// Whom the server saw.
    server: Result<Option<PeerIdentity>, String>,
}

impl Site {
    fn new(server_ttl: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::manual("2026-11-24T12:00:00Z".parse().unwrap());
        let ca = Arc::new(Ca::load_or_create(Path::new(dir.path()), clock.wall()).unwrap());
        let names = vec!["localhost".to_owned()];
        let serving =
            RenewingCertificate::issue(Arc::clone(&ca), names, server_ttl, 0, clock.wall());
        Self {
            ca,
            clock,
            hand,
            serving: serving.unwrap(),
            _dir: dir,
        }
    }

    fn server(&self) -> Arc<ServerConfig> {
        self.server_with(self.serving.served())
    }

    fn server_with(&self, certificate: &ServerCertificate) -> Arc<ServerConfig> {
        tls::server(certificate, &[self.ca.certificate().clone()], &self.clock).unwrap()
    }

    /// The TLS of an enrolled host whose certificate lives for `ttl`.
    fn host(&self, ttl: Duration) -> Arc<ClientConfig> {
        tls::client(
            &host_of(&self.ca, self.ca.certificate_pem(), ttl, &self.clock),
            &self.clock,
        )
        .unwrap()
    }

    /// The TLS of a new host that holds a token with `pin`.
    fn newcomer(&self, pin: Pin) -> Arc<ClientConfig> {
        tls::enrolment_client(pin, &self.clock).unwrap()
    }
}

/// An identity issued by `ca` that trusts the servers of `trusted`.
fn host_of(ca: &Ca, trusted: &str, ttl: Duration, clock: &Clock) -> Identity {
    let key = PrivateKey::generate().unwrap();
    let csr = make_csr(&key, "web-1").unwrap();
    let issued = ca.issue_host(&csr, "web-1", ttl, clock.wall()).unwrap();
    Identity::new(key, issued.chain_pem, trusted.to_owned()).unwrap()
}

/// Connects to `host` at a server with this configuration; the server sends one byte to whom it accepts.
async fn connect(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, host: &str) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = TlsAcceptor::from(Arc::clone(server)).accept(stream).await?;
        let peer = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
            .cloned();
        stream.write_all(b"k").await?;
        stream.shutdown().await?;
        io::Result::Ok(peer)
    };
    let url = format!("https://{host}:{port}").parse().unwrap();
    let ask = async {
        let mut stream = dial(&url, Arc::clone(client), MINUTE).await?;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned();
        let broken = |source| ConnectError::Tls {
            address: host.to_owned(),
            source,
        };
        stream.read_exact(&mut [0]).await.map_err(broken)?;
        Ok::<_, ConnectError>(certificate)
    };
    let (accepted, asked) = tokio::join!(serve, ask);
    let peer = |certificate: CertificateDer<'static>| {
        PeerIdentity::from_certificate(&certificate).unwrap()
    };
    Outcome {
        client: asked.map_err(|error| explain(&error)),
        server: accepted
            .map(|certificate| certificate.map(peer))
            .map_err(|error| explain(&error)),
    }
}

#[track_caller]
fn assert_told(told: Result<impl std::fmt::Debug, String>, part: &str) {
    let told = told.unwrap_err();
    assert!(told.contains(part), "{part:?} is not in {told:?}");
}

/// A CA of an attacker who copies the subject of the real one, with a server certificate for localhost.
struct Impostor {
    ca: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    key: PrivateKey,
}

impl Impostor {
    fn of(real: &Ca) -> Self {
        let (_, subject) = x509_parser::parse_x509_certificate(real.certificate())
            .map(|(rest, parsed)| {
                (
                    rest,
                    parsed
                        .subject()
                        .iter_common_name()
                        .next()
                        .unwrap()
                        .as_str()
                        .unwrap()
                        .to_owned(),
                )
            })
            .unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&ca_key).unwrap().der().clone();
        let issuer = Issuer::new(params, ca_key);
        let key = PrivateKey::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf
            .signed_by(&key.to_key_pair().unwrap(), &issuer)
            .unwrap()
            .der()
            .clone();
        Self { ca, leaf, key }
    }

    /// Serves its own certificate, followed by what the attacker chooses to show.
    fn serve(&self, site: &Site, shown: &[&CertificateDer<'static>]) -> Arc<ServerConfig> {
        let mut chain = vec![self.leaf.clone()];
        chain.extend(shown.iter().copied().cloned());
        site.server_with(&ServerCertificate::new(
            certified_key(chain, &self.key).unwrap(),
        ))
    }
}

#[tokio::test]
async fn a_newcomer_with_the_pin_is_let_in_without_a_name() {
    let site = Site::new(DAY);
    let outcome = connect(&site.server(), &site.newcomer(site.ca.pin()), "localhost").await;
    outcome.client.unwrap();
    assert_eq!(outcome.server, Ok(None));
}

#[tokio::test]
async fn a_newcomer_refuses_another_pin_and_another_name() {
    let site = Site::new(DAY);
    let outcome = connect(
        &site.server(),
        &site.newcomer(Pin::from_bytes([1; 32])),
        "localhost",
    )
    .await;
    assert_told(
        outcome.client,
        "the address leads to another controller than the one that made the token",
    );
    assert!(outcome.server.is_err());
    let outcome = connect(&site.server(), &site.newcomer(site.ca.pin()), "127.0.0.1").await;
    assert_told(outcome.client, "add 127.0.0.1 to the controller's names");
}

#[tokio::test]
async fn a_newcomer_refuses_an_impostor_whatever_it_shows() {
    let site = Site::new(DAY);
    let impostor = Impostor::of(&site.ca);
    let newcomer = site.newcomer(site.ca.pin());
    let real = site.ca.certificate();
    let another_ca = "the address leads to another controller";
    let cases: [(&[&CertificateDer<'static>], &str); 5] = [
        (&[], "the server does not send its CA certificate"),
        (&[&impostor.ca], another_ca),
        // The real CA certificate is public, so showing it proves nothing.
        (&[real], "not of the CA that this identity trusts"),
        (
            &[&impostor.ca, real],
            "not of the CA that this identity trusts",
        ),
        (&[real, &impostor.ca], another_ca),
    ];
    for (shown, told) in cases {
        let outcome = connect(&impostor.serve(&site, shown), &newcomer, "localhost").await;
        assert_told(outcome.client, told);
    }
}

#[tokio::test]
async fn a_newcomer_refuses_a_pinned_certificate_that_is_no_ca() {
    let site = Site::new(DAY);
    let key = PrivateKey::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let lone = params
        .self_signed(&key.to_key_pair().unwrap())
        .unwrap()
        .der()
        .clone();
    let certificate = certified_key(vec![lone.clone(), lone.clone()], &key).unwrap();
    let server = site.server_with(&ServerCertificate::new(certificate));
    let outcome = connect(&server, &site.newcomer(Pin::of(&lone)), "localhost").await;
    assert_told(
        outcome.client,
        "the pinned certificate is not a CA certificate",
    );
}

#[tokio::test]
async fn a_newcomer_refuses_a_ca_that_ended() {
    let site = Site::new(DAY);
    site.hand.advance(CA_LIFE + MINUTE);
    let outcome = connect(&site.server(), &site.newcomer(site.ca.pin()), "localhost").await;
    assert_told(outcome.client, "the other side's certificate is over");
}

#[tokio::test]
async fn a_host_is_known_by_its_certificate() {
    let site = Site::new(DAY);
    let outcome = connect(&site.server(), &site.host(DAY), "localhost").await;
    outcome.client.unwrap();
    assert_eq!(outcome.server, Ok(Some(PeerIdentity::Host("web-1".into()))));
}

#[tokio::test]
async fn a_host_refuses_servers_of_other_cas_and_names() {
    let site = Site::new(DAY);
    let impostor = Impostor::of(&site.ca);
    let host = site.host(DAY);
    let server = impostor.serve(&site, &[site.ca.certificate()]);
    let outcome = connect(&server, &host, "localhost").await;
    assert_told(outcome.client, "enrol again with a new token");
    assert_told(outcome.server, "the other side refused our certificate");
    let outcome = connect(&site.server(), &host, "127.0.0.1").await;
    assert_told(
        outcome.client,
        "the certificate there is for localhost; use",
    );
}

#[tokio::test]
async fn a_host_cannot_pose_as_the_server() {
    let site = Site::new(DAY);
    let identity = host_of(&site.ca, site.ca.certificate_pem(), DAY, &site.clock);
    let stolen = certified_key(identity.chain().to_vec(), identity.key()).unwrap();
    let server = site.server_with(&ServerCertificate::new(stolen));
    for client in [site.host(DAY), site.newcomer(site.ca.pin())] {
        assert!(connect(&server, &client, "localhost").await.client.is_err());
    }
}

#[tokio::test]
async fn the_server_refuses_a_host_whose_certificate_ended() {
    let site = Site::new(DAY);
    let host = site.host(Duration::from_secs(30));
    connect(&site.server(), &host, "localhost")
        .await
        .client
        .unwrap();
    site.hand.advance(Duration::from_secs(31));
    let outcome = connect(&site.server(), &host, "localhost").await;
    assert_told(outcome.server, "certificate expired");
    assert_told(
        outcome.client,
        "the other side says that our certificate is over",
    );
}

#[tokio::test]
async fn the_server_refuses_a_host_of_another_ca() {
    let (site, other) = (Site::new(DAY), Site::new(DAY));
    let identity = host_of(&other.ca, site.ca.certificate_pem(), DAY, &site.clock);
    let outcome = connect(
        &site.server(),
        &tls::client(&identity, &site.clock).unwrap(),
        "localhost",
    )
    .await;
    assert!(outcome.server.is_err());
    assert_told(
        outcome.client,
        "this identity belongs to another controller",
    );
}

#[tokio::test]
async fn a_server_certificate_is_replaced_without_a_restart() {
    let mut site = Site::new(Duration::from_secs(30));
    let (server, host) = (site.server(), site.host(DAY));
    let first = connect(&server, &host, "localhost").await.client.unwrap();
    assert!(!site.serving.renew_due(site.clock.wall()));
    site.hand.advance(Duration::from_secs(18));
    assert!(site.serving.renew_due(site.clock.wall()));
    site.serving.renew(site.clock.wall()).unwrap();
    assert!(!site.serving.renew_due(site.clock.wall()));
    // Past the end of the first certificate, the same configuration serves the second.
    site.hand.advance(Duration::from_secs(20));
    let second = connect(&server, &host, "localhost").await.client.unwrap();
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_server_certificate_that_ended_is_explained() {
    let site = Site::new(Duration::from_secs(30));
    let host = site.host(DAY);
    site.hand.advance(MINUTE);
    let outcome = connect(&site.server(), &host, "localhost").await;
    let told = "the other side's certificate ended at 2026-11-24T12:00:30Z, and it is 2026-11-24T12:01:00Z here";
    assert_told(outcome.client, told);
}

#[tokio::test]
async fn a_port_without_tls_and_one_without_a_listener_are_explained() {
    let site = Site::new(DAY);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    )
    .parse()
    .unwrap();
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        stream
    };
    let (_kept, asked) = tokio::join!(plain, dial(&url, site.host(DAY), MINUTE));
    assert_told(
        asked.map_err(|error| explain(&error)),
        "the other side does not speak TLS",
    );
    drop(listener);
    let asked = dial(&url, site.host(DAY), MINUTE).await;
    assert_told(
        asked.map_err(|error| explain(&error)),
        "is the controller running, and is the port right?",
    );
}
