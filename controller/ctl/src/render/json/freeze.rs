//! Freezes.

use comber_proto::freeze::v1 as wire;
use serde::Serialize;

use super::{filled, moment};

/// A freeze.
#[derive(Debug, Serialize)]
pub(crate) struct Freeze {
    name: String,
    reason: String,
    zone: String,
    times: Vec<Time>,
    created_by: String,
    created_at: Option<String>,
    next_from: Option<String>,
    next_until: Option<String>,
}

#[derive(Debug, Serialize)]
struct Time {
    when: String,
    title: Option<String>,
}

/// A freeze just added.
#[derive(Debug, Serialize)]
pub(crate) struct AddedFreeze {
    #[serde(flatten)]
    freeze: Freeze,
    /// Hosts that may still begin by a permit from before.
    open_permits: u32,
    fenced_at: Option<String>,
}

/// All freezes.
#[derive(Debug, Serialize)]
pub(crate) struct Freezes {
    freezes: Vec<Freeze>,
}

impl From<&wire::Freeze> for Freeze {
    fn from(freeze: &wire::Freeze) -> Self {
        let times = freeze.times.iter().map(|time| Time {
            when: time.when.clone(),
            title: filled(&time.title),
        });
        Self {
            name: freeze.name.clone(),
            reason: freeze.reason.clone(),
            zone: freeze.zone.clone(),
            times: times.collect(),
            created_by: freeze.created_by.clone(),
            created_at: moment(freeze.created_at),
            next_from: moment(freeze.next_from),
            next_until: moment(freeze.next_until),
        }
    }
}

impl AddedFreeze {
    /// The freeze and who it comes too late for.
    pub(crate) fn new(freeze: &wire::Freeze, answer: &wire::AddFreezeResponse) -> Self {
        Self {
            freeze: freeze.into(),
            open_permits: answer.open_permits,
            fenced_at: moment(answer.fenced_at),
        }
    }
}

impl Freezes {
    /// Of a list.
    pub(crate) fn new(freezes: &[wire::Freeze]) -> Self {
        Self {
            freezes: freezes.iter().map(Freeze::from).collect(),
        }
    }
}
