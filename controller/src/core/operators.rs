//! Operators: making, revoking, their tokens, and whether one may still do what it asks.
//!
//! Invariant: whatever proves an operator is looked up here at each call, and again by the edit that it asks for, so a
//! right that was taken is gone at once, also for what already waits in the queue.

use std::sync::Arc;
use std::time::Duration;

use comber_model::access::{
    Grants, OPERATOR_TOKENS_MAX, Operator, OperatorToken, Role, check_purpose,
};
use comber_model::event::EventKind;
use comber_model::selector::{Selector, Subject};
use comber_model::{Digest, Host, Invalid};
use comber_runtime::clock::later;
use comber_runtime::peer::PeerIdentity;
use jiff::Timestamp;

use super::caller::{Authority, Proof};
use super::edit::Edit;
use super::{Core, CoreError, World};

/// Most operators, revoked ones among them.
const OPERATORS_MAX: usize = 10_000;

/// An operator as an admin wants it.
#[derive(Debug, Clone)]
pub struct NewOperator {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub grants: Grants,
    /// What approvals call it.
    pub groups: std::collections::BTreeSet<String>,
    /// How long.
    pub ttl: Option<Duration>,
    /// Whether it may take the place of one that is there.
    pub replace: bool,
}

impl Core {
    /// Makes an operator, or changes one. Gives it as it is kept.
    pub async fn create_operator(
        &self,
        new: NewOperator,
        actor: &str,
    ) -> Result<Arc<Operator>, CoreError> {
        let actor = actor.to_owned();
        self.edit(move |edit| create(edit, new, &actor)).await
    }

    /// Ends all that proves an operator.
    pub async fn revoke_operator(
        &self,
        name: &str,
        actor: &str,
    ) -> Result<Arc<Operator>, CoreError> {
        let (name, actor) = (name.to_owned(), actor.to_owned());
        self.edit(move |edit| revoke(edit, &name, &actor)).await
    }

    /// Keeps a bearer token of an operator.
    pub async fn create_operator_token(
        &self,
        name: &str,
        token: OperatorToken,
    ) -> Result<(), CoreError> {
        let name = name.to_owned();
        self.edit(move |edit| add_token(edit, &name, token)).await
    }

    /// Ends a bearer token.
    pub async fn revoke_operator_token(
        &self,
        name: &str,
        id: &str,
        actor: &str,
    ) -> Result<(), CoreError> {
        let (name, id, actor) = (name.to_owned(), id.to_owned(), actor.to_owned());
        self.edit(move |edit| revoke_token(edit, &name, &id, &actor))
            .await
    }

    /// Writes down an operator whose certificate is older than the records of operators are: until then every operator
    /// was what an admin is now.
    pub async fn adopt_operator(&self, name: &str) -> Result<(), CoreError> {
        let name = name.to_owned();
        self.edit(move |edit| {
            if !edit.world.operators.contains_key(&name) {
                let operator = fresh(edit, &name, Grants::admin(), "upgrade");
                tracing::info!(operator = name, "an operator from before is kept as admin");
                edit.put_operator(operator, Vec::new());
            }
            Ok(())
        })
        .await
    }
}

impl World {
    /// The operator of a certificate that began then; nothing where it is to be adopted first.
    pub fn operator_by_certificate(
        &self,
        name: &str,
        not_before: Timestamp,
        now: Timestamp,
    ) -> Result<Option<&Arc<Operator>>, CoreError> {
        let Some(operator) = self.operators.get(name) else {
            if self
                .meta
                .operators_since
                .is_some_and(|since| not_before < since)
            {
                return Ok(None);
            }
            return Err(CoreError::Unauthenticated(format!(
                "there is no operator {name} here; an admin makes one with: comber operator create"
            )));
        };
        usable(operator, now)?;
        if not_before < operator.certificates_since {
            return Err(CoreError::Unauthenticated(format!(
                "operator {name} was revoked and made again since this certificate was issued; enrol again"
            )));
        }
        Ok(Some(operator))
    }

    /// The operator of a bearer token.
    pub fn operator_by_token(
        &self,
        hash: Digest,
        now: Timestamp,
    ) -> Result<&Arc<Operator>, CoreError> {
        let unknown = || {
            CoreError::Unauthenticated(
                "the operator's token is unknown here; an admin makes one with: comber operator token create".to_owned(),
            )
        };
        let name = self.bearers.get(&hash).ok_or_else(unknown)?;
        let operator = self.operators.get(name).ok_or_else(unknown)?;
        let token = operator.tokens.iter().find(|token| token.hash == hash);
        if let Some(why) = token.ok_or_else(unknown)?.refusal(now) {
            let why = format!("{why}; make a new one with: comber operator token create");
            return Err(CoreError::Unauthenticated(why));
        }
        usable(operator, now)?;
        Ok(operator)
    }

    /// Whether an operator that was let in still may do what it was let in for.
    pub fn still(&self, authority: &Authority, now: Timestamp) -> Result<(), CoreError> {
        let operator = match &authority.proof {
            Proof::Certificate(begin) => {
                self.operator_by_certificate(&authority.name, *begin, now)?
            }
            Proof::Token(hash) => Some(self.operator_by_token(*hash, now)?),
        };
        let holds = operator
            .is_some_and(|operator| operator.grants.over(authority.role) == Some(&authority.scope));
        if holds {
            return Ok(());
        }
        Err(CoreError::Denied(format!(
            "operator {} does not hold the role {} any more as it did when it called",
            authority.name, authority.role
        )))
    }

    /// True where time alone can take an operator's right away.
    pub fn ends_by_itself(&self, authority: &Authority) -> bool {
        let operator = self.operators.get(&authority.name);
        matches!(authority.proof, Proof::Token(_))
            || operator.is_some_and(|operator| operator.expires_at.is_some())
    }
}

/// The hosts that an edit may be about, by the scope of whoever asked for it.
#[derive(Debug)]
pub(crate) struct Reach {
    selector: Option<Selector>,
    name: String,
    role: &'static str,
}

impl Reach {
    /// Of an operator in a role that the call itself does not ask for.
    pub(crate) fn in_role(operator: &Operator, role: Role) -> Result<Self, CoreError> {
        let scope = operator.grants.over(role);
        let selector = scope.and_then(comber_model::access::Scope::selector);
        let selector = selector.map(Selector::parse).transpose();
        Ok(Self {
            selector: selector.map_err(|error| CoreError::Invalid(vec![error]))?,
            name: operator.name.clone(),
            role: role.as_str(),
        })
    }

    /// Of this caller.
    pub(crate) fn of(by: Option<&super::Caller>) -> Result<Self, CoreError> {
        let authority = by.and_then(super::Caller::authority);
        let source = authority.and_then(|authority| authority.scope.selector());
        let selector = source.map(Selector::parse).transpose();
        Ok(Self {
            selector: selector.map_err(|error| CoreError::Invalid(vec![error]))?,
            name: authority.map_or_else(String::new, |authority| authority.name.clone()),
            role: authority.map_or("", |authority| authority.role.as_str()),
        })
    }

    /// The selector; nothing where there is no limit.
    pub(crate) fn source(&self) -> Option<&str> {
        self.selector.as_ref().map(Selector::source)
    }

    /// True where nothing is out of reach.
    pub(crate) fn is_whole(&self) -> bool {
        self.selector.is_none()
    }

    /// Whether a host is within.
    pub(crate) fn has(&self, host: &Host) -> bool {
        let subject = || Subject::new(host, &comber_model::packages::Versions::default());
        self.selector
            .as_ref()
            .is_none_or(|selector| selector.selects(&subject()))
    }

    /// Refuses a host that is not.
    pub(crate) fn check(&self, host: &Host) -> Result<(), CoreError> {
        if self.has(host) {
            return Ok(());
        }
        Err(self.refusal(&format!("{} is outside", host.id)))
    }

    /// Says that something is outside, naming the scope.
    pub(crate) fn refusal(&self, what: &str) -> CoreError {
        CoreError::Denied(format!(
            "{what} the scope of {}, who is {} of: {}",
            self.name,
            self.role,
            self.source().unwrap_or("everything")
        ))
    }
}

fn usable(operator: &Operator, now: Timestamp) -> Result<(), CoreError> {
    match operator.refusal(now) {
        Some(why) => Err(CoreError::Unauthenticated(format!(
            "{why}; an admin makes it again with: comber operator create"
        ))),
        None => Ok(()),
    }
}

/// An operator that nothing proves yet.
fn fresh(edit: &Edit<'_>, name: &str, grants: Grants, by: &str) -> Operator {
    Operator {
        name: name.to_owned(),
        grants,
        groups: std::collections::BTreeSet::default(),
        created_by: by.to_owned(),
        created_at: edit.now,
        expires_at: None,
        revoked_at: None,
        certificates_since: Timestamp::UNIX_EPOCH,
        tokens: Vec::new(),
    }
}

fn create(edit: &mut Edit<'_>, new: NewOperator, actor: &str) -> Result<Arc<Operator>, CoreError> {
    let invalid =
        |field: &str, problem: String| CoreError::Invalid(vec![Invalid::new(field, problem)]);
    PeerIdentity::operator(&new.name).map_err(|error| invalid("name", error.to_string()))?;
    let expires_at = new.ttl.map(|ttl| later(edit.now, ttl));
    let there = edit.world.operators.get(&new.name).map(AsRef::as_ref);
    let operator = match there {
        Some(there) if there.revoked_at.is_none() && !new.replace => {
            return Err(CoreError::Exists(format!(
                "there is an operator {} already; change it with --replace",
                new.name
            )));
        }
        // Nothing that proved it before it was revoked proves it again.
        Some(there) if there.revoked_at.is_some() => Operator {
            certificates_since: Timestamp::MAX,
            groups: new.groups,
            expires_at,
            ..fresh(edit, &new.name, new.grants, actor)
        },
        Some(there) => Operator {
            grants: new.grants,
            groups: new.groups,
            expires_at,
            ..there.clone()
        },
        None if edit.world.operators.len() >= OPERATORS_MAX => {
            return Err(CoreError::Refused(format!(
                "there are {OPERATORS_MAX} operators"
            )));
        }
        None => Operator {
            groups: new.groups,
            expires_at,
            ..fresh(edit, &new.name, new.grants, actor)
        },
    };
    let problems = operator.group_problems();
    if !problems.is_empty() {
        return Err(CoreError::Invalid(problems));
    }
    keeps_an_admin(edit, &operator)?;
    let verb = if there.is_some() { "changed" } else { "made" };
    let text = format!(
        "operator {} was {verb} by {actor}: {}",
        operator.name, operator.grants
    );
    tracing::info!(operator = operator.name, actor, "operator {verb}");
    let kind = if there.is_some() {
        EventKind::OperatorChanged
    } else {
        EventKind::OperatorCreated
    };
    let event = edit.event_by(kind, actor, text);
    let event = edit.event(&event);
    Ok(edit.put_operator(operator, vec![event]))
}

/// Refuses what would leave nobody who could undo it.
fn keeps_an_admin(edit: &Edit<'_>, changed: &Operator) -> Result<(), CoreError> {
    let now = edit.now;
    let rules = |operator: &Operator| {
        operator.refusal(now).is_none() && operator.grants.over(Role::Admin).is_some()
    };
    let caller = edit.by.as_deref().and_then(super::Caller::authority);
    if caller.is_some_and(|caller| caller.name == changed.name) && !rules(changed) {
        let why = "nobody takes its own right away; another admin does that";
        return Err(CoreError::Refused(why.to_owned()));
    }
    let was = edit.world.operators.get(&changed.name);
    let others = edit
        .world
        .operators
        .values()
        .filter(|other| other.name != changed.name);
    if was.is_some_and(|was| rules(was))
        && !rules(changed)
        && !others.into_iter().any(|other| rules(other))
    {
        return Err(CoreError::Refused(format!(
            "{} is the last admin; make another one first with: comber operator create NAME --role admin",
            changed.name
        )));
    }
    Ok(())
}

fn revoke(edit: &mut Edit<'_>, name: &str, actor: &str) -> Result<Arc<Operator>, CoreError> {
    let there = edit.world.operators.get(name).cloned();
    let there = match there {
        Some(there) if there.revoked_at.is_some() => return Ok(there),
        Some(there) => there.as_ref().clone(),
        // One from before the records of operators, who has not called since, is known by name only.
        None if edit
            .world
            .meta
            .operators_since
            .is_some_and(|since| since > Timestamp::UNIX_EPOCH) =>
        {
            PeerIdentity::operator(name).map_err(|_| CoreError::missing("operator", name))?;
            fresh(edit, name, Grants::admin(), "upgrade")
        }
        None => return Err(CoreError::missing("operator", name)),
    };
    let operator = Operator {
        revoked_at: Some(edit.now),
        tokens: Vec::new(),
        ..there
    };
    keeps_an_admin(edit, &operator)?;
    tracing::info!(operator = name, actor, "operator revoked");
    let text = format!("operator {name} was revoked by {actor}");
    let event = edit.event_by(EventKind::OperatorRevoked, actor, text);
    let event = edit.event(&event);
    Ok(edit.put_operator(operator, vec![event]))
}

fn active(edit: &Edit<'_>, name: &str) -> Result<Operator, CoreError> {
    let operator = edit.world.operators.get(name);
    let operator = operator.ok_or_else(|| CoreError::missing("operator", name))?;
    match operator.refusal(edit.now) {
        Some(why) => Err(CoreError::Refused(why)),
        None => Ok(operator.as_ref().clone()),
    }
}

fn add_token(edit: &mut Edit<'_>, name: &str, token: OperatorToken) -> Result<(), CoreError> {
    check_purpose(&token.purpose).map_err(|error| CoreError::Invalid(vec![error]))?;
    let mut operator = active(edit, name)?;
    let now = edit.now;
    operator.tokens.retain(|token| now < token.expires_at);
    if operator.tokens.len() >= OPERATOR_TOKENS_MAX {
        let why = format!(
            "{name} has {OPERATOR_TOKENS_MAX} tokens that have not ended; wait for one to end, or make another operator"
        );
        return Err(CoreError::Refused(why));
    }
    let actor = &token.created_by;
    let text = format!(
        "a token of operator {name} was made by {actor}; it ends at {}",
        token.expires_at
    );
    let event = edit.event_by(EventKind::OperatorTokenCreated, actor, text);
    let event = edit.event(&event);
    operator.tokens.push(token);
    edit.put_operator(operator, vec![event]);
    Ok(())
}

fn revoke_token(edit: &mut Edit<'_>, name: &str, id: &str, actor: &str) -> Result<(), CoreError> {
    let there = edit.world.operators.get(name);
    let mut operator = there
        .ok_or_else(|| CoreError::missing("operator", name))?
        .as_ref()
        .clone();
    let token = operator.tokens.iter_mut().find(|token| token.id() == id);
    let token = token.ok_or_else(|| CoreError::missing(&format!("token of {name} named"), id))?;
    if token.revoked_at.is_some() {
        return Ok(());
    }
    token.revoked_at = Some(edit.now);
    let text = format!("the token {id} of operator {name} was revoked by {actor}");
    let event = edit.event_by(EventKind::OperatorTokenRevoked, actor, text);
    let event = edit.event(&event);
    edit.put_operator(operator, vec![event]);
    Ok(())
}

/// Notes that an operator enrolled with an enrolment token. `grants` are what the token itself brings: only one of the
/// controller's own, or from before the records of operators, brings any.
pub(super) fn enrolled(
    edit: &Edit<'_>,
    name: &str,
    grants: Option<Grants>,
    not_before: Timestamp,
) -> Result<Operator, CoreError> {
    let there = edit.world.operators.get(name).map(AsRef::as_ref);
    match (there, grants) {
        (Some(there), None) => {
            usable(there, edit.now)?;
            Ok(since(there.clone(), not_before))
        }
        (Some(there), Some(grants)) => {
            let operator = Operator {
                grants,
                revoked_at: None,
                expires_at: None,
                ..there.clone()
            };
            // Whoever was revoked comes back by the new certificate alone.
            let revoked = there.revoked_at.is_some();
            let certificates_since = if revoked {
                Timestamp::MAX
            } else {
                there.certificates_since
            };
            Ok(since(
                Operator {
                    certificates_since,
                    ..operator
                },
                not_before,
            ))
        }
        (None, Some(grants)) => Ok(fresh(edit, name, grants, "controller")),
        (None, None) => Err(CoreError::Denied(format!(
            "there is no operator {name}; an admin makes one with: comber operator create {name} --role viewer"
        ))),
    }
}

fn since(operator: Operator, not_before: Timestamp) -> Operator {
    if operator.certificates_since == Timestamp::MAX {
        return Operator {
            certificates_since: not_before,
            ..operator
        };
    }
    operator
}
