//! The publisher's metadata as the controller relays it: `GET /v1/metadata/<file>` with the host's certificate.
//!
//! Invariant: never more bytes are taken than the file's role may have, and never longer than [`FILE`].

use std::io;
use std::time::Duration;

use comber_runtime::download::{GetError, GetRequest, https_get};
use comber_runtime::telemetry::error_chain;
use comber_trust::{Fetching, Source, limit_of};
use http::{StatusCode, Uri};

use crate::fetch::HttpsSource;

/// For one file, whatever comes meanwhile: 8 MB at 70 kB/s.
const FILE: Duration = Duration::from_mins(2);

impl Source for HttpsSource {
    fn fetch<'a>(&'a self, name: &'a str) -> Fetching<'a> {
        Box::pin(async move {
            let fetched = tokio::time::timeout(FILE, get(self, name)).await;
            fetched.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
        })
    }
}

async fn get(source: &HttpsSource, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut parts = source.controller.clone().into_parts();
    parts.path_and_query = format!("/v1/metadata/{name}").parse().ok();
    let url = Uri::from_parts(parts).map_err(io::Error::other)?;
    let tls = (source.tls)().map_err(|error| io::Error::other(error_chain(&*error)))?;
    let request = GetRequest {
        url,
        offset: 0,
        connect_timeout: source.connect_timeout,
        idle_timeout: source.idle_timeout,
    };
    let mut download = match https_get(&request, &tls).await {
        Ok(download) => download,
        Err(GetError::Status {
            status: StatusCode::NOT_FOUND,
        }) => return Ok(None),
        Err(error) => return Err(io::Error::other(error)),
    };
    let limit = usize::try_from(limit_of(name)).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    while let Some(piece) = download.chunk().await.map_err(io::Error::other)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > limit {
            // Longer than the role may be by one byte is all that is needed to refuse it.
            bytes.truncate(limit + 1);
            break;
        }
    }
    Ok(Some(bytes))
}
