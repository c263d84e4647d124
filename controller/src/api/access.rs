//! Who may call what: one table, looked at before a request reaches its service. What is not in it is refused.
//!
//! A caller is a host or an operator by the certificate of its connection, an operator by a bearer token, or a stranger.
//! Whether an operator still holds the role is looked up at every call; a stream ends when it does not any more.

mod table;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use comber_model::access::{Operator, Scope};
use comber_model::audit::Actor;
use comber_model::{Digest, HostId};
use comber_runtime::bearer::BearerToken;
use comber_runtime::identity::CertificateFacts;
use comber_runtime::peer::PeerIdentity;
use http::{HeaderMap, header};
use jiff::Timestamp;
use tonic::{Request, Status};

use crate::core::{Authority, Caller, Core, CoreError, Proof, Who, World};

pub use table::{Needs, Reaches, Row, TABLE, find};

/// Whom a connection comes from: its verified certificate, where there is one.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Absent for a peer without certificate.
    pub identity: Option<PeerIdentity>,
    /// What its certificate says of itself; absent for a peer without one.
    pub certificate: Option<Arc<CertificateFacts>>,
    /// Where it connects from.
    pub address: SocketAddr,
    /// Set once a bearer token has proved an operator on this connection, which then may stay.
    pub proved: Arc<AtomicBool>,
}

impl Peer {
    /// A connection as its handshake left it.
    pub fn new(
        identity: Option<PeerIdentity>,
        certificate: Option<Arc<CertificateFacts>>,
        address: SocketAddr,
    ) -> Self {
        Self {
            identity,
            certificate,
            address,
            proved: Arc::default(),
        }
    }
}

impl Peer {
    /// From when on its certificate holds; for a peer without one, the beginning of time.
    fn not_before(&self) -> Timestamp {
        let certificate = self.certificate.as_ref();
        certificate.map_or(Timestamp::MIN, |certificate| certificate.not_before)
    }
}

/// Who calls, found out.
enum Known<'a> {
    Stranger,
    Host(&'a str),
    Operator(&'a Arc<Operator>, Proof),
    /// An operator from before the records of operators, to be written down first.
    Old(&'a str),
}

/// Lets a call in, as whoever it comes from, or says what it lacks.
pub async fn enter(
    core: &Core,
    row: &'static Row,
    peer: &Peer,
    headers: &HeaderMap,
) -> Result<Caller, Status> {
    let bearer = bearer(headers)?;
    for _ in 0..2 {
        let world = core.read().await;
        let known = identify(&world, peer, bearer.as_ref(), world.now())?;
        if let Known::Old(name) = known {
            let name = name.to_owned();
            drop(world);
            core.adopt_operator(&name).await?;
            continue;
        }
        let who = allowed(row, &known)?;
        admit(&world, peer)?;
        if bearer.is_some() {
            peer.proved.store(true, Ordering::Relaxed);
        }
        return Ok(Caller {
            who,
            address: peer.address,
            rpc: row.path,
        });
    }
    Err(Status::unavailable(
        "the operator is being written down; try again",
    ))
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

fn identify<'a>(
    world: &'a World,
    peer: &'a Peer,
    bearer: Option<&BearerToken>,
    now: Timestamp,
) -> Result<Known<'a>, CoreError> {
    match (&peer.identity, bearer) {
        (Some(_), Some(_)) => Err(CoreError::Unauthenticated(
            "a certificate and a token at once; use one of them".to_owned(),
        )),
        (None, None) => Ok(Known::Stranger),
        (Some(PeerIdentity::Host(name)), None) => Ok(Known::Host(name)),
        (Some(PeerIdentity::Operator(name)), None) => {
            let operator = world.operator_by_certificate(name, peer.not_before(), now)?;
            Ok(operator.map_or(Known::Old(name), |operator| {
                Known::Operator(operator, Proof::Certificate(peer.not_before()))
            }))
        }
        (None, Some(token)) => {
            let hash = Digest(*token.secret_hash().as_bytes());
            let operator = world.operator_by_token(hash, now)?;
            Ok(Known::Operator(operator, Proof::Token(hash)))
        }
    }
}

/// The token of the header, where there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<BearerToken>, Status> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let text = value.to_str().ok();
    let token = text.and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    let wrong = "the authorization header is not `Bearer` and an operator's token";
    let token = token.ok_or_else(|| Status::unauthenticated(wrong))?;
    let token = token.parse::<BearerToken>();
    token
        .map(Some)
        .map_err(|error| Status::unauthenticated(error.to_string()))
}

/// Whom a call that was refused says it comes from; nothing of it need be true but the certificate.
pub fn claimed(peer: &Peer, headers: &HeaderMap) -> Actor {
    let (kind, name, proof) = match (&peer.identity, bearer(headers)) {
        (Some(PeerIdentity::Host(name)), _) => ("host", name.clone(), "certificate".to_owned()),
        (Some(PeerIdentity::Operator(name)), _) => {
            ("operator", name.clone(), "certificate".to_owned())
        }
        (None, Ok(Some(token))) => {
            let id = Digest(*token.secret_hash().as_bytes()).short();
            ("stranger", String::new(), format!("token {id}"))
        }
        (None, Ok(None) | Err(_)) => ("stranger", String::new(), String::new()),
    };
    Actor {
        name,
        proof,
        ..Actor::of_kind(kind)
    }
}

fn allowed(row: &Row, known: &Known<'_>) -> Result<Who, Status> {
    match (row.needs, known) {
        (Needs::Nothing, Known::Stranger) => Ok(Who::Stranger),
        (Needs::Nothing | Needs::Host | Needs::Certificate, Known::Host(name)) => {
            Ok(Who::Host((*name).to_owned()))
        }
        (Needs::Nothing, Known::Operator(operator, proof)) => {
            authority(operator, proof, row, comber_model::access::Role::Viewer)
        }
        (Needs::Certificate, Known::Operator(operator, proof)) => match proof {
            Proof::Certificate(_) => {
                authority(operator, proof, row, comber_model::access::Role::Viewer)
            }
            Proof::Token(_) => Err(Status::permission_denied(
                "a token is not renewed; make a new one with: comber operator token create",
            )),
        },
        (Needs::Role(role), Known::Operator(operator, proof)) => {
            authority(operator, proof, row, role)
        }
        (Needs::Host, Known::Stranger) => Err(Status::unauthenticated(
            "a host's certificate is needed; get one with: comber-agent enroll",
        )),
        (Needs::Role(_) | Needs::Certificate, Known::Stranger) => Err(Status::unauthenticated(
            "an operator's certificate or token is needed; get one with: comber init",
        )),
        (Needs::Role(_), Known::Host(name)) => Err(Status::permission_denied(format!(
            "{name} is a host; only operators may do this"
        ))),
        (Needs::Host, Known::Operator(operator, _)) => Err(Status::permission_denied(format!(
            "{} is an operator; only hosts may do this",
            operator.name
        ))),
        (_, Known::Old(_)) => Err(Status::internal("an operator was not written down")),
    }
}

fn authority(
    operator: &Operator,
    proof: &Proof,
    row: &Row,
    role: comber_model::access::Role,
) -> Result<Who, Status> {
    let name = &operator.name;
    let Some(scope) = operator.grants.over(role) else {
        return Err(Status::permission_denied(format!(
            "this takes the role {role}; {name} is {}",
            operator.grants
        )));
    };
    if let (Reaches::Fleet, Scope::Hosts(selector)) = (row.reaches, scope) {
        return Err(Status::permission_denied(format!(
            "this concerns the whole fleet; {name} is {role} of {selector} only"
        )));
    }
    Ok(Who::Operator(Authority {
        name: name.clone(),
        proof: proof.clone(),
        role,
        scope: scope.clone(),
    }))
}

/// Whether an operator may read artifacts, by HTTP; what a host may read is the caller's to decide.
pub fn reader(
    world: &World,
    peer: &Peer,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Reader, Status> {
    let bearer = bearer(headers)?;
    match identify(world, peer, bearer.as_ref(), now)? {
        Known::Stranger => Ok(Reader::Stranger),
        Known::Host(name) => {
            admit(world, peer)?;
            Ok(Reader::Host(name.to_owned()))
        }
        // One that is to be written down was an operator; reading changes nothing, so that can wait.
        Known::Operator(..) | Known::Old(_) => {
            admit(world, peer)?;
            Ok(Reader::Operator)
        }
    }
}

/// Who asks for an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reader {
    /// Nobody known.
    Stranger,
    /// This host.
    Host(String),
    /// Any operator.
    Operator,
}

/// The operator behind a request.
pub(super) fn operator<T>(request: &Request<T>) -> Result<String, Status> {
    let authority = caller(request).and_then(|caller| caller.authority());
    let authority = authority.ok_or_else(|| Status::unauthenticated("no operator"))?;
    Ok(authority.name.clone())
}

/// The host behind a request.
pub(super) fn host<T>(request: &Request<T>) -> Result<HostId, Status> {
    match caller(request).map(|caller| &caller.who) {
        Some(Who::Host(name)) => name
            .parse()
            .map_err(|_| Status::unauthenticated("the certificate names no host")),
        Some(Who::Operator(_) | Who::Stranger) | None => Err(Status::unauthenticated("no host")),
    }
}

/// Where a request comes from.
pub(super) fn address<T>(request: &Request<T>) -> Option<IpAddr> {
    caller(request).map(|caller| caller.address.ip())
}

/// Whoever is behind a request, by certificate.
pub(super) fn identity<T>(request: &Request<T>) -> Option<PeerIdentity> {
    match &caller(request)?.who {
        Who::Host(name) => PeerIdentity::host(name).ok(),
        Who::Operator(authority) => PeerIdentity::operator(&authority.name).ok(),
        Who::Stranger => None,
    }
}

fn caller<T>(request: &Request<T>) -> Option<&Arc<Caller>> {
    request.extensions().get::<Arc<Caller>>()
}

#[cfg(test)]
mod tests;
