//! What a ledger says to the controller: the host's actual state, whole.

use comber_model::{HostStatus, Nonce};

use crate::{Ledger, State};

/// Version of this agent: the workspace has one.
const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The host's actual state. Only for a ledger that is durable: what it shows the controller relies on.
pub fn actual(ledger: &Ledger) -> HostStatus {
    let in_hand = ledger.state.work();
    let installed = ledger.installed.iter();
    HostStatus {
        generation: ledger.generation,
        state: ledger.state.kind(),
        since: ledger.since,
        attempt: match in_hand {
            Some(work) => Some(work.status(nonce(&ledger.state))),
            None => ledger.last.clone(),
        },
        installed: installed
            .map(|(name, product)| (name.clone(), product.installed.clone()))
            .collect(),
        locally_bad: ledger
            .locally_bad
            .iter()
            .map(|bad| bad.release.clone())
            .collect(),
        reports: ledger.reports.clone(),
        boot_id: ledger.boot_id.0.clone(),
        agent_version: AGENT_VERSION.to_owned(),
    }
}

fn nonce(state: &State) -> Option<Nonce> {
    match state {
        State::AwaitingPermit { request, .. } => request.as_ref().map(|request| request.nonce),
        State::Idle
        | State::Fetching { .. }
        | State::Staged { .. }
        | State::Activating { .. }
        | State::Rebooting { .. }
        | State::Verifying { .. }
        | State::Committed { .. }
        | State::RollingBack { .. }
        | State::RolledBack { .. }
        | State::Broken { .. } => None,
    }
}
