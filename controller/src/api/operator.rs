//! Operators and their bearer tokens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use comber_model::access::{Grants, OperatorToken, Role};
use comber_model::wire::time;
use comber_model::{Digest, Invalid};
use comber_proto::access::v1 as wire;
use comber_proto::access::v1::access_service_server::AccessService;
use comber_runtime::bearer::BearerToken;
use comber_runtime::clock::later;
use tonic::{Request, Response, Status};

use super::{Parts, access, status, view};
use crate::core::{Core, CoreError, NewOperator};
use crate::pki::Ca;

/// Life of a bearer token that does not say its own.
const DEFAULT_TTL: Duration = Duration::from_hours(24 * 90);
/// Longest life of a bearer token, and of an operator that ends.
const TTL_MAX: Duration = Duration::from_hours(24 * 365);

/// The service.
#[derive(Debug)]
pub(super) struct Operators {
    core: Core,
    ca: Arc<Ca>,
}

impl Operators {
    /// Operators of this core.
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            core: parts.core.clone(),
            ca: Arc::clone(&parts.ca),
        }
    }

    async fn find(&self, name: &str) -> Result<wire::Operator, Status> {
        let world = self.core.read().await;
        let operator = world.operators.get(name);
        let operator = operator.ok_or_else(|| CoreError::missing("operator", name))?;
        Ok(view::operator(operator, world.now()))
    }
}

#[tonic::async_trait]
impl AccessService for Operators {
    async fn create_operator(
        &self,
        request: Request<wire::CreateOperatorRequest>,
    ) -> Result<Response<wire::CreateOperatorResponse>, Status> {
        let actor = access::operator(&request)?;
        let new = parse(request.into_inner())?;
        let operator = self.core.create_operator(new, &actor).await?;
        let operator = Some(self.find(&operator.name).await?);
        Ok(Response::new(wire::CreateOperatorResponse { operator }))
    }

    async fn list_operators(
        &self,
        _request: Request<wire::ListOperatorsRequest>,
    ) -> Result<Response<wire::ListOperatorsResponse>, Status> {
        let world = self.core.read().await;
        let operators = world.operators.values();
        let operators = operators.map(|operator| view::operator(operator, world.now()));
        Ok(Response::new(wire::ListOperatorsResponse {
            operators: operators.collect(),
        }))
    }

    async fn get_operator(
        &self,
        request: Request<wire::GetOperatorRequest>,
    ) -> Result<Response<wire::GetOperatorResponse>, Status> {
        let caller = access::operator(&request)?;
        let name = request.into_inner().name;
        let name = if name.is_empty() { caller } else { name };
        let operator = Some(self.find(&name).await?);
        Ok(Response::new(wire::GetOperatorResponse { operator }))
    }

    async fn revoke_operator(
        &self,
        request: Request<wire::RevokeOperatorRequest>,
    ) -> Result<Response<wire::RevokeOperatorResponse>, Status> {
        let actor = access::operator(&request)?;
        let name = request.into_inner().name;
        self.core.revoke_operator(&name, &actor).await?;
        let operator = Some(self.find(&name).await?);
        Ok(Response::new(wire::RevokeOperatorResponse { operator }))
    }

    async fn create_operator_token(
        &self,
        request: Request<wire::CreateOperatorTokenRequest>,
    ) -> Result<Response<wire::CreateOperatorTokenResponse>, Status> {
        let actor = access::operator(&request)?;
        let request = request.into_inner();
        let ttl = match request.ttl {
            None => DEFAULT_TTL,
            ttl => life(ttl)?,
        };
        let text = BearerToken::generate(self.ca.pin())
            .map_err(|error| Status::internal(error.to_string()))?;
        let now = self.core.now();
        let token = OperatorToken {
            hash: Digest(*text.secret_hash().as_bytes()),
            purpose: request.purpose,
            created_by: actor,
            created_at: now,
            expires_at: later(now, ttl),
            revoked_at: None,
        };
        let record = Some(view::operator_token(&token));
        self.core
            .create_operator_token(&request.name, token)
            .await?;
        Ok(Response::new(wire::CreateOperatorTokenResponse {
            token: text.reveal(),
            record,
        }))
    }

    async fn revoke_operator_token(
        &self,
        request: Request<wire::RevokeOperatorTokenRequest>,
    ) -> Result<Response<wire::RevokeOperatorTokenResponse>, Status> {
        let actor = access::operator(&request)?;
        let request = request.into_inner();
        self.core
            .revoke_operator_token(&request.name, &request.id, &actor)
            .await?;
        Ok(Response::new(wire::RevokeOperatorTokenResponse {}))
    }
}

fn life(ttl: Option<prost_types::Duration>) -> Result<Duration, Status> {
    let ttl = time::span("ttl", ttl).map_err(|error| status::invalid(&error))?;
    if ttl.is_zero() || ttl > TTL_MAX {
        let problem = "must be longer than 0s and at most 365d";
        return Err(status::invalid(&Invalid::new("ttl", problem)));
    }
    Ok(ttl)
}

fn parse(request: wire::CreateOperatorRequest) -> Result<NewOperator, Status> {
    let grants: Result<Vec<_>, Invalid> = request
        .grants
        .into_iter()
        .map(|grant| {
            let selector = (!grant.selector.is_empty()).then_some(grant.selector);
            Ok((grant.role.parse::<Role>()?, selector.into()))
        })
        .collect();
    let grants = grants.map_err(|error| status::invalid(&error))?;
    let ttl = match request.ttl {
        None => None,
        ttl => Some(life(ttl)?),
    };
    Ok(NewOperator {
        name: request.name,
        grants: Grants::new(grants).map_err(|errors| status::all_invalid(&errors))?,
        groups: request.groups.into_iter().collect::<BTreeSet<_>>(),
        ttl,
        replace: request.replace,
    })
}
