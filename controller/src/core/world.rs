//! Everything the controller knows, in memory: the planner's picture of the fleet, and what stands beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use comber_model::{BarReason, HostId, Link};
use comber_planner::{HostView, PlanInput};
use jiff::Timestamp;

use super::CoreError;
use super::agents::Attached;
use super::clones::Lineage;
use super::meta::Meta;
use super::packages::Asked;
use super::revocations::Revocation;
use super::tokens::Token;
use super::trust::Trusted;

/// The state of the controller. Changed by the core task alone.
#[derive(Debug, Default)]
pub struct World {
    /// What plans are made from.
    pub input: PlanInput,
    /// Tokens that can still be used, and those just spent, by the id that people see.
    pub tokens: BTreeMap<String, Token>,
    /// What the publisher signed, verified; absent where no root is pinned.
    pub trust: Option<Arc<Trusted>>,
    /// Certificates that are refused, by their number.
    pub revoked: BTreeMap<String, Revocation>,
    /// The packages whose versions stand in the hosts' views.
    pub(crate) asked: Asked,
    /// Counters.
    pub(crate) meta: Meta,
    /// Streams of hosts that are up.
    pub(crate) attached: BTreeMap<HostId, Attached>,
    /// Which processes of agents held the streams.
    pub(crate) presences: BTreeMap<HostId, Lineage>,
    /// Number of the last attachment.
    pub(crate) attachments: u64,
}

impl World {
    /// Streams of hosts that are up now.
    pub fn streams(&self) -> usize {
        self.attached.len()
    }

    /// True where nothing ever happened: the first start of a new controller.
    pub fn is_new(&self) -> bool {
        self.meta.next_event == 1
    }

    /// Number of the newest event; 0 where there is none.
    pub fn newest_event(&self) -> u64 {
        self.meta.next_event.saturating_sub(1)
    }

    /// A host that is enrolled and not retired.
    pub fn active_host(&self, host: &HostId) -> Option<&HostView> {
        self.input
            .hosts
            .get(host)
            .filter(|view| view.host.retired_at.is_none())
    }

    /// The same for a host that asks something itself; says what would help where it is not.
    pub fn enrolled(&self, host: &HostId) -> Result<&HostView, CoreError> {
        let why = match self.input.hosts.get(host) {
            Some(view) if view.host.retired_at.is_some() => "was retired",
            Some(view) => match view.host.barred.as_ref().map(|barred| barred.reason) {
                None => return Ok(view),
                Some(BarReason::Revoked) => "was revoked",
                Some(BarReason::Cloned) => "is barred: its key is in use on two machines",
            },
            None => "is not known here",
        };
        Err(CoreError::Denied(format!(
            "host {host} {why}; enrol it with a token of: comber token create"
        )))
    }

    /// Lets a host in by the begin of the certificate it shows.
    pub fn admit(&self, host: &HostId, not_before: Timestamp) -> Result<&HostView, CoreError> {
        let view = self.enrolled(host)?;
        if not_before < view.host.certificates_since {
            return Err(CoreError::Denied(format!(
                "host {host} was enrolled again since this certificate was issued; enrol this machine under another name"
            )));
        }
        Ok(view)
    }

    /// Notes that a host's stream is up or down.
    pub(crate) fn set_link(&mut self, host: &HostId, up: bool, now: Timestamp) {
        if let Some(mut view) = self.input.hosts.get_mut(host)
            && view.link.is_up() != up
        {
            view.link = if up {
                Link::Up { since: now }
            } else {
                Link::Down { since: now }
            };
        }
    }
}
