//! Operators and what is kept of their tokens.

use comber_model::access::{Operator, OperatorToken};
use comber_model::wire::time::to_timestamp;
use comber_proto::access::v1 as wire;
use jiff::Timestamp;

/// An operator, with the tokens that have not ended.
pub(in crate::api) fn operator(operator: &Operator, now: Timestamp) -> wire::Operator {
    let grants = operator.grants.iter().map(|(role, scope)| wire::Grant {
        role: role.to_string(),
        selector: scope.selector().unwrap_or_default().to_owned(),
    });
    let tokens = operator
        .tokens
        .iter()
        .filter(|token| now < token.expires_at);
    wire::Operator {
        name: operator.name.clone(),
        grants: grants.collect(),
        groups: operator.groups.iter().cloned().collect(),
        created_by: operator.created_by.clone(),
        created_at: Some(to_timestamp(operator.created_at)),
        expires_at: operator.expires_at.map(to_timestamp),
        revoked_at: operator.revoked_at.map(to_timestamp),
        tokens: tokens.map(operator_token).collect(),
    }
}

/// What is kept of a token; never its secret, nor its whole hash.
pub(in crate::api) fn operator_token(token: &OperatorToken) -> wire::OperatorToken {
    wire::OperatorToken {
        id: token.id(),
        purpose: token.purpose.clone(),
        created_by: token.created_by.clone(),
        created_at: Some(to_timestamp(token.created_at)),
        expires_at: Some(to_timestamp(token.expires_at)),
        revoked_at: token.revoked_at.map(to_timestamp),
    }
}
