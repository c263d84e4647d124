//! Reporting facts: after connecting and on each change, at most once per change and controller.
//!
//! What was acknowledged is remembered in memory only: a restarted agent reports once more, which costs
//! one short call and heals whatever was lost. Invariant: a failed call is repeated ever more slowly, never in a loop.

use std::convert::Infallible;

use comber_model::Facts;
use comber_proto::agent::v1::{
    self as wire, ReportFactsRequest, agent_link_service_client::AgentLinkServiceClient,
};
use comber_runtime::backoff::Backoff;
use tokio::sync::watch;
use tonic::transport::Channel;

use super::calls::{CallError, failed};
use crate::config::LinkSettings;

/// Names a controller's database: another one has not seen our facts.
type Epoch = [u8; 16];

/// Which facts the controller is known to have.
#[derive(Debug, Default)]
pub(super) struct Acknowledged(Option<(Epoch, wire::Facts)>);

/// Reports for as long as the session lasts.
pub(super) async fn report(
    channel: Channel,
    mut facts: watch::Receiver<Option<Facts>>,
    mut epochs: watch::Receiver<Option<Epoch>>,
    acknowledged: &mut Acknowledged,
    settings: LinkSettings,
) -> Infallible {
    let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max);
    loop {
        let epoch = *epochs.borrow_and_update();
        let present = facts.borrow_and_update().as_ref().map(wire::Facts::from);
        // Until the first message the controller has not said who it is, and so not what it knows.
        if let (Some(epoch), Some(present)) = (epoch, present)
            && acknowledged.0.as_ref() != Some(&(epoch, present.clone()))
        {
            match call(channel.clone(), present.clone(), settings).await {
                Ok(()) => {
                    backoff.reset();
                    acknowledged.0 = Some((epoch, present));
                }
                Err(error) => {
                    tracing::warn!(%error, "facts could not be reported");
                    tokio::time::sleep(backoff.next_random()).await;
                    continue;
                }
            }
        }
        wait(&mut facts, &mut epochs).await;
    }
}

async fn wait(
    facts: &mut watch::Receiver<Option<Facts>>,
    epochs: &mut watch::Receiver<Option<Epoch>>,
) {
    let changed = tokio::select! {
        // Both arms are cancel-safe: a change that was not seen stays unseen.
        changed = facts.changed() => changed,
        changed = epochs.changed() => changed,
    };
    if changed.is_err() {
        // Whoever reads the facts has ended, and with it soon the session; there is nothing more to report.
        std::future::pending::<()>().await;
    }
}

async fn call(
    channel: Channel,
    facts: wire::Facts,
    settings: LinkSettings,
) -> Result<(), CallError> {
    let mut client = AgentLinkServiceClient::new(channel);
    let request = ReportFactsRequest { facts: Some(facts) };
    let limit = settings.connect_timeout;
    match tokio::time::timeout(limit, client.report_facts(request)).await {
        Ok(answered) => answered.map(drop).map_err(|status| failed(&status)),
        Err(_) => Err(CallError::Timeout(limit)),
    }
}
