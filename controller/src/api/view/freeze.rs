//! Freezes.

use comber_model::calendar::{Freeze, Zone};
use comber_model::wire::time::to_timestamp;
use comber_proto::freeze::v1 as wire;
use jiff::Timestamp;

/// A freeze, with the time of it that is now or comes next.
pub(in crate::api) fn freeze(freeze: &Freeze, now: Timestamp) -> wire::Freeze {
    let next = freeze.next(&Zone::utc(), now);
    let times = freeze.times.iter().map(|time| wire::FreezeTime {
        when: time.when.to_string(),
        title: time.title.clone().unwrap_or_default(),
    });
    wire::Freeze {
        name: freeze.name.to_string(),
        reason: freeze.reason.clone(),
        zone: freeze.zone.to_string(),
        times: times.collect(),
        created_by: freeze.author.clone(),
        created_at: Some(to_timestamp(freeze.created_at)),
        next_from: next.map(|span| to_timestamp(span.from)),
        next_until: next.map(|span| to_timestamp(span.until)),
    }
}
