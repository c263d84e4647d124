//! The identities of the simulated hosts: each makes its key and enrols over the network, as a real one does.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use comber_proto::enrolment::v1::enrolment_service_client::EnrolmentServiceClient;
use comber_proto::enrolment::v1::{EnrolRequest, IdentityKind};
use comber_runtime::channel::{ChannelSettings, connect};
use comber_runtime::clock::Clock;
use comber_runtime::identity::{Identity, PrivateKey, make_csr};
use comber_runtime::tls;
use comber_runtime::token::Token;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Uri;
use rustls::ClientConfig;
use tonic::transport::Channel;

/// Enrols so many hosts with one token; gives what each connects with.
pub(crate) async fn enrol(
    url: &Uri,
    token: &str,
    hosts: u32,
    concurrency: usize,
) -> Result<Vec<Arc<ClientConfig>>> {
    let token: Token = token.parse().context("the token cannot be read")?;
    let clock = Clock::system();
    let config = tls::enrolment_client(token.pin(), &clock)?;
    let channel = connect(url, &config, &ChannelSettings::default()).await?;
    stream::iter(0..hosts)
        .map(|number| one(channel.clone(), &token, &clock, number))
        .buffered(concurrency)
        .try_collect()
        .await
}

async fn one(
    channel: Channel,
    token: &Token,
    clock: &Clock,
    number: u32,
) -> Result<Arc<ClientConfig>> {
    let name = format!("bench-{number:05}");
    let key = PrivateKey::generate()?;
    let request = EnrolRequest {
        secret: token.secret().to_vec(),
        name: name.clone(),
        kind: IdentityKind::Host.into(),
        signing_request: make_csr(&key, &name)?,
    };
    let response = EnrolmentServiceClient::new(channel)
        .enrol(request)
        .await?
        .into_inner();
    let identity = Identity::new(key, response.certificate_chain, response.ca)?;
    Ok(tls::client(&identity, clock)?)
}
