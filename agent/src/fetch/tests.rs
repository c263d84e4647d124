//! Fetching over real TLS from a server on this machine that misbehaves as told.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex};

use comber_runtime::clock::Clock;
use comber_runtime::identity::{Identity, PrivateKey};
use comber_runtime::tls::{self, ServerCertificate, certified_key};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::preflight::tests::SmallDisk;

/// What the server does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Do {
    /// Sends what was asked for.
    Serve,
    /// Sends that many bytes of it and cuts the connection.
    CutAfter(usize),
    /// Sends all of it from the beginning, whatever range was asked for.
    IgnoreRange,
    /// Sends other bytes behind the end.
    SendMore,
    /// Sends the range from another byte.
    OtherRange,
    /// Says only that.
    Status(&'static str),
    /// Ends the connection without a word.
    HangUp,
}

struct Server {
    fetcher: Fetcher<HttpsSource>,
    /// The first line and the range of each request.
    asked: Arc<Mutex<Vec<String>>>,
    state: tempfile::TempDir,
    link: watch::Sender<LinkView>,
    _tasks: JoinSet<()>,
}

fn content() -> Vec<u8> {
    (0..300_000_u32).map(|n| (n % 251) as u8).collect()
}

fn artifact() -> Artifact {
    Artifact {
        digest: Digest([0xab; 32]),
        length: 1 << 20,
        carried_length: content().len() as u64,
    }
}

impl Server {
    async fn start(plan: &[Do]) -> Self {
        Self::start_in(plan, tempfile::tempdir().unwrap()).await
    }

    async fn start_in(plan: &[Do], state: tempfile::TempDir) -> Self {
        let clock = Clock::system();
        let (server, identity) = pki(&clock);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(
            listener,
            server,
            plan.to_vec().into(),
            Arc::clone(&asked),
        ));
        let source = HttpsSource {
            controller: format!("https://localhost:{port}").parse().unwrap(),
            tls: Box::new(move || Ok(tls::client(&identity, &clock)?)),
            connect_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_mins(1),
        };
        let patience = Patience {
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(5),
        };
        let link = watch::Sender::new(LinkView::default());
        Self {
            fetcher: Fetcher::new(source, state.path(), patience, link.subscribe()),
            link,
            asked,
            state,
            _tasks: tasks,
        }
    }

    async fn fetch(&self) -> Result<Unverified, FetchError> {
        self.fetcher.fetch(&artifact()).await
    }

    /// Where each request began.
    fn ranges(&self) -> Vec<u64> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|head| range_of(head)).collect()
    }

    fn part_length(&self) -> u64 {
        fs::metadata(self.fetcher.part(&artifact().digest)).map_or(0, |part| part.len())
    }
}

#[track_caller]
fn assert_fetched(fetched: Result<Unverified, FetchError>) {
    let fetched = fetched.unwrap();
    assert_eq!(fetched.artifact, artifact());
    assert!(
        fs::read(fetched.path).unwrap() == content(),
        "other bytes than were served"
    );
}

/// A CA, a server and a host of it.
fn pki(clock: &Clock) -> (Arc<rustls::ServerConfig>, Identity) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let issue = |name: &str| {
        let key = PrivateKey::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params
            .signed_by(&key.to_key_pair().unwrap(), &issuer)
            .unwrap();
        (key, certificate)
    };
    let (key, certificate) = issue("localhost");
    let ca_der: CertificateDer<'static> = ca.der().clone();
    let presented = certified_key(vec![certificate.der().clone(), ca_der.clone()], &key).unwrap();
    let server = tls::server(&ServerCertificate::new(presented), &[ca_der], clock).unwrap();
    let (key, certificate) = issue("host.example");
    let identity = Identity::new(key, certificate.pem(), ca.pem()).unwrap();
    (server, identity)
}

async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    mut plan: VecDeque<Do>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else {
            continue;
        };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let from = range_of(&head);
        asked.lock().unwrap().push(head);
        let answer = answer(plan.pop_front().unwrap_or(Do::Serve), from);
        // The reader may be gone as soon as it has what it wants.
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    }
}

fn range_of(head: &str) -> u64 {
    let range = head
        .lines()
        .find_map(|line| line.strip_prefix("range: bytes="));
    range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap())
}

fn answer(what: Do, from: u64) -> Vec<u8> {
    let content = content();
    let from = usize::try_from(from).unwrap();
    let total = content.len();
    let head = |from: usize, length: usize| {
        let range = format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1);
        let (status, range) = if from == 0 {
            ("200 OK", "")
        } else {
            ("206 Partial Content", range.as_str())
        };
        format!("HTTP/1.1 {status}\r\n{range}Content-Length: {length}\r\n\r\n").into_bytes()
    };
    match what {
        Do::Serve => [&head(from, total - from), &content[from..]].concat(),
        Do::CutAfter(count) => [&head(from, total - from), &content[from..from + count]].concat(),
        Do::IgnoreRange => [&head(0, total), &content[..]].concat(),
        Do::SendMore => [&head(from, total - from + 4), &content[from..], b"evil"].concat(),
        Do::OtherRange => [&head(from + 1, total - from - 1), &content[from + 1..]].concat(),
        Do::Status(status) => {
            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        }
        Do::HangUp => Vec::new(),
    }
}

#[tokio::test]
async fn asks_for_the_artifact_by_its_digest() {
    let server = Server::start(&[Do::Serve]).await;
    assert_fetched(server.fetch().await);
    let asked = server.asked.lock().unwrap()[0].clone();
    let line = format!("GET /v1/artifacts/{} HTTP/1.1\r\n", "ab".repeat(32));
    assert!(asked.starts_with(&line), "{asked}");
    assert_eq!(server.fetcher.missing(&artifact()), 0);
}

#[tokio::test]
async fn goes_on_where_the_connection_broke() {
    let server = Server::start(&[
        Do::CutAfter(100_000),
        Do::HangUp,
        Do::Status("503 Service Unavailable"),
        Do::CutAfter(50_000),
        Do::Serve,
    ])
    .await;
    assert_fetched(server.fetch().await);
    let ranges = server.ranges();
    assert_eq!(ranges.len(), 5);
    // What was read before the cut is kept; the last bytes of a broken connection may not have arrived.
    assert!(ranges[1] > 0 && ranges[1] <= 100_000, "{ranges:?}");
    assert_eq!(ranges[1], ranges[2]);
    assert_eq!(ranges[2], ranges[3]);
    assert!(ranges[4] > ranges[3] && ranges[4] <= 150_000, "{ranges:?}");
}

#[tokio::test]
async fn goes_on_after_the_agent_was_stopped() {
    let first = Server::start(&[Do::CutAfter(100_000), Do::Status("503 Busy")]).await;
    {
        let fetching = first.fetch();
        tokio::pin!(fetching);
        while first.asked.lock().unwrap().len() < 2 {
            tokio::select! {
                ended = &mut fetching => panic!("{ended:?}"),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    }
    let have = first.part_length();
    assert!(have > 0 && have <= 100_000);
    let Server { state, .. } = first;
    let second = Server::start_in(&[Do::Serve], state).await;
    assert_fetched(second.fetch().await);
    assert_eq!(second.ranges(), [have]);
    // With everything here, nobody is asked.
    assert_fetched(second.fetch().await);
    assert_eq!(second.ranges().len(), 1);
}

#[tokio::test]
async fn a_server_without_ranges_starts_the_file_anew() {
    let server = Server::start(&[Do::CutAfter(100_000), Do::IgnoreRange]).await;
    assert_fetched(server.fetch().await);
}

#[tokio::test]
async fn another_range_than_asked_for_is_not_appended() {
    let server = Server::start(&[Do::CutAfter(100_000), Do::OtherRange, Do::Serve]).await;
    assert_fetched(server.fetch().await);
}

#[tokio::test]
async fn more_than_was_assigned_is_never_written() {
    let server = Server::start(&[Do::SendMore]).await;
    let error = server.fetch().await.unwrap_err();
    assert!(matches!(error, FetchError::TooLong { .. }), "{error:?}");
    assert!(server.part_length() <= artifact().carried_length);
}

#[tokio::test]
async fn an_artifact_that_does_not_exist_is_not_asked_for_again() {
    let server = Server::start(&[Do::Status("404 Not Found")]).await;
    let error = server.fetch().await.unwrap_err();
    assert!(
        matches!(&error, FetchError::Source(source) if source.problem.contains("404")),
        "{error:?}"
    );
    assert_eq!(server.ranges().len(), 1);
}

#[tokio::test]
async fn a_part_that_is_too_long_starts_anew() {
    let server = Server::start(&[Do::Serve]).await;
    let part = server.fetcher.part(&artifact().digest);
    fs::create_dir(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![0; 400_000]).unwrap();
    assert_fetched(server.fetch().await);
    assert_eq!(server.ranges(), [0]);
}

#[tokio::test]
async fn parts_of_other_artifacts_are_removed() {
    let server = Server::start(&[Do::Serve]).await;
    let staging = server.fetcher.staging().to_owned();
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("0123.part"), "x").unwrap();
    fs::write(staging.join("note"), "x").unwrap();
    assert_fetched(server.fetch().await);
    assert!(!staging.join("0123.part").exists() && staging.join("note").exists());
    server.fetcher.discard_all();
    assert_eq!(server.part_length(), 0);
}

#[tokio::test]
async fn a_full_disk_ends_the_fetch_and_says_so() {
    let Some(disk) = SmallDisk::mount(128 << 10) else {
        return;
    };
    let state = tempfile::tempdir_in(disk.path()).unwrap();
    let server = Server::start_in(&[Do::Serve], state).await;
    let error = server.fetch().await.unwrap_err();
    let FetchError::Write { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(server.ranges().len(), 1);
}

#[tokio::test]
async fn a_long_pause_ends_when_the_link_is_back() {
    // So many failures double the pause to days.
    let mut plan = vec![Do::HangUp; 30];
    plan.push(Do::Serve);
    let mut server = Server::start(&plan).await;
    server.fetcher.patience.backoff_max = Duration::from_hours(24 * 365);
    let link = server.link.clone();
    let comes_and_goes = async {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            link.send_modify(|view| view.opened += 1);
        }
    };
    tokio::select! {
        fetched = server.fetch() => drop(fetched.unwrap()),
        () = comes_and_goes => {}
    }
    assert_eq!(server.ranges().len(), plan.len());
}
