//! Enrolment: tokens and certificates.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use comber_model::wire::time;
use comber_model::{Digest, HostId, Invalid, IssuedCertificate, Labels};
use comber_proto::enrolment::v1::enrolment_service_server::EnrolmentService;
use comber_proto::enrolment::v1::{
    CreateTokenRequest, CreateTokenResponse, EnrolRequest, EnrolResponse, IdentityKind,
    ListTokensRequest, ListTokensResponse, RenewRequest, RenewResponse, RevokeCertificateRequest,
    RevokeCertificateResponse, RevokeTokenRequest, RevokeTokenResponse,
};
use comber_runtime::clock::{Clock, later};
use comber_runtime::peer::PeerIdentity;
use comber_runtime::token::{SecretHash, Token as TokenText};
use tonic::{Request, Response, Status};

use super::{Parts, access, status, view};
use crate::core::{Certificate, Core, Token};
use crate::pki::tokens::{NamePattern, TokenKind, TokenRecord};
use crate::pki::{Ca, Issued};

/// Most uses of one token.
const USES_MAX: u32 = 100_000;
/// Life of a token that does not say its own.
const DEFAULT_TTL: Duration = Duration::from_hours(24);
/// Longest life of a token.
const TTL_MAX: Duration = Duration::from_hours(24 * 365);

/// How long certificates live.
#[derive(Debug, Clone, Copy)]
pub struct CertificateLives {
    /// Of hosts.
    pub host: Duration,
    /// Of operators.
    pub operator: Duration,
}

/// The service.
#[derive(Debug)]
pub(super) struct Enrolment {
    core: Core,
    ca: Arc<Ca>,
    lives: CertificateLives,
    clock: Clock,
}

impl Enrolment {
    /// Issues certificates of this CA.
    pub(super) fn new(parts: &Parts) -> Self {
        let (core, ca) = (parts.core.clone(), Arc::clone(&parts.ca));
        Self {
            core,
            ca,
            lives: parts.lives,
            clock: parts.clock.clone(),
        }
    }

    fn issue(&self, request: &str, peer: &PeerIdentity) -> Result<Issued, Status> {
        let now = self.clock.wall();
        let issued = match peer {
            PeerIdentity::Host(name) => self.ca.issue_host(request, name, self.lives.host, now),
            PeerIdentity::Operator(name) => {
                self.ca
                    .issue_operator(request, name, self.lives.operator, now)
            }
        };
        issued.map_err(|error| status::not_issued(&error))
    }

    /// What is kept of a certificate.
    fn recorded(&self, issued: &Issued) -> Certificate {
        Certificate {
            fingerprint: fingerprint(issued),
            not_before: issued.facts.not_before,
            issued: IssuedCertificate {
                serial: issued.facts.serial.clone(),
                not_after: issued.facts.not_after,
                ca: Digest(*self.ca.pin().as_bytes()),
            },
        }
    }
}

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let request = request.into_inner();
        let peer = peer(request.kind(), &request.name)?;
        let secret = SecretHash::of(&request.secret);
        self.core.would_enrol(secret, &peer).await?;
        let issued = self.issue(&request.signing_request, &peer)?;
        self.core
            .enrol(secret, peer.clone(), self.recorded(&issued))
            .await?;
        tracing::info!(name = peer.name(), kind = ?request.kind(), "enrolled");
        let trust = self.core.read().await.trust.clone();
        let root = trust.as_ref().and_then(|trust| trust.kept.newest_root());
        Ok(Response::new(EnrolResponse {
            certificate_chain: issued.chain_pem,
            ca: self.ca.certificate_pem().to_owned(),
            release_root: root.unwrap_or_default().to_owned(),
        }))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let no_peer = || Status::unauthenticated("no certificate");
        let peer = access::identity(&request).cloned().ok_or_else(no_peer)?;
        let issued = self.issue(&request.into_inner().signing_request, &peer)?;
        if let PeerIdentity::Host(name) = &peer {
            let host: HostId = name.parse().map_err(|error| status::invalid(&error))?;
            self.core.renewed(&host, self.recorded(&issued)).await?;
        }
        tracing::info!(name = peer.name(), "certificate renewed");
        Ok(Response::new(RenewResponse {
            certificate_chain: issued.chain_pem,
            ca: self.ca.certificate_pem().to_owned(),
        }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let actor = access::operator(&request)?;
        let text = TokenText::generate(self.ca.pin())
            .map_err(|error| Status::internal(error.to_string()))?;
        let token = self.token(request.into_inner(), text.secret_hash(), actor)?;
        self.core.create_token(token.clone()).await?;
        let record = Some(view::token(&token));
        Ok(Response::new(CreateTokenResponse {
            token: text.reveal(),
            record,
        }))
    }

    async fn list_tokens(
        &self,
        _request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        let world = self.core.read().await;
        let now = world.now();
        let usable = world
            .tokens
            .values()
            .filter(|token| !token.record.is_spent(now));
        let mut tokens: Vec<&Token> = usable.collect();
        tokens.sort_by_key(|token| token.record.expires);
        let tokens = tokens.into_iter().map(view::token).collect();
        Ok(Response::new(ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let actor = access::operator(&request)?;
        let id = request.into_inner().id;
        self.core.revoke_token(&id, &actor).await?;
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn revoke_certificate(
        &self,
        request: Request<RevokeCertificateRequest>,
    ) -> Result<Response<RevokeCertificateResponse>, Status> {
        let actor = access::operator(&request)?;
        let serial = request.into_inner().serial;
        self.core.revoke_certificate(&serial, &actor).await?;
        Ok(Response::new(RevokeCertificateResponse {}))
    }
}

impl Enrolment {
    fn token(
        &self,
        request: CreateTokenRequest,
        hash: SecretHash,
        actor: String,
    ) -> Result<Token, Status> {
        let refuse = |field: &str, problem: String| status::invalid(&Invalid::new(field, problem));
        let kind = match request.kind() {
            IdentityKind::Unspecified => return Err(refuse("kind", "is missing".to_owned())),
            IdentityKind::Host => TokenKind::Host,
            IdentityKind::Operator => TokenKind::Operator,
        };
        if request.uses > USES_MAX {
            return Err(refuse(
                "uses",
                format!("is {}, at most {USES_MAX}", request.uses),
            ));
        }
        let ttl = match request.ttl {
            None => DEFAULT_TTL,
            ttl => time::span("ttl", ttl).map_err(|error| status::invalid(&error))?,
        };
        if ttl.is_zero() || ttl > TTL_MAX {
            return Err(refuse(
                "ttl",
                "must be longer than 0s and at most 365d".to_owned(),
            ));
        }
        let names = match request.name_pattern.as_str() {
            "" => NamePattern::any(),
            pattern => pattern
                .parse()
                .map_err(|error: crate::pki::tokens::InvalidPattern| {
                    refuse("name_pattern", error.to_string())
                })?,
        };
        let labels: BTreeMap<String, String> = request.labels.into_iter().collect();
        let labels = Labels::try_from(labels).map_err(|error| status::invalid(&error))?;
        let now = self.clock.steady();
        let (uses_left, expires) = (request.uses.max(1), later(now, ttl));
        let record = TokenRecord {
            hash,
            kind,
            uses_left,
            expires,
            names,
        };
        Ok(Token {
            record,
            labels,
            created_by: actor,
            created_at: now,
        })
    }
}

fn peer(kind: IdentityKind, name: &str) -> Result<PeerIdentity, Status> {
    let refuse = |problem: String| status::invalid(&Invalid::new("name", problem));
    match kind {
        IdentityKind::Unspecified => Err(status::invalid(&Invalid::new("kind", "is missing"))),
        IdentityKind::Host => {
            let host: HostId = name.parse().map_err(|e: Invalid| refuse(e.problem))?;
            PeerIdentity::host(host.as_str()).map_err(|error| refuse(error.to_string()))
        }
        IdentityKind::Operator => {
            PeerIdentity::operator(name).map_err(|error| refuse(error.to_string()))
        }
    }
}

fn fingerprint(issued: &Issued) -> Digest {
    Digest(*comber_runtime::tls::Pin::of(&issued.certificate).as_bytes())
}
