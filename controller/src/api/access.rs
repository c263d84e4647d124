//! Who may call what: one table, looked at before a request reaches its service. What is not in it is refused.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use comber_model::HostId;
use comber_runtime::identity::CertificateFacts;
use comber_runtime::peer::PeerIdentity;
use tonic::{Request, Status};

use crate::core::{CoreError, World};

/// Whom a request comes from: the verified certificate of its connection, where there is one.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Absent for a peer without certificate.
    pub identity: Option<PeerIdentity>,
    /// What its certificate says of itself; absent for a peer without one.
    pub certificate: Option<Arc<CertificateFacts>>,
    /// Where it connects from.
    pub address: SocketAddr,
}

/// What an rpc asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: enrolment and health.
    Nothing,
    /// A host's certificate.
    Host,
    /// An operator's certificate.
    Operator,
    /// Either.
    Certificate,
}

/// Every rpc by its path. A test compares it with the descriptors, so a new rpc without a row does not pass.
pub const TABLE: &[(&str, Needs)] = &[
    ("/comber.agent.v1.AgentLinkService/Link", Needs::Host),
    ("/comber.agent.v1.AgentLinkService/ReportFacts", Needs::Host),
    (
        "/comber.agent.v1.AgentLinkService/ReportPackages",
        Needs::Host,
    ),
    ("/comber.budget.v1.BudgetService/SetBudget", Needs::Operator),
    ("/comber.budget.v1.BudgetService/GetBudget", Needs::Operator),
    (
        "/comber.budget.v1.BudgetService/ListBudgets",
        Needs::Operator,
    ),
    (
        "/comber.budget.v1.BudgetService/DeleteBudget",
        Needs::Operator,
    ),
    (
        "/comber.budget.v1.BudgetService/ReleaseLock",
        Needs::Operator,
    ),
    (
        "/comber.enrolment.v1.EnrolmentService/Enrol",
        Needs::Nothing,
    ),
    (
        "/comber.enrolment.v1.EnrolmentService/Renew",
        Needs::Certificate,
    ),
    (
        "/comber.enrolment.v1.EnrolmentService/CreateToken",
        Needs::Operator,
    ),
    (
        "/comber.enrolment.v1.EnrolmentService/ListTokens",
        Needs::Operator,
    ),
    (
        "/comber.enrolment.v1.EnrolmentService/RevokeToken",
        Needs::Operator,
    ),
    (
        "/comber.enrolment.v1.EnrolmentService/RevokeCertificate",
        Needs::Operator,
    ),
    ("/comber.event.v1.EventService/WatchEvents", Needs::Operator),
    ("/comber.freeze.v1.FreezeService/AddFreeze", Needs::Operator),
    (
        "/comber.freeze.v1.FreezeService/ListFreezes",
        Needs::Operator,
    ),
    (
        "/comber.freeze.v1.FreezeService/RemoveFreeze",
        Needs::Operator,
    ),
    ("/comber.host.v1.HostService/ListHosts", Needs::Operator),
    ("/comber.host.v1.HostService/GetHost", Needs::Operator),
    ("/comber.host.v1.HostService/LabelHosts", Needs::Operator),
    ("/comber.host.v1.HostService/ListPackages", Needs::Operator),
    ("/comber.host.v1.HostService/RetireHost", Needs::Operator),
    ("/comber.host.v1.HostService/RevokeHost", Needs::Operator),
    ("/comber.host.v1.HostService/ResolveHost", Needs::Operator),
    ("/comber.host.v1.HostService/ExplainHost", Needs::Operator),
    (
        "/comber.release.v1.ReleaseService/StatUpload",
        Needs::Operator,
    ),
    ("/comber.release.v1.ReleaseService/Upload", Needs::Operator),
    (
        "/comber.release.v1.ReleaseService/PublishRelease",
        Needs::Operator,
    ),
    (
        "/comber.release.v1.ReleaseService/ListReleases",
        Needs::Operator,
    ),
    (
        "/comber.release.v1.ReleaseService/GetRelease",
        Needs::Operator,
    ),
    (
        "/comber.release.v1.ReleaseService/DeleteRelease",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/PreviewRollout",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/CreateRollout",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/StartRollout",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/PauseRollout",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/ResumeRollout",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/AbortRollout",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/RollBackRollout",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/AwaitFence",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/GetRollout",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/ListRollouts",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/WatchRollout",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/ListMembers",
        Needs::Operator,
    ),
    (
        "/comber.rollout.v1.RolloutService/ExplainRollout",
        Needs::Operator,
    ),
    (
        "/comber.trust.v1.TrustService/ImportRepository",
        Needs::Operator,
    ),
    (
        "/comber.trust.v1.TrustService/GetRepository",
        Needs::Operator,
    ),
    ("/grpc.health.v1.Health/Check", Needs::Nothing),
    ("/grpc.health.v1.Health/List", Needs::Nothing),
    ("/grpc.health.v1.Health/Watch", Needs::Nothing),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Needs::Operator,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Needs::Operator,
    ),
];

/// Lets a call through, or says what it lacks.
pub fn check(path: &str, peer: &Peer) -> Result<(), Status> {
    let Some((_, needs)) = TABLE.iter().find(|(known, _)| *known == path) else {
        return Err(Status::unimplemented(format!("there is no rpc {path}")));
    };
    match (needs, &peer.identity) {
        (Needs::Nothing, _)
        | (Needs::Host | Needs::Certificate, Some(PeerIdentity::Host(_)))
        | (Needs::Operator | Needs::Certificate, Some(PeerIdentity::Operator(_))) => Ok(()),
        (Needs::Host, None) => Err(Status::unauthenticated(
            "a host's certificate is needed; get one with: comber-agent enroll",
        )),
        (Needs::Operator | Needs::Certificate, None) => Err(Status::unauthenticated(
            "an operator's certificate is needed; get one with: comber init",
        )),
        (Needs::Operator, Some(PeerIdentity::Host(name))) => Err(Status::permission_denied(
            format!("{name} is a host; only operators may do this"),
        )),
        (Needs::Host, Some(PeerIdentity::Operator(name))) => Err(Status::permission_denied(
            format!("{name} is an operator; only hosts may do this"),
        )),
    }
}

/// Refuses a host that is unknown, was retired or barred, or shows a certificate from before it was enrolled again, and
/// everybody whose certificate was revoked. What a certificate of the CA says is true for as long as it lives; what became
/// of its holder since, only the world knows. Asked at each request and, when somebody is let in no more, of every open
/// connection.
pub fn admit(world: &World, peer: &Peer) -> Result<(), CoreError> {
    let Some(certificate) = &peer.certificate else {
        return Ok(());
    };
    if let Some(PeerIdentity::Host(name)) = &peer.identity {
        let host = name
            .parse()
            .map_err(|error| CoreError::Invalid(vec![error]))?;
        world.admit(&host, certificate.not_before)?;
    }
    world.not_revoked(&certificate.serial)
}

/// The operator behind a request.
pub(super) fn operator<T>(request: &Request<T>) -> Result<String, Status> {
    match identity(request) {
        Some(PeerIdentity::Operator(name)) => Ok(name.clone()),
        Some(PeerIdentity::Host(_)) | None => Err(Status::unauthenticated("no operator")),
    }
}

/// The host behind a request.
pub(super) fn host<T>(request: &Request<T>) -> Result<HostId, Status> {
    match identity(request) {
        Some(PeerIdentity::Host(name)) => name
            .parse()
            .map_err(|_| Status::unauthenticated("the certificate names no host")),
        Some(PeerIdentity::Operator(_)) | None => Err(Status::unauthenticated("no host")),
    }
}

/// Where a request comes from.
pub(super) fn address<T>(request: &Request<T>) -> Option<IpAddr> {
    let peer = request.extensions().get::<Peer>();
    peer.map(|peer| peer.address.ip())
}

/// Whoever is behind a request.
pub(super) fn identity<T>(request: &Request<T>) -> Option<&PeerIdentity> {
    request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.identity.as_ref())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    fn peer(identity: Option<PeerIdentity>) -> Peer {
        Peer {
            identity,
            certificate: None,
            address: ([127, 0, 0, 1], 1).into(),
        }
    }

    fn rpcs() -> Vec<String> {
        let set = FileDescriptorSet::decode(comber_proto::DESCRIPTORS).unwrap();
        let mut paths = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    paths.push(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        paths
    }

    #[test]
    fn every_rpc_has_a_row_and_every_row_an_rpc() {
        let rpcs = rpcs();
        assert!(rpcs.len() > 20, "the descriptors are empty");
        for rpc in &rpcs {
            assert!(
                TABLE.iter().any(|(path, _)| path == rpc),
                "{rpc} is not in the table"
            );
        }
        for (path, _) in TABLE
            .iter()
            .filter(|(path, _)| path.starts_with("/comber."))
        {
            assert!(rpcs.iter().any(|rpc| rpc == path), "{path} is no rpc");
        }
    }

    #[test]
    fn a_host_and_a_stranger_can_change_nothing_of_an_operators() {
        let host = peer(Some(PeerIdentity::host("web-1").unwrap()));
        let stranger = peer(None);
        for (path, needs) in TABLE {
            let (host, stranger) = (check(path, &host).is_ok(), check(path, &stranger).is_ok());
            assert_eq!(host, *needs != Needs::Operator, "host on {path}");
            assert_eq!(stranger, *needs == Needs::Nothing, "stranger on {path}");
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        let ada = peer(Some(PeerIdentity::operator("ada").unwrap()));
        let status = check("/comber.secret.v1.SecretService/Read", &ada).unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unimplemented);
    }
}
