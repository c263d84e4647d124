//! The controller as a source of bytes: `GET /v1/artifacts/<digest>` on its own port, with the host's certificate.
//!
//! Opens one connection for each request, through `comber_runtime::download`. Invariant: the TLS settings are asked for
//! at each request, so that a renewed certificate is used from then on.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comber_model::Digest;
use comber_runtime::download::{Download, GetError, GetRequest, https_get};
use comber_runtime::telemetry::error_chain;
use http::Uri;
use rustls::ClientConfig;

use super::{Body, Source, SourceError};

/// Makes the TLS settings of the next request.
pub type MakeTls =
    dyn Fn() -> Result<Arc<ClientConfig>, Box<dyn Error + Send + Sync>> + Send + Sync;

/// Fetches from the controller or from anything that serves the same paths.
pub struct HttpsSource {
    /// `https://host:port`.
    pub controller: Uri,
    /// Makes the TLS settings of the next request.
    pub tls: Box<MakeTls>,
    /// For name lookup, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Longest silence before and between bytes.
    pub idle_timeout: Duration,
}

impl fmt::Debug for HttpsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsSource")
            .field("controller", &self.controller)
            .finish_non_exhaustive()
    }
}

impl Source for HttpsSource {
    type Body = HttpsBody;

    async fn open(&self, digest: &Digest, from: u64) -> Result<HttpsBody, SourceError> {
        let final_error = |problem| SourceError {
            problem,
            is_retryable: false,
        };
        let mut parts = self.controller.clone().into_parts();
        let path = format!("/v1/artifacts/{digest}");
        parts.path_and_query = path.parse().ok();
        let url = Uri::from_parts(parts).map_err(|error| final_error(error.to_string()))?;
        let tls = (self.tls)().map_err(|error| final_error(error_chain(&*error)))?;
        let request = GetRequest {
            url,
            offset: from,
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout,
        };
        let download = https_get(&request, &tls).await;
        download
            .map(HttpsBody)
            .map_err(|error| source_error(&error))
    }
}

/// An answer of the controller.
#[derive(Debug)]
pub struct HttpsBody(Download);

impl Body for HttpsBody {
    fn offset(&self) -> u64 {
        self.0.offset()
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        self.0.chunk().await.map_err(|error| source_error(&error))
    }
}

fn source_error(error: &GetError) -> SourceError {
    SourceError {
        problem: error_chain(error),
        is_retryable: error.is_retryable(),
    }
}
