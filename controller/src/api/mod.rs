//! The gRPC services: authenticate the peer, parse, call the core, map the answer; nothing is decided here.
//!
//! Who may call what is in one table, [`access`], checked before a request reaches its service. Errors become statuses in
//! `status` only.

pub mod access;
mod agent_link;
mod budget;
mod enrolment;
mod event;
mod freeze;
mod host;
mod packages;
mod release;
mod rollout;
mod status;
pub(crate) mod trust;
mod view;

use std::path::PathBuf;
use std::sync::Arc;

use comber_proto::agent::v1::agent_link_service_server::{self, AgentLinkServiceServer};
use comber_proto::budget::v1::budget_service_server::{self, BudgetServiceServer};
use comber_proto::enrolment::v1::enrolment_service_server::{self, EnrolmentServiceServer};
use comber_proto::event::v1::event_service_server::{self, EventServiceServer};
use comber_proto::freeze::v1::freeze_service_server::{self, FreezeServiceServer};
use comber_proto::host::v1::host_service_server::{self, HostServiceServer};
use comber_proto::release::v1::release_service_server::{self, ReleaseServiceServer};
use comber_proto::rollout::v1::rollout_service_server::{self, RolloutServiceServer};
use comber_proto::trust::v1::trust_service_server::{self, TrustServiceServer};
use comber_runtime::clock::Clock;
use comber_runtime::shutdown::Shutdown;
use comber_runtime::task;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

pub use enrolment::CertificateLives;

use crate::artifact::Artifacts;
use crate::core::Core;
use crate::metrics::ServeMetrics;
use crate::pki::Ca;

/// Longest message of a host's stream: far above the 2 kB of the protocol, far below what would hurt.
const LINK_MESSAGE_MAX: usize = 64 << 10;
/// Longest other message, except pieces of an upload.
const MESSAGE_MAX: usize = 256 << 10;
/// Longest piece of an upload, with its envelope.
const UPLOAD_MESSAGE_MAX: usize = 512 << 10;

/// What the services work on.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The state.
    pub core: Core,
    /// The bytes of releases.
    pub artifacts: Arc<Artifacts>,
    /// What is measured of them.
    pub metrics: ServeMetrics,
    /// Who issues certificates.
    pub ca: Arc<Ca>,
    /// How long they live.
    pub lives: CertificateLives,
    /// The time, for certificates.
    pub clock: Clock,
    /// A directory for what is being verified; nothing in it lasts.
    pub scratch: PathBuf,
    /// When streams end.
    pub shutdown: Shutdown,
}

/// All services with health and reflection, so that standard tools work.
pub fn routes(parts: &Parts) -> Result<Routes, tonic_reflection::server::Error> {
    let core = || parts.core.clone();
    let link = agent_link::AgentLink::new(parts);
    let link = AgentLinkServiceServer::new(link).max_decoding_message_size(LINK_MESSAGE_MAX);
    let enrolment = EnrolmentServiceServer::new(enrolment::Enrolment::new(parts));
    let releases = release::Releases::new(parts);
    let releases =
        ReleaseServiceServer::new(releases).max_decoding_message_size(UPLOAD_MESSAGE_MAX);
    let rollouts = rollout::Rollouts::new(core(), parts.shutdown.clone());
    let rollouts = RolloutServiceServer::new(rollouts).max_decoding_message_size(MESSAGE_MAX);
    let hosts =
        HostServiceServer::new(host::Hosts::new(core())).max_decoding_message_size(MESSAGE_MAX);
    let freezes = FreezeServiceServer::new(freeze::Freezes::new(core()));
    let budgets = BudgetServiceServer::new(budget::Budgets::new(core()));
    let events = EventServiceServer::new(event::Events::new(core(), parts.shutdown.clone()));
    let trust = TrustServiceServer::new(trust::Trust::new(parts));
    let (reporter, health) = tonic_health::server::health_reporter();
    task::spawn(
        "health",
        &parts.shutdown,
        tell(reporter, parts.shutdown.clone()),
    );
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(comber_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(link)
        .add_service(enrolment.max_decoding_message_size(MESSAGE_MAX))
        .add_service(releases)
        .add_service(rollouts)
        .add_service(hosts)
        .add_service(freezes.max_decoding_message_size(MESSAGE_MAX))
        .add_service(budgets.max_decoding_message_size(MESSAGE_MAX))
        .add_service(events.max_decoding_message_size(MESSAGE_MAX))
        .add_service(trust.max_decoding_message_size(UPLOAD_MESSAGE_MAX))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        // Tools that are a few years old ask by this name only.
        .add_service(reflection().build_v1alpha()?))
}

/// Load balancers and probes are told that the process ends before its connections are. Every service has the one state:
/// they serve from the same core.
async fn tell(reporter: HealthReporter, shutdown: Shutdown) {
    const SERVICES: [&str; 10] = [
        "",
        agent_link_service_server::SERVICE_NAME,
        enrolment_service_server::SERVICE_NAME,
        release_service_server::SERVICE_NAME,
        rollout_service_server::SERVICE_NAME,
        host_service_server::SERVICE_NAME,
        event_service_server::SERVICE_NAME,
        freeze_service_server::SERVICE_NAME,
        trust_service_server::SERVICE_NAME,
        budget_service_server::SERVICE_NAME,
    ];
    for status in [ServingStatus::Serving, ServingStatus::NotServing] {
        for service in SERVICES {
            reporter.set_service_status(service, status).await;
        }
        if status == ServingStatus::Serving {
            shutdown.wait().await;
        }
    }
}
