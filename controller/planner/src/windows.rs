//! When a host may begin to activate: the windows of its rollout, and all freezes.
//!
//! Shared by the steps, by holds and by previews, so that what is told is what is done; the checks of a finished plan do
//! not use it. The answer is the same for every host of a rollout that keeps the same zone, and is found once for them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use comber_model::calendar::{Freeze, Schedule, Span, Stretch, Zone, ZoneChoice};
use comber_model::rollout::{Priority, RolloutSpec, WayBack};
use comber_model::{FreezeName, Hold, Host, RolloutId};
use jiff::Timestamp;

use crate::time;

/// Least time that must be left for a permit to be worth giving: the shortest life that a permit may have.
pub(crate) const LEAST: Duration = Duration::from_secs(1);
/// Turns between windows and freezes before the search for the next opening gives up: more than a year of nightly
/// windows would have to be frozen one by one. A later plan looks further.
const TURNS_MAX: u32 = 400;

/// The freezes of the fleet.
pub(crate) type Freezes = BTreeMap<FreezeName, Freeze>;

/// What the times say of an activation that would begin now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It may begin; a permit must end by then, which is the end of time where no end is in sight.
    Open { until: Timestamp },
    /// It may not.
    Shut(Hold),
}

/// Answers already found, for one moment.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    found: RefCell<BTreeMap<(RolloutId, bool, String), Leave>>,
}

impl Leaves {
    /// The answer for a host of a rollout, on its way forward or back.
    pub(crate) fn of(
        &self,
        freezes: &Freezes,
        (id, spec): (RolloutId, &RolloutSpec),
        (host, goes_back): (&Host, bool),
        now: Timestamp,
    ) -> Leave {
        if is_free(freezes, spec, goes_back) {
            return Leave::Open {
                until: Timestamp::MAX,
            };
        }
        let key = (id, goes_back, zone_name(host).to_owned());
        if let Some(leave) = self.found.borrow().get(&key) {
            return leave.clone();
        }
        let leave = match zone_of(host) {
            Some(zone) => Times::new(freezes, spec, &zone).leave(now),
            None if asks_the_host(freezes, spec) => Leave::Shut(Hold::ZoneUnknown {
                zone: zone_name(host).to_owned(),
            }),
            None => Times::new(freezes, spec, &Zone::utc()).leave(now),
        };
        self.found.borrow_mut().insert(key, leave.clone());
        leave
    }
}

/// What a host's clock is said to show: by its label, else by its fact, else UTC.
pub(crate) fn zone_name(host: &Host) -> &str {
    let said = host.labels.get("timezone");
    let said = said.or(Some(host.facts.timezone.as_str()));
    said.filter(|name| !name.is_empty()).unwrap_or("UTC")
}

/// The zone of that name; absent where there is none.
pub(crate) fn zone_of(host: &Host) -> Option<Zone> {
    zone_name(host).parse().ok()
}

/// True where nothing of time can hold the host.
pub(crate) fn is_free(freezes: &Freezes, spec: &RolloutSpec, goes_back: bool) -> bool {
    let windows = &spec.windows;
    let says_nothing = windows.allow.is_empty() && windows.freeze.is_empty() && freezes.is_empty();
    says_nothing
        || spec.priority == Priority::Emergency
        || (goes_back && windows.roll_back == WayBack::Pass)
}

/// True where the answer depends on the host's own clock.
pub(crate) fn asks_the_host(freezes: &Freezes, spec: &RolloutSpec) -> bool {
    let windows = &spec.windows;
    let own = !windows.allow.is_empty() || !windows.freeze.is_empty();
    (own && windows.zone == ZoneChoice::Host)
        || freezes
            .values()
            .any(|freeze| freeze.zone == ZoneChoice::Host)
}

/// The times of a rollout by one zone's clock.
pub(crate) struct Times<'a> {
    spec: &'a RolloutSpec,
    zone: &'a Zone,
    freezes: Vec<(String, &'a Zone, Vec<Stretch>)>,
}

impl<'a> Times<'a> {
    pub(crate) fn new(freezes: &'a Freezes, spec: &'a RolloutSpec, host: &'a Zone) -> Self {
        let zone = spec.windows.zone_for(host);
        let own = (!spec.windows.freeze.is_empty()).then(|| {
            let name = "its rollout file".to_owned();
            (name, zone, spec.windows.freeze.clone())
        });
        let fleet = freezes.values().map(|freeze| {
            let name = format!("{} ({})", freeze.name, freeze.reason);
            (name, freeze.zone_for(host), freeze.stretches())
        });
        Self {
            spec,
            zone,
            freezes: own.into_iter().chain(fleet).collect(),
        }
    }

    fn leave(&self, now: Timestamp) -> Leave {
        if let Some(until) = self.open_until(now) {
            return Leave::Open { until };
        }
        let zone = self.zone.clone();
        let opens = self.opens(now);
        Leave::Shut(match self.frozen(now) {
            None => Hold::Window { opens, zone },
            Some((freeze, until)) => Hold::Frozen {
                freeze: freeze.to_owned(),
                until,
                opens,
                zone,
            },
        })
    }

    /// The freeze in force that ends last, and its end.
    fn frozen(&self, at: Timestamp) -> Option<(&str, Timestamp)> {
        let spans = self.freezes.iter().filter_map(|(name, zone, stretches)| {
            let span = Schedule::new(stretches, zone).covering(at)?;
            Some((name.as_str(), span.until))
        });
        spans.max_by_key(|(_, until)| *until)
    }

    /// Where something may begin at that instant: until when permits may live.
    fn open_until(&self, at: Timestamp) -> Option<Timestamp> {
        if self.frozen(at).is_some() {
            return None;
        }
        let window = if self.holds_windows(at) {
            self.windows().covering(at)?.until
        } else {
            Timestamp::MAX
        };
        // A permit lives for an hour at most.
        let soon = time::after(at, Duration::from_hours(2));
        let next = self.freezes.iter().filter_map(|(_, zone, stretches)| {
            let schedule = Schedule::new(stretches, zone);
            schedule.first_in(at, soon).map(|span| span.from)
        });
        let until = next.min().map_or(window, |next| next.min(window));
        (time::between(at, until) >= LEAST).then_some(until)
    }

    /// True where windows hold the rollout back at that instant.
    fn holds_windows(&self, at: Timestamp) -> bool {
        let ignored = self.spec.windows.ignored_from(self.zone);
        !self.spec.windows.allow.is_empty() && ignored.is_none_or(|from| at < from)
    }

    fn windows(&self) -> Schedule<'_> {
        let margin = self.spec.windows.must_end_within.as_secs();
        Schedule {
            margin: i64::try_from(margin).unwrap_or(i64::MAX),
            ..Schedule::new(&self.spec.windows.allow, self.zone)
        }
    }

    /// When something may begin at the earliest.
    pub(crate) fn opens(&self, now: Timestamp) -> Option<Timestamp> {
        let mut at = now;
        for _ in 0..TURNS_MAX {
            if self.open_until(at).is_some() {
                return Some(at);
            }
            if let Some((_, until)) = self.frozen(at) {
                at = until;
                continue;
            }
            at = self.next_change(at)?;
        }
        None
    }

    /// Nothing is frozen and no window is open, or for too short a time: when that changes.
    fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        let ignored = self.spec.windows.ignored_from(self.zone);
        let ignored = ignored.filter(|from| *from > at);
        let window = match self.windows().next(at) {
            Some(span) if span.from <= at => Some(span.until),
            Some(span) => Some(span.from),
            None => None,
        };
        let freeze = self.freezes.iter().filter_map(|(_, zone, stretches)| {
            let soon = time::after(at, LEAST);
            Schedule::new(stretches, zone)
                .first_in(at, soon)
                .map(|span| span.from)
        });
        let changes = window.into_iter().chain(ignored).chain(freeze);
        changes.filter(|change| *change > at).min()
    }

    /// The next times in which something may begin, at most so many; cut by freezes.
    pub(crate) fn coming(&self, now: Timestamp, many: usize) -> Vec<Span> {
        let mut coming = Vec::new();
        let mut at = now;
        while coming.len() < many {
            let Some(from) = self.opens(at) else { break };
            let Some(until) = self.ends(from) else { break };
            coming.push(Span { from, until });
            at = until;
        }
        coming
    }

    /// When what is open at that instant ends; the end of time where no end is in sight.
    fn ends(&self, from: Timestamp) -> Option<Timestamp> {
        let window = if self.holds_windows(from) {
            let window = self.windows().covering(from)?.until;
            let ignored = self.spec.windows.ignored_from(self.zone);
            if ignored.is_some_and(|ignored| ignored <= window) {
                Timestamp::MAX
            } else {
                window
            }
        } else {
            Timestamp::MAX
        };
        let freezes = self.freezes.iter().filter_map(|(_, zone, stretches)| {
            let span = Schedule::new(stretches, zone).next(from)?;
            Some(span.from)
        });
        freezes.chain([window]).min()
    }
}
