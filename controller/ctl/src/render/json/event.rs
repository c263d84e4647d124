//! Events.

use comber_proto::event::v1 as wire;
use serde::Serialize;

use super::{filled, moment, rollout::Outcomes};

/// One event; `events` prints one a line.
#[derive(Debug, Serialize)]
pub(crate) struct Event {
    number: u64,
    at: Option<String>,
    kind: String,
    rollout: Option<String>,
    wave: Option<u32>,
    host: Option<String>,
    actor: Option<String>,
    text: String,
    outcome_before: Option<String>,
    outcome_after: Option<String>,
    outcomes: Option<Outcomes>,
}

impl From<&wire::Event> for Event {
    fn from(event: &wire::Event) -> Self {
        Self {
            number: event.number,
            at: moment(event.at),
            kind: event.kind.clone(),
            rollout: filled(&event.rollout),
            wave: (event.wave > 0).then_some(event.wave),
            host: filled(&event.host),
            actor: filled(&event.actor),
            text: event.text.clone(),
            outcome_before: filled(&event.outcome_before),
            outcome_after: filled(&event.outcome_after),
            outcomes: event.outcomes.as_ref().map(Outcomes::from),
        }
    }
}
