//! Revocation: certificates that are refused although they are of our CA and not over.
//!
//! By host: a barred host is refused whatever it shows, until it is enrolled again. By number: what was issued to it stays
//! refused after that, and an operator's certificate has no other way. Both are records; both count from the instant at
//! which they are durable, for connections that are open as for new ones.
//! Invariant: a certificate that was refused once for its number is refused until it could not be renewed any more.

use std::time::Duration;

use comber_model::event::EventKind;
use comber_model::{BarReason, Barred, Host, HostId, IssuedCertificate};
use comber_runtime::clock::later;
use comber_runtime::peer::PeerIdentity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::agents::Ending;
use super::edit::Edit;
use super::{Core, CoreError, World};
use crate::store::Op;

/// Records are kept so long after the end of their certificate: longer than the longest grace within which a certificate
/// that is over may still be renewed.
pub const KEPT: Duration = Duration::from_hours(24 * 400);
/// Most records: each is a leak of a key or a host that went, and a fleet has not more of them.
const REVOKED_MAX: usize = 1_000_000;
/// Longest serial number: 20 bytes by the standard, in hexadecimal.
const SERIAL_MAX: usize = 40;

/// A certificate that is refused for its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Its number, in hexadecimal.
    pub serial: String,
    /// Whose it is, as its URI says; absent where only the number is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its last valid second; absent where that is not known, and the record is then kept for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// When it was revoked.
    pub at: Timestamp,
    /// By whom; absent where it went with its host's new enrolment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Revocation {
    fn is_needless(&self, now: Timestamp) -> bool {
        self.not_after.is_some_and(|end| later(end, KEPT) < now)
    }
}

impl Core {
    /// Refuses every certificate of a host from now on, and ends its connections. It stays in the fleet; enrolling it
    /// again lets it in.
    pub async fn revoke_host(
        &self,
        host: &HostId,
        reason: &str,
        actor: &str,
    ) -> Result<(), CoreError> {
        let (host, reason, actor) = (host.clone(), reason.to_owned(), actor.to_owned());
        self.edit(move |edit| revoke_host(edit, &host, &reason, &actor))
            .await
    }

    /// Refuses one certificate by its number, whoever holds it, and ends the connections that were made with it.
    pub async fn revoke_certificate(&self, serial: &str, actor: &str) -> Result<(), CoreError> {
        let (serial, actor) = (serial.to_owned(), actor.to_owned());
        self.edit(move |edit| revoke_serial(edit, &serial, &actor))
            .await
    }

    /// Lets a host in again that was barred as a clone by mistake.
    pub async fn resolve_host(&self, host: &HostId, actor: &str) -> Result<(), CoreError> {
        let (host, actor) = (host.clone(), actor.to_owned());
        self.edit(move |edit| resolve(edit, &host, &actor)).await
    }
}

impl World {
    /// Refuses a certificate that was revoked by its number.
    pub fn not_revoked(&self, serial: &str) -> Result<(), CoreError> {
        if self.revoked.contains_key(serial) {
            return Err(CoreError::Denied(format!(
                "the certificate with the number {serial} was revoked; enrol again with a token of: comber token create"
            )));
        }
        Ok(())
    }
}

/// Bars a host and ends its stream; its record is written by the caller's event group.
pub(crate) fn bar(edit: &mut Edit<'_>, mut host: Host, barred: Barred, mut ops: Vec<Op>) {
    let (id, reason) = (host.id.clone(), barred.reason);
    if reason == BarReason::Revoked {
        ops.extend(revoke_issued(edit, &mut host, None));
    }
    host.barred = Some(barred);
    edit.put_host(host, ops);
    let ending = match reason {
        BarReason::Revoked => Ending::Revoked,
        BarReason::Cloned => Ending::Cloned,
    };
    end_stream(edit, &id, ending);
}

/// Ends a host's stream, and has its other connections looked at.
pub(crate) fn end_stream(edit: &mut Edit<'_>, id: &HostId, ending: Ending) {
    if let Some(attached) = edit.world.attached.remove(id) {
        attached.end(ending);
    }
    let now = edit.now;
    edit.world.set_link(id, false, now);
    edit.barred = true;
    edit.plan = true;
}

/// Revokes by number what was issued to a host; gives the records to write with it.
pub(crate) fn revoke_issued(edit: &mut Edit<'_>, host: &mut Host, by: Option<&str>) -> Vec<Op> {
    let subject = PeerIdentity::host(host.id.as_str()).map(|peer| peer.to_string());
    let subject = subject.ok();
    let issued: Vec<IssuedCertificate> = std::mem::take(&mut host.issued);
    let mut ops = edit.forget_needless_revocations(Revocation::is_needless);
    for certificate in issued {
        let revocation = Revocation {
            serial: certificate.serial,
            subject: subject.clone(),
            not_after: Some(certificate.not_after),
            at: edit.now,
            by: by.map(str::to_owned),
        };
        ops.push(edit.put_revocation(revocation));
    }
    edit.barred = true;
    ops
}

fn revoke_host(
    edit: &mut Edit<'_>,
    id: &HostId,
    reason: &str,
    actor: &str,
) -> Result<(), CoreError> {
    let view = edit
        .world
        .active_host(id)
        .ok_or_else(|| CoreError::missing("host", id))?;
    let is_revoked = |barred: &Barred| barred.reason == BarReason::Revoked;
    if view.host.barred.as_ref().is_some_and(is_revoked) {
        return Ok(());
    }
    let mut host = view.host.clone();
    let mut detail = format!("revoked by {actor}");
    if !reason.is_empty() {
        detail = format!("{detail}: {reason}");
    }
    let mut event = edit.event_by(EventKind::HostRevoked, actor, format!("{id} was {detail}"));
    event.host = Some(id.clone());
    let mut ops = vec![edit.event(&event)];
    ops.extend(revoke_issued(edit, &mut host, Some(actor)));
    let barred = Barred {
        since: edit.now,
        reason: BarReason::Revoked,
        detail,
    };
    bar(edit, host, barred, ops);
    Ok(())
}

fn revoke_serial(edit: &mut Edit<'_>, serial: &str, actor: &str) -> Result<(), CoreError> {
    let serial = normal(serial)?;
    if edit.world.revoked.contains_key(&serial) {
        return Ok(());
    }
    if edit.world.revoked.len() >= REVOKED_MAX {
        let why = format!("{REVOKED_MAX} certificates are revoked; rotate the CA in place of more");
        return Err(CoreError::Refused(why));
    }
    let holder = edit.world.input.hosts.values().find_map(|view| {
        let issued = view.host.issued.iter().find(|one| one.serial == serial)?;
        Some((view.host.id.clone(), issued.not_after))
    });
    let host = holder.as_ref().map(|(id, _)| id.clone());
    let subject = host.as_ref().map(|id| format!("spiffe://comber/host/{id}"));
    let revocation = Revocation {
        serial: serial.clone(),
        subject,
        not_after: holder.map(|(_, end)| end),
        at: edit.now,
        by: Some(actor.to_owned()),
    };
    let text = format!("the certificate with the number {serial} was revoked");
    let mut event = edit.event_by(EventKind::CertificateRevoked, actor, text);
    event.host = host;
    let mut ops = vec![edit.event(&event)];
    ops.extend(edit.forget_needless_revocations(Revocation::is_needless));
    ops.push(edit.put_revocation(revocation));
    edit.changes.group(ops);
    edit.barred = true;
    Ok(())
}

/// A serial number as people copy it: openssl prints capital letters, some tools put colons between the bytes.
fn normal(serial: &str) -> Result<String, CoreError> {
    let digits = serial.chars().filter(|c| *c != ':');
    let text: String = digits.map(|c| c.to_ascii_lowercase()).collect();
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if text.is_empty() || text.len() > SERIAL_MAX || !is_hex {
        let problem =
            "is the number of a certificate in hexadecimal, as openssl x509 -serial prints it";
        return Err(CoreError::Invalid(vec![comber_model::Invalid::new(
            "serial", problem,
        )]));
    }
    Ok(text)
}

fn resolve(edit: &mut Edit<'_>, id: &HostId, actor: &str) -> Result<(), CoreError> {
    let view = edit
        .world
        .active_host(id)
        .ok_or_else(|| CoreError::missing("host", id))?;
    match view.host.barred.as_ref().map(|barred| barred.reason) {
        Some(BarReason::Cloned) => {}
        Some(BarReason::Revoked) => {
            return Err(CoreError::Refused(format!(
                "host {id} was revoked, which only enrolling it again undoes; make a token with: comber token create"
            )));
        }
        None => return Ok(()),
    }
    let host = Host {
        barred: None,
        ..view.host.clone()
    };
    let text = format!("{id} is let in again: {actor} says that its key is on one machine only");
    let mut event = edit.event_by(EventKind::HostResolved, actor, text);
    event.host = Some(id.clone());
    let ops = vec![edit.event(&event)];
    edit.world.presences.remove(id);
    edit.put_host(host, ops);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_tools_print_them() {
        assert_eq!(normal("4A:0f:B1").unwrap(), "4a0fb1");
        for wrong in ["", "xyz", &"0".repeat(41), "0x12"] {
            assert!(normal(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_record_outlives_every_grace_and_not_much_more() {
        let end: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let mut revocation = Revocation {
            serial: "01".to_owned(),
            subject: None,
            not_after: Some(end),
            at: end,
            by: None,
        };
        assert!(!revocation.is_needless(later(end, KEPT)));
        assert!(revocation.is_needless(later(end, KEPT + Duration::from_secs(1))));
        revocation.not_after = None;
        assert!(!revocation.is_needless(Timestamp::MAX));
    }
}
