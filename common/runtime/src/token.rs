//! Enrolment tokens: one line of text that lets a new host trust the controller and the controller trust the host.
//!
//! `cmb1_` and, in URL-safe base64, 24 secret bytes, the sha256 of the controller's CA certificate (the pin) and 4 bytes
//! of checksum. The pin means that a new host never trusts a server on first use; the checksum tells a token that was
//! cut while copying from one that was used up. The controller keeps only the hash of the secret, so its store gives
//! away no token. Invariant: the secret is shown by [`Token::reveal`] and [`Token::secret`] alone, never by `Debug`.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::tls::{InvalidPin, Pin};

/// What every token of this format begins with; another format gets another number.
pub const PREFIX: &str = "cmb1_";

/// Bytes of a token's secret.
pub const SECRET_BYTES: usize = 24;
const PIN_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;
const BODY_BYTES: usize = SECRET_BYTES + PIN_BYTES + CHECKSUM_BYTES;
/// 60 bytes are 80 characters without padding.
const BODY_CHARACTERS: usize = BODY_BYTES / 3 * 4;

/// A parsed or new token.
#[derive(Clone, Eq, PartialEq)]
pub struct Token {
    secret: [u8; SECRET_BYTES],
    pin: Pin,
}

/// The sha256 of a token's secret: what the controller stores and looks up, in hex wherever it is text.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct SecretHash([u8; 32]);

/// Why a text is not a token, with what to do about it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum InvalidToken {
    /// Something else was pasted.
    #[error("an enrolment token begins with {PREFIX}; make one with `comber token create`")]
    Prefix,
    /// Part of it is missing or something follows it.
    #[error(
        "the token has {found} characters after {PREFIX} in place of {BODY_CHARACTERS}; copy it again, whole"
    )]
    Length {
        /// Characters that came after the prefix.
        found: usize,
    },
    /// A character that no token has.
    #[error("the token holds a character that is not a letter, digit, - or _; copy it again")]
    Alphabet,
    /// A character was changed.
    #[error("the token's checksum is wrong, so a character was changed; copy it again")]
    Checksum,
}

/// A text that is not 64 hex digits.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a token is named by the 64 hex digits that `comber token list` shows")]
pub struct InvalidSecretHash;

/// The kernel gave no randomness, without which no secret can be made.
#[derive(Debug, Error)]
#[error("no randomness from the kernel for a secret")]
pub struct NoRandomness(#[source] pub(crate) getrandom::Error);

impl Token {
    /// A new token with a random secret, for the controller whose CA has this `pin`.
    pub fn generate(pin: Pin) -> Result<Self, NoRandomness> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(NoRandomness)?;
        Ok(Self { secret, pin })
    }

    /// The sha256 of the CA certificate that the controller must show.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// The secret itself. Only for sending it, once, over a connection verified by the pin.
    pub fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.secret
    }

    /// What the controller stores in place of the secret.
    pub fn secret_hash(&self) -> SecretHash {
        SecretHash::of(&self.secret)
    }

    /// The whole token as text. Only for showing it to its owner and for sending it over a verified connection.
    pub fn reveal(&self) -> String {
        let mut body = [0; BODY_BYTES];
        body[..SECRET_BYTES].copy_from_slice(&self.secret);
        body[SECRET_BYTES..SECRET_BYTES + PIN_BYTES].copy_from_slice(self.pin.as_bytes());
        let (content, sum) = body.split_at_mut(SECRET_BYTES + PIN_BYTES);
        sum.copy_from_slice(&checksum(content));
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(body))
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text
            .trim()
            .strip_prefix(PREFIX)
            .ok_or(InvalidToken::Prefix)?;
        let found = encoded.chars().count();
        if found != BODY_CHARACTERS {
            return Err(InvalidToken::Length { found });
        }
        let body = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| InvalidToken::Alphabet)?;
        let (content, sum) = body
            .split_at_checked(BODY_BYTES - CHECKSUM_BYTES)
            .ok_or(InvalidToken::Alphabet)?;
        if sum != checksum(content) {
            return Err(InvalidToken::Checksum);
        }
        let (secret, pin) = content.split_first_chunk().ok_or(InvalidToken::Alphabet)?;
        let pin = pin.try_into().map_err(|_| InvalidToken::Alphabet)?;
        Ok(Self {
            secret: *secret,
            pin: Pin::from_bytes(pin),
        })
    }
}

/// The token as text, secret included; see [`Token::reveal`].
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reveal())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

impl SecretHash {
    /// The hash of a secret that a peer sent; whatever its length, another secret has another hash.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// The 32 bytes, as they are stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A hash read back from the store.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// In hex: it is also the name by which an operator lists and revokes a token.
impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for SecretHash {
    type Err = InvalidSecretHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pin: Pin = text.parse().map_err(|InvalidPin| InvalidSecretHash)?;
        Ok(Self(*pin.as_bytes()))
    }
}

impl TryFrom<String> for SecretHash {
    type Error = InvalidSecretHash;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> Self {
        hash.to_string()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretHash({self})")
    }
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new()
        .chain_update(PREFIX)
        .chain_update(content)
        .finalize();
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token::generate(Pin::from_bytes([7; 32])).unwrap()
    }

    #[test]
    fn text_and_back() {
        let token = token();
        assert_eq!(token.reveal().len(), 85);
        assert_eq!(format!(" {token}\n").parse(), Ok(token));
    }

    #[test]
    fn two_tokens_differ() {
        assert_ne!(token().secret_hash(), token().secret_hash());
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = token();
        let shown = format!("{token:?}");
        assert!(!shown.contains(&token.reveal()[5..30]), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let text = token().reveal();
        assert_eq!("abc".parse::<Token>(), Err(InvalidToken::Prefix));
        assert_eq!(
            text[..84].parse::<Token>(),
            Err(InvalidToken::Length { found: 79 })
        );
        assert_eq!(
            format!("{text}x").parse::<Token>(),
            Err(InvalidToken::Length { found: 81 })
        );
        assert_eq!(
            format!("{}é", &text[..84]).parse::<Token>(),
            Err(InvalidToken::Alphabet)
        );
    }

    proptest! {
        #[test]
        fn no_changed_character_goes_unnoticed(at in 5_usize..85, to in "[A-Za-z0-9_-]") {
            let text = token().reveal();
            prop_assume!(text[at..=at] != to);
            let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
            prop_assert_eq!(changed.parse::<Token>(), Err(InvalidToken::Checksum));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(cmb1_)?\\PC{0,100}") {
            let _ = text.parse::<Token>();
        }
    }
}
