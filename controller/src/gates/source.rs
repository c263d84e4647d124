//! A source as it is asked: where it is, whom its TLS must show, and how long it may take. Made once, at the start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comber_model::SourceName;
use comber_model::rollout::SourceKind;
use comber_runtime::clock::Clock;
use comber_runtime::tls::{self, TlsError};
use http::{HeaderValue, Uri};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config::SourceSettings;

/// Authorities of the system, as Debian keeps them.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// One source.
#[derive(Clone)]
pub struct Source {
    pub(super) kind: SourceKind,
    pub(super) url: Uri,
    pub(super) timeout: Duration,
    pub(super) authorization: Option<HeaderValue>,
    /// Absent for plain HTTP.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of every log.
        f.debug_struct("Source")
            .field("kind", &self.kind)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// A source that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file of it.
    #[error("cannot read {path}, which sources.{name} names")]
    File {
        /// Whose.
        name: SourceName,
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Its secret.
    #[error("{path} holds no token of one line, which sources.{name}.token_file must name")]
    Token {
        /// Whose.
        name: SourceName,
        /// Which file.
        path: PathBuf,
    },
    /// Its authorities.
    #[error("sources.{name} cannot use TLS with the authorities in {path}")]
    Tls {
        /// Whose.
        name: SourceName,
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: TlsError,
    },
}

/// Makes the sources of a configuration.
pub fn sources(
    settings: &BTreeMap<SourceName, SourceSettings>,
    clock: &Clock,
) -> Result<BTreeMap<SourceName, Source>, SourceError> {
    let made = settings
        .iter()
        .map(|(name, settings)| Ok((name.clone(), source(name, settings, clock)?)));
    made.collect()
}

/// What the planner knows of them.
pub fn kinds(sources: &BTreeMap<SourceName, Source>) -> BTreeMap<SourceName, SourceKind> {
    sources
        .iter()
        .map(|(name, source)| (name.clone(), source.kind))
        .collect()
}

fn source(
    name: &SourceName,
    settings: &SourceSettings,
    clock: &Clock,
) -> Result<Source, SourceError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| SourceError::File {
            name: name.clone(),
            path: path.to_owned(),
            source,
        })
    };
    let authorization = match &settings.token_file {
        None => None,
        Some(path) => {
            let refused = || SourceError::Token {
                name: name.clone(),
                path: path.clone(),
            };
            let text = String::from_utf8(read(path)?).map_err(|_| refused())?;
            let token = Some(text.trim()).filter(|token| !token.is_empty());
            let value = token.and_then(|token| format!("Bearer {token}").parse().ok());
            let mut value: HeaderValue = value.ok_or_else(refused)?;
            value.set_sensitive(true);
            Some(value)
        }
    };
    let tls = if settings.url.scheme_str() == Some("https") {
        let path = settings.ca.clone().unwrap_or_else(|| SYSTEM_CA.into());
        let pem = read(&path)?;
        let roots: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
            .filter_map(Result::ok)
            .collect();
        let config = tls::outside_client(&roots, clock).map_err(|source| SourceError::Tls {
            name: name.clone(),
            path,
            source,
        })?;
        Some(config)
    } else {
        None
    };
    Ok(Source {
        kind: settings.kind,
        url: settings.url.clone(),
        timeout: settings.timeout,
        authorization,
        tls,
    })
}
