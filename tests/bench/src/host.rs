//! One simulated agent: the protocol of a real one, without anything behind it.
//!
//! It takes an assignment, confirms receipt and asks for a permit at once; with the permit in hand it waits for the
//! others, and then reports that it committed.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use comber_model::assignment::Desired;
use comber_model::host::AttemptStatus;
use comber_model::wire::desired_from_wire;
use comber_model::{AgentState, Assignment, HostStatus, Nonce, Report, ReportResult};
use comber_proto::agent::v1::agent_link_service_client::AgentLinkServiceClient;
use comber_proto::agent::v1::{LinkRequest, LinkResponse};
use comber_runtime::channel::{ChannelSettings, connect};
use http::Uri;
use jiff::Timestamp;
use rustls::ClientConfig;
use tokio::sync::{Barrier, Semaphore, mpsc};
use tonic::Streaming;

/// Where the fleet stands together: everybody passes each point before anybody goes on.
#[derive(Debug)]
pub(crate) struct Gates {
    /// Everybody is connected and has heard from the controller.
    pub(crate) connected: Barrier,
    /// Everybody has an assignment.
    pub(crate) assigned: Barrier,
    /// Everybody may ask for a permit.
    pub(crate) ask: Barrier,
    /// Everybody has a permit.
    pub(crate) permitted: Barrier,
    /// Everybody may report.
    pub(crate) report: Barrier,
    /// Everybody's report is acknowledged as durable.
    pub(crate) acknowledged: Barrier,
    /// Everybody may go: nobody ends while another gate is waited for.
    pub(crate) over: Barrier,
}

impl Gates {
    /// Gates for so many hosts and the one who measures.
    pub(crate) fn new(hosts: usize) -> Self {
        let gate = || Barrier::new(hosts + 1);
        Self {
            connected: gate(),
            assigned: gate(),
            ask: gate(),
            permitted: gate(),
            report: gate(),
            acknowledged: gate(),
            over: gate(),
        }
    }
}

/// A stream to the controller and what is said on it.
struct Link {
    up: mpsc::Sender<LinkRequest>,
    down: Streaming<LinkResponse>,
    status: HostStatus,
}

/// Lives one host's part of the benchmark; stays connected until the last gate.
pub(crate) async fn live(
    url: Uri,
    tls: Arc<ClientConfig>,
    dials: Arc<Semaphore>,
    gates: Arc<Gates>,
) -> Result<()> {
    let mut link = Link::open(&url, &tls, &dials).await?;
    link.receive().await?;
    gates.connected.wait().await;
    let assigned = loop {
        let desired = link.receive().await?;
        if desired.assignment.is_some() {
            break desired;
        }
    };
    gates.assigned.wait().await;
    gates.ask.wait().await;
    link.ask(&assigned).await?;
    while link.receive().await?.grant.is_none() {}
    gates.permitted.wait().await;
    gates.report.wait().await;
    link.report(&assigned).await?;
    while link.receive().await?.acknowledged == 0 {}
    gates.acknowledged.wait().await;
    gates.over.wait().await;
    Ok(())
}

impl Link {
    async fn open(url: &Uri, tls: &ClientConfig, dials: &Semaphore) -> Result<Self> {
        let _turn = dials.acquire().await?;
        let channel = connect(url, tls, &ChannelSettings::default()).await?;
        let (up, requests) = mpsc::channel(4);
        let status = HostStatus {
            generation: comber_model::Generation(0),
            state: AgentState::Idle,
            since: Timestamp::UNIX_EPOCH,
            attempt: None,
            installed: std::collections::BTreeMap::new(),
            locally_bad: Vec::new(),
            reports: Vec::new(),
            boot_id: "7a0f2b6e-4f0c-4a58-9a3e-1f1f4d3c2b1a".to_owned(),
            agent_version: "0.1.0".to_owned(),
        };
        up.send(LinkRequest {
            actual: Some((&status).into()),
            presence: None,
        })
        .await?;
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let down = AgentLinkServiceClient::new(channel)
            .link(requests)
            .await?
            .into_inner();
        Ok(Self { up, down, status })
    }

    async fn receive(&mut self) -> Result<Desired> {
        let Some(message) = self.down.message().await? else {
            bail!("the controller hung up")
        };
        let desired = message.desired.context("a message without desired state")?;
        let (_epoch, desired) = desired_from_wire(desired)?;
        Ok(desired)
    }

    async fn send(&mut self) -> Result<()> {
        let message = LinkRequest {
            actual: Some((&self.status).into()),
            presence: None,
        };
        self.up
            .send(message)
            .await
            .context("the controller hung up")
    }

    /// Confirms receipt, and asks for a permit.
    async fn ask(&mut self, desired: &Desired) -> Result<()> {
        let assignment = assignment(desired)?;
        self.status.generation = desired.generation;
        self.status.state = AgentState::AwaitingPermit;
        self.status.attempt = Some(AttemptStatus {
            generation: desired.generation,
            rollout: assignment.rollout,
            release: assignment.release.clone(),
            number: assignment.attempt,
            nonce: Some(Nonce(desired.generation.0 + 1)),
        });
        self.send().await
    }

    async fn report(&mut self, desired: &Desired) -> Result<()> {
        let assignment = assignment(desired)?;
        self.status.state = AgentState::Committed;
        if let Some(attempt) = &mut self.status.attempt {
            attempt.nonce = None;
        }
        self.status.reports.push(Report {
            number: 1,
            generation: desired.generation,
            rollout: assignment.rollout,
            release: assignment.release.clone(),
            attempt: assignment.attempt,
            result: ReportResult::Committed,
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
        });
        self.send().await
    }
}

fn assignment(desired: &Desired) -> Result<&Assignment> {
    desired.assignment.as_ref().context("no assignment")
}
