//! Renewal: the certificate is replaced after two thirds of its life, with a new key, while the old one still works.
//!
//! One task. A failed try leaves the present identity as it is and is repeated within what is left of its life; an
//! expired certificate cannot renew itself, so then this only waits for the host to be enrolled again. Invariant: the new
//! identity is durable before anything uses it. The link then connects again with it; downloads under way are left alone,
//! and go on with it where the controller ends them.

use std::{sync::Arc, time::Duration};

use comber_runtime::{
    backoff::{fraction, random_or},
    channel::ChannelSettings,
    clock::Clock,
    identity::{CertificateFacts, Identity, IdentityError, KeyError, PrivateKey, make_csr},
    telemetry::error_chain,
    tls::{self, TlsError},
};
use http::Uri;
use thiserror::Error;

use crate::{
    identity::{IdentityStore, StoreError, host_of},
    link::{self, CallError, Callee},
};

/// The wall clock is looked at this often at least: it may be set, and a host may sleep.
const LOOK_AGAIN: Duration = Duration::from_hours(1);
/// Tries follow each other no faster, however little life is left.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// And no slower, however much is left.
const RETRY_MAX: Duration = Duration::from_hours(6);
/// Tries that fit into what is left of a life, before the pace of [`RETRY_MIN`] begins.
const TRIES: u32 = 20;

/// What renewal needs; [`Renewal::run`] is its task.
#[derive(Debug)]
pub struct Renewal {
    /// `https://host:port`.
    pub controller: Uri,
    /// Timeouts.
    pub channel: ChannelSettings,
    /// What is renewed.
    pub identity: Arc<IdentityStore>,
    /// By the wall clock certificates live and end.
    pub clock: Clock,
}

/// Why the certificate was not renewed; the next try may succeed.
#[derive(Debug, Error)]
pub enum RenewError {
    /// Making the key or the request.
    #[error("cannot make a key")]
    Key(#[from] KeyError),
    /// Setting up TLS.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// Asking.
    #[error("cannot ask for a new certificate")]
    Call(#[from] CallError),
    /// The answer.
    #[error("the controller's answer is not usable")]
    Answer(#[from] IdentityError),
    /// A certificate for somebody else.
    #[error("the controller sent a certificate for another host")]
    OtherHost,
    /// Saving.
    #[error("cannot save the new identity")]
    Save(#[from] StoreError),
    /// The thread that saves is gone, which only a panic can do.
    #[error("the new identity was not saved")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Renewal {
    /// Renews whenever it is time; ends only with the process. Dropping it between two steps loses at most a
    /// certificate that was issued and not saved, which the next try replaces.
    pub async fn run(self) {
        let random = random_or(u64::MAX / 2);
        let mut present = self.identity.subscribe();
        loop {
            let identity = Arc::clone(&present.borrow_and_update());
            let now = self.clock.wall();
            let facts = identity.facts();
            let due = facts.renew_at(random);
            let wait = match Duration::try_from(due.duration_since(now)) {
                Ok(left) if !left.is_zero() => left.min(LOOK_AGAIN),
                Ok(_) | Err(_) => self.try_once(&identity).await,
            };
            tokio::select! {
                // Both arms are cancel-safe: a timer, and a change that stays unseen.
                () = tokio::time::sleep(wait) => {}
                changed = present.changed() => if changed.is_err() { return },
            }
        }
    }

    /// One try; returns how long to wait before looking again.
    async fn try_once(&self, identity: &Arc<Identity>) -> Duration {
        let facts = identity.facts();
        if facts.is_expired(self.clock.wall()) {
            // The link tells the remedy; here it is only waited for.
            self.identity.reload();
            return LOOK_AGAIN;
        }
        match self.renew(identity).await {
            Ok(true) => {
                let renewed = self.identity.present();
                let (until, serial) = (renewed.facts().not_after, &renewed.facts().serial);
                tracing::info!(%until, serial, "certificate renewed");
                Duration::ZERO
            }
            Ok(false) => {
                tracing::info!(
                    "the host was enrolled again, so its old certificate is not renewed"
                );
                Duration::ZERO
            }
            Err(error) => {
                let retry = retry_after(facts, self.clock.wall(), random_or(u64::MAX));
                let retry_in = comber_model::duration::format(retry);
                let (error, until) = (error_chain(&error), facts.not_after);
                tracing::warn!(error, %until, retry_in, "certificate not renewed");
                retry
            }
        }
    }

    async fn renew(&self, before: &Arc<Identity>) -> Result<bool, RenewError> {
        let host = host_of(before)?;
        let key = PrivateKey::generate()?;
        let signing_request = make_csr(&key, host.as_str())?;
        let tls = tls::client(before, &self.clock)?;
        let callee = Callee {
            controller: &self.controller,
            tls: &tls,
            channel: &self.channel,
        };
        let issued = link::renew(callee, signing_request).await?;
        let renewed = Identity::new(key, issued.chain, issued.ca)?;
        if host_of(&renewed)? != host {
            return Err(RenewError::OtherHost);
        }
        let (store, before) = (Arc::clone(&self.identity), Arc::clone(before));
        Ok(tokio::task::spawn_blocking(move || store.renew(&before, renewed)).await??)
    }
}

/// A share of what is left, so that tries become more frequent towards the end; drawn from the upper half of it, so that
/// a fleet whose controller was down does not come back in step.
fn retry_after(facts: &CertificateFacts, now: jiff::Timestamp, random: u64) -> Duration {
    let ceiling = (facts.remaining(now) / TRIES).clamp(RETRY_MIN, RETRY_MAX);
    ceiling / 2 + fraction(ceiling / 2, random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(not_after: &str) -> CertificateFacts {
        CertificateFacts {
            not_before: "2026-11-24T00:00:00Z".parse().unwrap(),
            not_after: not_after.parse().unwrap(),
            serial: String::new(),
            fingerprint: String::new(),
            uris: Vec::new(),
            is_ca: false,
        }
    }

    #[test]
    fn tries_become_more_frequent_towards_the_end() {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let far = retry_after(&facts("2027-11-24T12:00:00Z"), now, u64::MAX);
        let near = retry_after(&facts("2026-11-24T12:10:00Z"), now, u64::MAX);
        let over = retry_after(&facts("2026-11-24T11:00:00Z"), now, u64::MAX);
        assert_eq!(far, RETRY_MAX);
        assert_eq!(near, Duration::from_secs(30));
        assert_eq!(over, RETRY_MIN);
    }

    #[test]
    fn no_two_hosts_need_draw_the_same_delay_and_none_is_under_half() {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let facts = facts("2026-11-24T12:10:00Z");
        let draws: Vec<_> = [0, u64::MAX / 2, u64::MAX]
            .map(|random| retry_after(&facts, now, random).as_secs())
            .into();
        assert_eq!(draws, [15, 22, 30]);
    }
}
