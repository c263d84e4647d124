//! Everything the controller knows, in memory: the planner's picture of the fleet, and what stands beside it.

use std::collections::BTreeMap;

use comber_model::{HostId, Link};
use comber_planner::{HostView, PlanInput};
use jiff::Timestamp;

use super::agents::Attached;
use super::meta::Meta;
use super::tokens::Token;

/// The state of the controller. Changed by the core task alone.
#[derive(Debug, Default)]
pub struct World {
    /// What plans are made from.
    pub input: PlanInput,
    /// Tokens that can still be used, and those just spent, by the id that people see.
    pub tokens: BTreeMap<String, Token>,
    /// Counters.
    pub(crate) meta: Meta,
    /// Streams of hosts that are up.
    pub(crate) attached: BTreeMap<HostId, Attached>,
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

    /// A host that is enrolled and not retired.
    pub fn active_host(&self, host: &HostId) -> Option<&HostView> {
        self.input
            .hosts
            .get(host)
            .filter(|view| view.host.retired_at.is_none())
    }

    /// Notes that a host's stream is up or down.
    pub(crate) fn set_link(&mut self, host: &HostId, up: bool, now: Timestamp) {
        if let Some(view) = self.input.hosts.get_mut(host)
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
