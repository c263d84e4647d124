//! Agents' streams: desired state down whenever it changes, actual state up as it comes.
//!
//! The response stream is the whole connection's work: no task is spawned and no message is queued. It reads what the
//! host says, has it made durable, and sends what the host shall run.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use comber_model::wire::{desired_to_wire, known_packages_to_wire};
use comber_model::{Facts, HostId, HostStatus, Invalid};
use comber_proto::agent::v1::agent_link_service_server::AgentLinkService;
use comber_proto::agent::v1::{
    self as wire, KnownPackages, LinkRequest, LinkResponse, ReportFactsRequest,
    ReportFactsResponse, ReportPackagesRequest, ReportPackagesResponse,
};
use comber_runtime::shutdown::Shutdown;
use futures_util::{Stream, stream};
use tokio::time::Sleep;
use tonic::{Request, Response, Status, Streaming};

use super::packages::Receiver;
use super::{Parts, access, status};
use crate::core::{Attachment, Core, Ending, Presence};

/// A host that says nothing for so long after connecting is no agent.
const FIRST_MESSAGE: Duration = Duration::from_secs(30);

/// The service.
#[derive(Debug)]
pub(super) struct AgentLink {
    core: Core,
    shutdown: Shutdown,
    packages: Receiver,
}

impl AgentLink {
    /// Hosts of this core.
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            core: parts.core.clone(),
            shutdown: parts.shutdown.clone(),
            packages: Receiver::new(parts.metrics.clone()),
        }
    }
}

#[tonic::async_trait]
impl AgentLinkService for AgentLink {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<LinkResponse, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let host = access::host(&request)?;
        let address = access::address(&request);
        let mut attachment = self.core.attach(&host).await?;
        // The desired state is sent first, whatever it is.
        attachment.desired.mark_changed();
        let link = Box::new(Link {
            core: self.core.clone(),
            shutdown: self.shutdown.clone(),
            inbound: request.into_inner(),
            attachment,
            host,
            address,
            is_first: true,
            silent: Some(Box::pin(tokio::time::sleep(FIRST_MESSAGE))),
        });
        let stream = stream::unfold(Some(link), |link| async {
            let mut link = link?;
            match link.next().await {
                Ok(response) => Some((Ok(response), Some(link))),
                Err(Over::Closed) => None,
                Err(Over::Failed(status)) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn report_facts(
        &self,
        request: Request<ReportFactsRequest>,
    ) -> Result<Response<ReportFactsResponse>, Status> {
        let host = access::host(&request)?;
        let facts = request.into_inner().facts;
        let facts = facts.ok_or_else(|| status::invalid(&Invalid::new("facts", "is missing")))?;
        let facts = Facts::try_from(facts).map_err(|error| status::invalid(&error))?;
        self.core.report_facts(&host, facts).await?;
        Ok(Response::new(ReportFactsResponse {}))
    }

    async fn report_packages(
        &self,
        request: Request<Streaming<ReportPackagesRequest>>,
    ) -> Result<Response<ReportPackagesResponse>, Status> {
        let host = access::host(&request)?;
        let received = self
            .packages
            .take(&self.core, &host, request.into_inner())
            .await?;
        let digest = known_packages_to_wire(received);
        Ok(Response::new(ReportPackagesResponse { digest }))
    }
}

/// One host's stream.
struct Link {
    core: Core,
    shutdown: Shutdown,
    inbound: Streaming<LinkRequest>,
    attachment: Attachment,
    host: HostId,
    address: Option<IpAddr>,
    /// Until the host was told something.
    is_first: bool,
    /// Until the host has said something.
    silent: Option<Pin<Box<Sleep>>>,
}

/// Why a stream ends.
enum Over {
    /// The host closed it.
    Closed,
    /// We do, and say why.
    Failed(Status),
}

impl From<Status> for Over {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// What woke the stream.
enum Woken {
    Said(Option<Box<LinkRequest>>),
    Changed,
}

impl Link {
    /// Takes in what the host says until there is something to tell it.
    async fn next(&mut self) -> Result<LinkResponse, Over> {
        loop {
            match self.wake().await? {
                // Boxed, since a host says something now and then, and its stream stays.
                Woken::Said(Some(request)) => Box::pin(self.hear(*request)).await?,
                Woken::Said(None) => return Err(Over::Closed),
                Woken::Changed => return Ok(self.tell()),
            }
        }
    }

    async fn wake(&mut self) -> Result<Woken, Status> {
        let silent = async {
            match &mut self.silent {
                Some(silent) => silent.await,
                None => std::future::pending().await,
            }
        };
        // Each arm may be dropped: a message is taken whole or not at all, and after an ending the stream ends.
        tokio::select! {
            biased;
            changed = self.attachment.changed() => match changed {
                Ok(()) => Ok(Woken::Changed),
                Err(ending) => Err(ended(&self.host, ending)),
            },
            _ = self.shutdown.wait() => Err(ended(&self.host, Ending::Stopping)),
            message = self.inbound.message() => Ok(Woken::Said(message?.map(Box::new))),
            () = silent => Err(Status::deadline_exceeded("no actual state came after connecting")),
        }
    }

    async fn hear(&mut self, request: LinkRequest) -> Result<(), Status> {
        let missing = || status::invalid(&Invalid::new("actual", "is missing"));
        let actual = request.actual.ok_or_else(missing)?;
        let status = HostStatus::try_from(actual).map_err(|error| {
            tracing::warn!(host = %self.host, %error, "refused what a host said");
            status::invalid(&error.within("actual"))
        })?;
        let is_first = self.silent.take().is_some();
        if is_first && !self.arrive(request.presence, &status.boot_id).await? {
            // How it ended is the next thing that wakes.
            return Ok(());
        }
        self.core
            .report_actual(&self.host, self.attachment.id(), status)
            .await?;
        Ok(())
    }

    /// Which process this is; an agent that does not say it is not told from another.
    async fn arrive(
        &self,
        presence: Option<wire::Presence>,
        boot_id: &str,
    ) -> Result<bool, Status> {
        let (Some(presence), Some(address)) = (presence, self.address) else {
            return Ok(true);
        };
        let wrong = |_| status::invalid(&Invalid::new("presence.instance", "must have 16 bytes"));
        let presence = Presence {
            instance: presence.instance.as_slice().try_into().map_err(wrong)?,
            connection: presence.connection,
            address,
            boot_id: boot_id.to_owned(),
        };
        let attachment = self.attachment.id();
        Ok(self.core.arrived(&self.host, attachment, presence).await?)
    }

    fn tell(&mut self) -> LinkResponse {
        let desired = self.attachment.desired.borrow_and_update();
        let mut desired = desired_to_wire(self.core.epoch(), &desired);
        if std::mem::take(&mut self.is_first) {
            // Later the host knows it from the answers to its own calls.
            let digest = known_packages_to_wire(self.attachment.packages);
            desired.packages = Some(KnownPackages { digest });
        }
        LinkResponse {
            desired: Some(desired),
        }
    }
}

fn ended(host: &HostId, ending: Ending) -> Status {
    match ending {
        Ending::Replaced => Status::aborted(format!("{host} connected again elsewhere")),
        Ending::Retired => Status::permission_denied(format!(
            "{host} was retired; enrol it again with a new token to take it back"
        )),
        Ending::Revoked => Status::permission_denied(format!(
            "{host} was revoked; enrol it again with a new token to let it in"
        )),
        Ending::Cloned => Status::permission_denied(format!(
            "the key of {host} is in use on two machines; enrol each again with a token of its own"
        )),
        Ending::Stopping => Status::unavailable("the controller is stopping; connect again"),
    }
}
