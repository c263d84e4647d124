//! Tokens.

use std::collections::BTreeMap;

use comber_proto::enrolment::v1 as wire;
use serde::Serialize;

use super::{filled, moment};
use crate::render::token::kind_word;

/// What is kept of a token.
#[derive(Debug, Serialize)]
pub(crate) struct Token {
    id: String,
    kind: &'static str,
    uses_left: u32,
    expires_at: Option<String>,
    name_pattern: Option<String>,
    labels: BTreeMap<String, String>,
    created_by: String,
    created_at: Option<String>,
}

/// A token just made.
#[derive(Debug, Serialize)]
pub(crate) struct NewToken {
    /// Its text; absent where it was written to a file.
    token: Option<String>,
    #[serde(flatten)]
    record: Token,
}

/// All tokens that can still be used.
#[derive(Debug, Serialize)]
pub(crate) struct Tokens {
    tokens: Vec<Token>,
}

impl From<&wire::Token> for Token {
    fn from(token: &wire::Token) -> Self {
        Self {
            id: token.id.clone(),
            kind: kind_word(token),
            uses_left: token.uses_left,
            expires_at: moment(token.expires_at),
            name_pattern: filled(&token.name_pattern),
            labels: token.labels.clone().into_iter().collect(),
            created_by: token.created_by.clone(),
            created_at: moment(token.created_at),
        }
    }
}

impl NewToken {
    /// The secret text, where it is to be shown, and the record.
    pub(crate) fn new(token: Option<String>, record: &wire::Token) -> Self {
        Self {
            token,
            record: record.into(),
        }
    }
}

impl Tokens {
    /// Of a list.
    pub(crate) fn new(tokens: &[wire::Token]) -> Self {
        Self {
            tokens: tokens.iter().map(Token::from).collect(),
        }
    }
}
