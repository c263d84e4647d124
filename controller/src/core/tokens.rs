//! Enrolment tokens, and what they are exchanged for.

use std::collections::BTreeMap;

use comber_model::event::EventKind;
use comber_model::{Digest, Facts, Host, HostId, IssuedCertificate, Labels};
use comber_runtime::peer::PeerIdentity;
use comber_runtime::token::SecretHash;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::edit::Edit;
use super::{Core, CoreError, World, revocations};
use crate::pki::tokens::{TokenRecord, TokenRefused};
use crate::store::Op;

/// Tokens that can be used at once; more are a mistake or an attack.
const TOKENS_MAX: usize = 10_000;

/// A token as the controller keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it is worth.
    pub record: TokenRecord,
    /// Labels that hosts enrolled with it get.
    pub labels: Labels,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// What is kept of a certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its sha256.
    pub fingerprint: Digest,
    /// From when on it holds, as it says itself.
    pub not_before: Timestamp,
    /// Its number, its end, and who signed it.
    pub issued: IssuedCertificate,
}

impl Token {
    /// Names it in lists and revocation: the first 12 digits of its hash.
    pub fn id(&self) -> String {
        Digest(*self.record.hash.as_bytes()).short()
    }
}

impl Core {
    /// Keeps a token.
    pub async fn create_token(&self, token: Token) -> Result<(), CoreError> {
        self.edit(move |edit| create(edit, token)).await
    }

    /// Ends a token at once.
    pub async fn revoke_token(&self, id: &str, actor: &str) -> Result<(), CoreError> {
        let (id, actor) = (id.to_owned(), actor.to_owned());
        self.edit(move |edit| revoke(edit, &id, &actor)).await
    }

    /// Whether a token would let this peer in now. Nothing is spent: it spares the work of signing for those whom
    /// [`Core::enrol`] would refuse anyway.
    pub async fn would_enrol(
        &self,
        secret: SecretHash,
        peer: &PeerIdentity,
    ) -> Result<(), CoreError> {
        let world = self.read().await;
        let token = known(&world, secret)?;
        let redeemed = token.record.redeem(peer, world.now());
        redeemed.map_err(|why| refused(&why))?;
        match peer {
            PeerIdentity::Host(name) => not_there(&world, name),
            PeerIdentity::Operator(_) => Ok(()),
        }
    }

    /// Spends one use of a token for a peer whose certificate is made; for a host, also enrols it. Durable before the
    /// certificate is handed out, so a token is never used more often than it may be.
    pub async fn enrol(
        &self,
        secret: SecretHash,
        peer: PeerIdentity,
        certificate: Certificate,
    ) -> Result<(), CoreError> {
        self.edit(move |edit| enrol(edit, secret, &peer, certificate))
            .await
    }

    /// Notes a host's renewed certificate.
    ///
    /// Durable before it is handed out: a host that is revoked meanwhile gets nothing, and one that is revoked later has
    /// nothing that is not known here.
    pub async fn renewed(&self, host: &HostId, certificate: Certificate) -> Result<(), CoreError> {
        let id = host.clone();
        self.edit(move |edit| {
            let view = edit.world.enrolled(&id)?;
            let mut host = view.host.clone();
            host.certificate = certificate.fingerprint;
            host.remember(certificate.issued, edit.now);
            edit.put_host(host, Vec::new());
            Ok(())
        })
        .await
    }
}

fn create(edit: &mut Edit<'_>, token: Token) -> Result<(), CoreError> {
    let now = edit.now;
    let spent = edit
        .world
        .tokens
        .iter()
        .filter(|(_, token)| token.record.is_spent(now));
    let spent: Vec<String> = spent.map(|(id, _)| id.clone()).collect();
    for id in &spent {
        edit.remove_token(id, Vec::new());
    }
    if edit.world.tokens.len() >= TOKENS_MAX {
        let why = format!("there are {TOKENS_MAX} tokens; revoke some with: comber token revoke");
        return Err(CoreError::Refused(why));
    }
    let text = format!(
        "a {} token for {} uses was made by {}",
        token.record.kind, token.record.uses_left, token.created_by
    );
    let event = edit.event_by(EventKind::TokenCreated, &token.created_by, text);
    let event = edit.event(&event);
    edit.put_token(token, vec![event]);
    Ok(())
}

fn known(world: &World, secret: SecretHash) -> Result<&Token, CoreError> {
    let id = Digest(*secret.as_bytes()).short();
    let token = world.tokens.get(&id);
    let unknown = "the token is unknown or was revoked; make a new one with: comber token create";
    token
        .filter(|token| token.record.hash == secret)
        .ok_or_else(|| CoreError::Unauthenticated(unknown.to_owned()))
}

fn revoke(edit: &mut Edit<'_>, id: &str, actor: &str) -> Result<(), CoreError> {
    if !edit.world.tokens.contains_key(id) {
        return Err(CoreError::missing("token", id));
    }
    let text = format!("the token {id} was revoked by {actor}");
    let event = edit.event_by(EventKind::TokenRevoked, actor, text);
    let event = edit.event(&event);
    edit.remove_token(id, vec![event]);
    Ok(())
}

fn enrol(
    edit: &mut Edit<'_>,
    secret: SecretHash,
    peer: &PeerIdentity,
    certificate: Certificate,
) -> Result<(), CoreError> {
    let token = known(edit.world, secret)?.clone();
    let record = token
        .record
        .redeem(peer, edit.now)
        .map_err(|why| refused(&why))?;
    let host = match peer {
        PeerIdentity::Host(name) => {
            not_there(edit.world, name)?;
            Some(enrolled(edit, name, &token, certificate)?)
        }
        PeerIdentity::Operator(_) => None,
    };
    let author = &token.created_by;
    let (name, kind) = match peer {
        PeerIdentity::Host(name) => (name, EventKind::HostEnrolled),
        PeerIdentity::Operator(name) => (name, EventKind::OperatorEnrolled),
    };
    let text = format!("{name} was enrolled with a token of {author}");
    let mut event = edit.event_by(kind, author, text);
    event.host = host.as_ref().map(|(host, _)| host.id.clone());
    let event = edit.event(&event);
    let used = Token {
        record,
        ..token.clone()
    };
    match host {
        Some((host, mut ops)) => {
            edit.put_token(used, Vec::new());
            ops.push(event);
            edit.world.presences.remove(&host.id);
            edit.put_host(host, ops);
        }
        None => edit.put_token(used, vec![event]),
    }
    Ok(())
}

/// A name that the token does not allow is a matter of permission; all else is a token that lets nobody in.
fn refused(why: &TokenRefused) -> CoreError {
    match why {
        TokenRefused::Name { .. } => CoreError::Denied(why.to_string()),
        TokenRefused::WrongKind { .. } | TokenRefused::Expired(_) | TokenRefused::UsedUp => {
            CoreError::Unauthenticated(why.to_string())
        }
    }
}

/// A name whose host is connected is taken: whoever asks for it is another machine, or the same one beside its own agent.
fn not_there(world: &World, name: &str) -> Result<(), CoreError> {
    let id: HostId = name
        .parse()
        .map_err(|error| CoreError::Invalid(vec![error]))?;
    let view = world.input.hosts.get(&id);
    if view.is_none_or(|view| view.host.retired_at.is_some() || !view.link.is_up()) {
        return Ok(());
    }
    Err(CoreError::Refused(format!(
        "host {id} is connected now; enrol this machine under another name with --name, or, if it shall take that \
         host's place, stop the agent there or run: comber host retire {id}"
    )))
}

/// The host's record: a new one, or what is known of it with the new certificate. A retired host is taken in again.
///
/// What it held before is revoked by number: two certificates of one second cannot be told apart by their begin.
fn enrolled(
    edit: &mut Edit<'_>,
    name: &str,
    token: &Token,
    certificate: Certificate,
) -> Result<(Host, Vec<Op>), CoreError> {
    let id: HostId = name
        .parse()
        .map_err(|error| CoreError::Invalid(vec![error]))?;
    let known = edit
        .world
        .input
        .hosts
        .get(&id)
        .map(|view| view.host.clone());
    let mut host = known.unwrap_or_else(|| Host {
        id,
        labels: Labels::default(),
        facts: Facts::default(),
        packages: None,
        enrolled_at: edit.now,
        retired_at: None,
        certificate: certificate.fingerprint,
        certificates_since: certificate.not_before,
        barred: None,
        issued: Vec::new(),
    });
    let labels: BTreeMap<String, String> = token.labels.clone().into();
    host.labels = host
        .labels
        .edited(labels, [])
        .map_err(|error| CoreError::Invalid(vec![error]))?;
    host.retired_at = None;
    host.certificate = certificate.fingerprint;
    host.certificates_since = certificate.not_before;
    host.barred = None;
    let ops = revocations::revoke_issued(edit, &mut host, None);
    host.remember(certificate.issued, edit.now);
    Ok((host, ops))
}
