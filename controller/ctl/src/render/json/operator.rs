//! Operators and bearer tokens.

use comber_proto::access::v1 as wire;
use serde::Serialize;

use super::{filled, moment};

/// A role and over which hosts.
#[derive(Debug, Serialize)]
struct Grant {
    role: String,
    selector: Option<String>,
}

/// An operator.
#[derive(Debug, Serialize)]
pub(crate) struct Operator {
    name: String,
    grants: Vec<Grant>,
    groups: Vec<String>,
    created_by: String,
    created_at: Option<String>,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    tokens: Vec<OperatorToken>,
}

/// What is kept of a bearer token.
#[derive(Debug, Serialize)]
pub(crate) struct OperatorToken {
    id: String,
    purpose: Option<String>,
    created_by: String,
    created_at: Option<String>,
    expires_at: Option<String>,
    revoked_at: Option<String>,
}

/// All operators.
#[derive(Debug, Serialize)]
pub(crate) struct Operators {
    operators: Vec<Operator>,
}

/// An operator just made, with the token for its enrolment.
#[derive(Debug, Serialize)]
pub(crate) struct NewOperator {
    /// Absent where none was made, or it was written to a file.
    token: Option<String>,
    #[serde(flatten)]
    operator: Operator,
}

/// A bearer token just made.
#[derive(Debug, Serialize)]
pub(crate) struct NewOperatorToken {
    /// Its text; absent where it was written to a file.
    token: Option<String>,
    #[serde(flatten)]
    record: OperatorToken,
}

impl From<&wire::Operator> for Operator {
    fn from(operator: &wire::Operator) -> Self {
        let grant = |grant: &wire::Grant| Grant {
            role: grant.role.clone(),
            selector: filled(&grant.selector),
        };
        Self {
            name: operator.name.clone(),
            grants: operator.grants.iter().map(grant).collect(),
            groups: operator.groups.clone(),
            created_by: operator.created_by.clone(),
            created_at: moment(operator.created_at),
            expires_at: moment(operator.expires_at),
            revoked_at: moment(operator.revoked_at),
            tokens: operator.tokens.iter().map(OperatorToken::from).collect(),
        }
    }
}

impl From<&wire::OperatorToken> for OperatorToken {
    fn from(token: &wire::OperatorToken) -> Self {
        Self {
            id: token.id.clone(),
            purpose: filled(&token.purpose),
            created_by: token.created_by.clone(),
            created_at: moment(token.created_at),
            expires_at: moment(token.expires_at),
            revoked_at: moment(token.revoked_at),
        }
    }
}

impl Operators {
    /// Of a list.
    pub(crate) fn new(operators: &[wire::Operator]) -> Self {
        Self {
            operators: operators.iter().map(Operator::from).collect(),
        }
    }
}

impl NewOperator {
    /// With the token, where it is to be shown.
    pub(crate) fn new(operator: &wire::Operator, token: Option<String>) -> Self {
        Self {
            token,
            operator: operator.into(),
        }
    }
}

impl NewOperatorToken {
    /// With its text, where it is to be shown.
    pub(crate) fn new(token: Option<String>, record: &wire::OperatorToken) -> Self {
        Self {
            token,
            record: record.into(),
        }
    }
}
