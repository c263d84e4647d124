//! Bearer tokens of operators: one line of text that proves who a program or person is, for as long as it lives.
//!
//! `cmbo1_` and, in URL-safe base64, 32 secret bytes, the sha256 of the controller's CA certificate (the pin) and 4 bytes
//! of checksum: as enrolment tokens, but another prefix and a longer secret, so that neither passes for the other. The
//! controller keeps only the hash of the secret. Invariant: the text is shown by [`BearerToken::reveal`] alone, never by
//! `Debug`.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::tls::Pin;
use crate::token::{NoRandomness, SecretHash};

/// What every bearer token of this format begins with.
pub const PREFIX: &str = "cmbo1_";

/// 256 bits: nobody guesses it, so that a plain hash protects it at rest.
const SECRET_BYTES: usize = 32;
const PIN_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;
const BODY_BYTES: usize = SECRET_BYTES + PIN_BYTES + CHECKSUM_BYTES;

/// A parsed or new bearer token.
#[derive(Clone, Eq, PartialEq)]
pub struct BearerToken {
    secret: [u8; SECRET_BYTES],
    pin: Pin,
}

/// Why a text is not a bearer token.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum InvalidBearer {
    /// Something else was pasted.
    #[error(
        "an operator's token begins with {PREFIX}; make one with `comber operator token create`"
    )]
    Prefix,
    /// Part of it is missing, something follows it, or a character was changed.
    #[error("the operator's token is damaged; copy it again, whole")]
    Damaged,
}

impl BearerToken {
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

    /// What the controller stores in place of the secret.
    pub fn secret_hash(&self) -> SecretHash {
        SecretHash::of(&self.secret)
    }

    /// The whole token as text. Only for showing it to its owner once, and for sending it over a verified connection.
    pub fn reveal(&self) -> String {
        let mut body = Vec::with_capacity(BODY_BYTES);
        body.extend_from_slice(&self.secret);
        body.extend_from_slice(self.pin.as_bytes());
        let sum = checksum(&body);
        body.extend_from_slice(&sum);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(body))
    }
}

impl FromStr for BearerToken {
    type Err = InvalidBearer;

    fn from_str(text: &str) -> Result<Self, InvalidBearer> {
        let encoded = text.trim().strip_prefix(PREFIX);
        let encoded = encoded.ok_or(InvalidBearer::Prefix)?;
        let body = URL_SAFE_NO_PAD.decode(encoded).ok();
        let body = body.filter(|body| body.len() == BODY_BYTES);
        let body = body.ok_or(InvalidBearer::Damaged)?;
        let (content, sum) = body.split_at(BODY_BYTES - CHECKSUM_BYTES);
        if sum != checksum(content) {
            return Err(InvalidBearer::Damaged);
        }
        let (secret, pin) = content.split_at(SECRET_BYTES);
        let damaged = |_| InvalidBearer::Damaged;
        let pin: [u8; PIN_BYTES] = pin.try_into().map_err(damaged)?;
        Ok(Self {
            secret: secret.try_into().map_err(damaged)?,
            pin: Pin::from_bytes(pin),
        })
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerToken")
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let sum = Sha256::digest(content);
    [sum[0], sum[1], sum[2], sum[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> BearerToken {
        BearerToken::generate(Pin::from_bytes([7; 32])).unwrap()
    }

    #[test]
    fn the_text_is_read_back_and_each_is_another() {
        let (one, two) = (token(), token());
        assert_ne!(one.reveal(), two.reveal());
        let read: BearerToken = format!(" {}\n", one.reveal()).parse().unwrap();
        assert_eq!(read, one);
        assert_eq!(read.secret_hash(), one.secret_hash());
        assert!(!format!("{one:?}").contains(&one.reveal()[6..20]));
    }

    #[test]
    fn a_changed_or_cut_text_is_refused_and_so_is_an_enrolment_token() {
        let text = token().reveal();
        let cut = &text[..text.len() - 1];
        assert_eq!(cut.parse::<BearerToken>(), Err(InvalidBearer::Damaged));
        let other = if text.ends_with("AA") { "BA" } else { "AA" };
        let changed = format!("{}{other}", &text[..text.len() - 2]);
        assert_eq!(changed.parse::<BearerToken>(), Err(InvalidBearer::Damaged));
        let enrolment = crate::token::Token::generate(Pin::from_bytes([7; 32])).unwrap();
        assert_eq!(
            enrolment.reveal().parse::<BearerToken>(),
            Err(InvalidBearer::Prefix)
        );
    }
}
