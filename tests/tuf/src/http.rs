//! A repository on a web server, over plain HTTP: nothing of it is trusted.
//!
//! Invariant: no more than was asked for is held, whatever the server sends.

use std::io;

use comber_trust::{Fetching, Source, limit_of};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// The metadata below an address.
pub(crate) struct Web(pub(crate) String);

impl Source for Web {
    fn fetch<'a>(&'a self, name: &'a str) -> Fetching<'a> {
        Box::pin(async move { get(&joined(&self.0, name), limit_of(name)).await })
    }
}

/// The address of a file below another address.
pub(crate) fn joined(base: &str, path: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let path: String = path
        .bytes()
        .map(|byte| match byte {
            byte if safe(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    format!("{}/{path}", base.trim_end_matches('/'))
}

/// A file, or `None` where there is none.
pub(crate) async fn get(url: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let request = Request::get(url).body(Empty::<Bytes>::new());
    let request = request.map_err(io::Error::other)?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await.map_err(io::Error::other)?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => return Ok(None),
        status => return Err(io::Error::other(format!("{url} answers {status}"))),
    }
    // One byte more than is allowed, so that what is too long is seen to be.
    let limit = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .saturating_add(1);
    let body = Limited::new(answer.into_body(), limit).collect().await;
    match body {
        Ok(body) => Ok(Some(body.to_bytes().to_vec())),
        Err(error) => Err(io::Error::other(error)),
    }
}
