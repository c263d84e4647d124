//! Events.

use comber_model::HostId;
use comber_model::event::Event;
use comber_model::wire::time::to_timestamp;
use comber_proto::event::v1 as wire;

/// A stored event with its number.
pub(in crate::api) fn event(number: u64, event: &Event) -> wire::Event {
    let (before, after) = match &event.change {
        Some((before, after)) => (before.to_string(), after.to_string()),
        None => (String::new(), String::new()),
    };
    wire::Event {
        number,
        at: Some(to_timestamp(event.at)),
        kind: event.kind.as_str().to_owned(),
        rollout: event.rollout.map_or_else(String::new, |id| id.to_string()),
        wave: event.wave.map_or(0, |wave| u32::from(wave) + 1),
        host: event
            .host
            .as_ref()
            .map_or_else(String::new, HostId::to_string),
        actor: event.actor.clone().unwrap_or_default(),
        text: event.text.clone(),
        outcome_before: before,
        outcome_after: after,
        outcomes: event.outcomes.map(super::outcomes),
    }
}
