//! The floors: what the same machine does without Comber in between.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use comber_controller::store::{Options, Store, Txn};
use comber_runtime::channel::dial;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Uri;
use rustls::ClientConfig;

use crate::measure::Stopwatch;

/// A record about as long as what a report writes.
const RECORD: usize = 600;

/// One bare TLS connection per host, kept until all are up.
pub(crate) async fn handshakes(
    url: &Uri,
    hosts: &[Arc<ClientConfig>],
    concurrency: usize,
) -> Result<Duration> {
    let watch = Stopwatch::start();
    let connections: Vec<_> = stream::iter(hosts)
        .map(|config| {
            let mut config = ClientConfig::clone(config);
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            async move { dial(url, Arc::new(config), Duration::from_secs(30)).await }
        })
        .buffer_unordered(concurrency)
        .try_collect()
        .await?;
    let took = watch.elapsed();
    drop(connections);
    Ok(took)
}

/// One record per host, all submitted at once to a store of its own on the same disk.
pub(crate) async fn commits(hosts: u32) -> Result<Duration> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path(), Options::default())?;
    let watch = Stopwatch::start();
    let pending: Vec<_> = (0..hosts)
        .map(|number| store.submit(Txn::new().put(format!("/bench/{number:08}"), vec![7; RECORD])))
        .collect();
    for commit in pending {
        commit.await?;
    }
    let took = watch.elapsed();
    store.close()?;
    Ok(took)
}
