//! A controller of a test: a throwaway CA, a TLS port, and services that answer by script.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use comber_proto::enrolment::v1::enrolment_service_server::EnrolmentServiceServer;
use comber_proto::event::v1::event_service_server::EventServiceServer;
use comber_proto::host::v1::host_service_server::HostServiceServer;
use comber_proto::release::v1::release_service_server::ReleaseServiceServer;
use comber_proto::rollout::v1::rollout_service_server::RolloutServiceServer;
use comber_proto::trust::v1::trust_service_server::TrustServiceServer;
use comber_runtime::clock::Clock;
use comber_runtime::identity::{PrivateKey, certificates};
use comber_runtime::shutdown::{Cause, Shutdown};
use comber_runtime::task;
use comber_runtime::tls::{self, Pin, ServerCertificate, certified_key};
use comber_runtime::token::Token;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;

use crate::services::{Fake, Script};

/// The controller, and the operator's directory.
pub(crate) struct Controller {
    directory: tempfile::TempDir,
    port: u16,
    token: Token,
    script: Arc<Mutex<Script>>,
    shutdown: Shutdown,
}

/// What a run of the command left.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Controller {
    /// Listens on a free port.
    pub(crate) async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        let token = Token::generate(Pin::of(ca.der())).unwrap();
        let issuer = Issuer::new(params, key);
        let server_key = PrivateKey::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .signed_by(&server_key.to_key_pair().unwrap(), &issuer)
            .unwrap();
        let chain = vec![leaf.der().clone(), ca.der().clone()];
        let certificate = ServerCertificate::new(certified_key(chain, &server_key).unwrap());
        let roots = certificates("the CA", &ca.pem()).unwrap();
        let acceptor =
            TlsAcceptor::from(tls::server(&certificate, &roots, &Clock::system()).unwrap());
        let script = Arc::new(Mutex::new(Script::default()));
        let fake = Fake::new(Arc::clone(&script), issuer, ca.pem(), token.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = Shutdown::new();
        task::spawn(
            "test-controller",
            &shutdown,
            serve(listener, acceptor, fake, shutdown.clone()),
        );
        Self {
            directory: tempfile::tempdir().unwrap(),
            port,
            token,
            script,
            shutdown,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub(crate) fn token(&self) -> String {
        self.token.reveal()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Looks at or changes what is answered.
    pub(crate) fn script<T>(&self, with: impl FnOnce(&mut Script) -> T) -> T {
        with(&mut self.script.lock().unwrap())
    }

    /// Nothing listens any more once the task has run.
    pub(crate) fn stop(&self) {
        self.shutdown
            .trigger(Cause::Requested("the test is done with it".to_owned()));
    }

    /// Runs the command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_comber"))
            .arg("--config")
            .arg(self.path("config"))
            .args(arguments)
            .env_remove("COMBER_CONTEXT")
            .env_remove("COLUMNS")
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_mins(1), output)
            .await
            .unwrap()
            .unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs it and insists that it succeeds.
    pub(crate) async fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments).await;
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        ran.stdout
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, fake: Fake, shutdown: Shutdown) {
    let routes = Routes::new(EnrolmentServiceServer::new(fake.clone()))
        .add_service(EventServiceServer::new(fake.clone()))
        .add_service(TrustServiceServer::new(fake.clone()))
        .add_service(HostServiceServer::new(fake.clone()))
        .add_service(ReleaseServiceServer::new(fake.clone()))
        .add_service(RolloutServiceServer::new(fake))
        .prepare();
    loop {
        // Both arms are cancel-safe: an accepted connection is handed out whole, and the token stays set.
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = shutdown.wait() => return,
        };
        let (acceptor, routes) = (acceptor.clone(), routes.clone());
        task::spawn("test-connection", &shutdown, async move {
            // A client that refuses our certificate ends the handshake; that is what some tests are about.
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let builder = auto::Builder::new(TokioExecutor::new());
            let served =
                builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
            drop(served.await);
        });
    }
}
