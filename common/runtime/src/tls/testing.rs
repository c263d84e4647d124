//! For tests: a server for `localhost` and a client that trust one throw-away CA.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{ServerCertificate, certified_key, client, server};
use crate::{
    clock::Clock,
    identity::{Identity, PrivateKey},
};

/// Both ends, and a listener on a free port of loopback.
pub(crate) struct Ends {
    pub(crate) client: Arc<ClientConfig>,
    listener: TcpListener,
    server: Arc<ServerConfig>,
}

impl Ends {
    pub(crate) async fn new() -> Self {
        let clock = Clock::system();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let (key, leaf) = leaf(&issuer, ExtendedKeyUsagePurpose::ClientAuth);
        let identity = Identity::new(key, leaf.pem(), ca.pem()).unwrap();
        let (key, leaf) = leaf_of_server(&issuer);
        let certificate = ServerCertificate::new(certified_key(vec![leaf], &key).unwrap());
        Self {
            client: client(&identity, &clock).unwrap(),
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            server: server(&certificate, &[ca.der().clone()], &clock).unwrap(),
        }
    }

    /// The address of `path` at the listener.
    pub(crate) fn url(&self, path: &str) -> http::Uri {
        let port = self.listener.local_addr().unwrap().port();
        format!("https://localhost:{port}{path}").parse().unwrap()
    }

    /// The server's end of the next connection.
    pub(crate) async fn accept(&self) -> TlsStream<TcpStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::clone(&self.server))
            .accept(stream)
            .await
            .unwrap()
    }
}

fn leaf_of_server(issuer: &Issuer<'_, KeyPair>) -> (PrivateKey, CertificateDer<'static>) {
    let (key, certificate) = leaf(issuer, ExtendedKeyUsagePurpose::ServerAuth);
    (key, certificate.der().clone())
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    usage: ExtendedKeyUsagePurpose,
) -> (PrivateKey, rcgen::Certificate) {
    let key = PrivateKey::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    let certificate = params
        .signed_by(&key.to_key_pair().unwrap(), issuer)
        .unwrap();
    (key, certificate)
}
