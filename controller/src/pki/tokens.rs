//! What an enrolment token is worth: a pure decision over its record, which the store keeps.
//!
//! The record holds the hash of the secret, never the secret. The caller looks it up by that hash, calls
//! [`TokenRecord::redeem`] and stores what comes back in the same transaction as the enrolment.
//! Invariant: no sequence of redemptions succeeds more often than the token has uses.

use std::{fmt, str::FromStr};

use comber_runtime::{peer::PeerIdentity, token::SecretHash};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A longer pattern is a mistake: names have at most 128 characters.
const MAX_PATTERN: usize = 128;

/// Whom a token may enrol.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Agents of hosts.
    Host,
    /// People and programs that drive the controller.
    Operator,
}

/// A token as the store keeps it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenRecord {
    /// The key of the record.
    pub hash: SecretHash,
    /// Whom it may enrol.
    pub kind: TokenKind,
    /// How many enrolments are left; one for a single host, many for an image.
    pub uses_left: u32,
    /// From this instant on it enrols nobody.
    pub expires: Timestamp,
    /// Which names it may give.
    pub names: NamePattern,
}

/// A name in which each `*` stands for any characters, none included.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct NamePattern(String);

/// A pattern that no name could match.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a name pattern is 1 to {MAX_PATTERN} letters, digits, '.', '-', '_' and '*', like web-*")]
pub struct InvalidPattern;

/// Why a token does not enrol this peer; told to the host, so it says nothing about other tokens.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TokenRefused {
    /// A host came with an operator's token or the other way round.
    #[error(
        "the token enrols a {token}, not a {asked}; make one with `comber token create --kind {asked}`"
    )]
    WrongKind {
        /// What the token is for.
        token: TokenKind,
        /// Who asked.
        asked: TokenKind,
    },
    /// Its time is over.
    #[error("the token ended at {0}; make a new one with `comber token create`")]
    Expired(Timestamp),
    /// All its uses are spent.
    #[error(
        "the token is used up; make a new one with `comber token create`, with --uses for several hosts"
    )]
    UsedUp,
    /// It was made for other names.
    #[error(
        "the token enrols names like {pattern}, not {name}; enrol under such a name or make another token"
    )]
    Name {
        /// What it may enrol.
        pattern: String,
        /// Who asked.
        name: String,
    },
}

impl TokenRecord {
    /// The record after one more enrolment, or why there is none.
    ///
    /// The same name may enrol again while uses are left: a host that lost its disk comes back with the same token.
    pub fn redeem(&self, peer: &PeerIdentity, now: Timestamp) -> Result<Self, TokenRefused> {
        let asked = TokenKind::of(peer);
        if asked != self.kind {
            return Err(TokenRefused::WrongKind {
                token: self.kind,
                asked,
            });
        }
        if now >= self.expires {
            return Err(TokenRefused::Expired(self.expires));
        }
        if !self.names.matches(peer.name()) {
            let (pattern, name) = (self.names.0.clone(), peer.name().to_owned());
            return Err(TokenRefused::Name { pattern, name });
        }
        let uses_left = self.uses_left.checked_sub(1).ok_or(TokenRefused::UsedUp)?;
        Ok(Self {
            uses_left,
            ..self.clone()
        })
    }

    /// Whether nobody can enrol with it any more, so that the store may forget it.
    pub fn is_spent(&self, now: Timestamp) -> bool {
        self.uses_left == 0 || now >= self.expires
    }
}

impl TokenKind {
    fn of(peer: &PeerIdentity) -> Self {
        match peer {
            PeerIdentity::Host(_) => Self::Host,
            PeerIdentity::Operator(_) => Self::Operator,
        }
    }
}

/// The word of the CLI and of messages.
impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Operator => "operator",
        })
    }
}

impl NamePattern {
    /// The pattern of every name.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether the whole name fits.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        let Some(mut rest) = rest.strip_suffix(last) else {
            return false;
        };
        // Each part in the middle is taken as early as it comes, which leaves the most for those behind it.
        for part in parts {
            let Some((_, behind)) = rest.split_once(part) else {
                return false;
            };
            rest = behind;
        }
        true
    }
}

impl FromStr for NamePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '*');
        if !(1..=MAX_PATTERN).contains(&text.len()) || !text.chars().all(allowed) {
            return Err(InvalidPattern);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for NamePattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comber_runtime::clock::later;
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn record() -> TokenRecord {
        TokenRecord {
            hash: SecretHash::from_bytes([9; 32]),
            kind: TokenKind::Host,
            uses_left: 2,
            expires: later(now(), Duration::from_hours(1)),
            names: "web-*".parse().unwrap(),
        }
    }

    fn host(name: &str) -> PeerIdentity {
        PeerIdentity::host(name).unwrap()
    }

    #[test]
    fn each_enrolment_takes_one_use() {
        let once = record().redeem(&host("web-1"), now()).unwrap();
        assert_eq!(
            once,
            TokenRecord {
                uses_left: 1,
                ..record()
            }
        );
        let twice = once.redeem(&host("web-2"), now()).unwrap();
        assert_eq!(
            twice.redeem(&host("web-3"), now()),
            Err(TokenRefused::UsedUp)
        );
        assert!(twice.is_spent(now()) && !once.is_spent(now()));
    }

    #[test]
    fn it_ends_at_its_last_instant() {
        let expires = record().expires;
        assert_eq!(
            record().redeem(&host("web-1"), expires),
            Err(TokenRefused::Expired(expires))
        );
        assert!(record().is_spent(expires));
    }

    #[test]
    fn an_operator_does_not_enrol_with_the_token_of_a_host() {
        let refused = record()
            .redeem(&PeerIdentity::operator("web-1").unwrap(), now())
            .unwrap_err();
        assert_eq!(
            refused,
            TokenRefused::WrongKind {
                token: TokenKind::Host,
                asked: TokenKind::Operator
            }
        );
        assert!(refused.to_string().contains("--kind operator"), "{refused}");
    }

    #[test]
    fn another_name_is_refused_and_takes_no_use() {
        let refused = record().redeem(&host("db-1"), now()).unwrap_err();
        assert_eq!(
            refused,
            TokenRefused::Name {
                pattern: "web-*".into(),
                name: "db-1".into()
            }
        );
    }

    #[test]
    fn patterns_fit_whole_names() {
        let cases = [
            ("*", "anything", true),
            ("web-1", "web-1", true),
            ("web-1", "web-10", false),
            ("*.example", "a.example", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("*b", "ab-b", true),
            ("a**b", "ab", true),
        ];
        for (pattern, name, fits) in cases {
            assert_eq!(
                pattern.parse::<NamePattern>().unwrap().matches(name),
                fits,
                "{pattern} {name}"
            );
        }
        assert_eq!("".parse::<NamePattern>(), Err(InvalidPattern));
        assert_eq!("web/*".parse::<NamePattern>(), Err(InvalidPattern));
    }

    #[test]
    fn stored_form_is_stable() {
        let stored = serde_json::to_string(&TokenRecord {
            uses_left: 1,
            ..record()
        })
        .unwrap();
        let hash = "09".repeat(32);
        let expected = format!(
            r#"{{"hash":"{hash}","kind":"host","uses_left":1,"expires":"2026-11-24T13:00:00Z","names":"web-*"}}"#
        );
        assert_eq!(stored, expected);
        assert_eq!(
            serde_json::from_str::<TokenRecord>(&stored)
                .unwrap()
                .uses_left,
            1
        );
        assert!(serde_json::from_str::<TokenRecord>(&stored.replace("web-*", "w b")).is_err());
    }

    proptest! {
        #[test]
        fn never_more_enrolments_than_uses(uses in 0_u32..6, names in prop::collection::vec("(web|db)-[0-9]", 0..12)) {
            let mut record = TokenRecord { uses_left: uses, ..record() };
            let mut enrolled = 0;
            for name in &names {
                if let Ok(next) = record.redeem(&host(name), now()) {
                    record = next;
                    enrolled += 1;
                    prop_assert!(name.starts_with("web-"));
                }
            }
            prop_assert!(enrolled <= uses);
            prop_assert_eq!(record.uses_left, uses - enrolled);
        }

        /// The quick matcher agrees with the definition: every split of the name is tried.
        #[test]
        fn matching_agrees_with_its_definition(pattern in "[ab*]{1,6}", name in "[ab]{0,8}") {
            let quick = pattern.parse::<NamePattern>().unwrap().matches(&name);
            prop_assert_eq!(quick, by_definition(pattern.as_bytes(), name.as_bytes()));
        }
    }

    fn by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|at| by_definition(rest, &name[at..])),
            Some((first, rest)) => name.first() == Some(first) && by_definition(rest, &name[1..]),
        }
    }
}
