//! When hosts may begin to activate: windows, freezes of this rollout, and what its deadline does to them.
//!
//! Windows hold back the beginning of an activation only. Bytes are fetched and staged at any time, and what began in a
//! window ends after it where it takes longer; `must_end_within` leaves room for that.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::calendar::{Moment, Stretch, Zone, ZoneChoice};
use crate::{Invalid, duration};

/// Most windows, and most freezes, of one rollout.
const STRETCHES_MAX: usize = 50;
/// Longest margin: whatever takes longer than a day needs another way of planning than windows.
const MARGIN_MAX: Duration = Duration::from_hours(24);

/// When hosts may begin to activate. The default holds nothing back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Windows {
    /// When they may; at any time where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Stretch>,
    /// When they may not, whatever window is open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<Stretch>,
    /// Whose clock counts.
    pub zone: ZoneChoice,
    /// Room that must be left in the window when an activation begins.
    #[serde(with = "duration")]
    pub must_end_within: Duration,
    /// The deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// What windows do after it.
    pub after_deadline: AfterDeadline,
    /// What windows and freezes do to hosts that go back.
    pub roll_back: WayBack,
}

/// What windows do after the deadline. Freezes hold in either case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterDeadline {
    /// They hold the rollout back as before.
    #[default]
    Hold,
    /// They hold it back no longer.
    Ignore,
}

/// What windows and freezes do to hosts that go back to what they had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayBack {
    /// Nothing: what was found bad does not stay on a host for the sake of a calendar.
    #[default]
    Pass,
    /// They hold them back as those that go forward.
    Hold,
}

impl Windows {
    /// True where nothing was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The zone whose clock counts on a host that keeps that one.
    pub fn zone_for<'a>(&'a self, host: &'a Zone) -> &'a Zone {
        match &self.zone {
            ZoneChoice::Host => host,
            ZoneChoice::Named(zone) => zone,
        }
    }

    /// From when on windows hold nothing back, where the file says so.
    pub fn ignored_from(&self, host: &Zone) -> Option<Timestamp> {
        let until = self.until.as_ref()?;
        match self.after_deadline {
            AfterDeadline::Hold => None,
            AfterDeadline::Ignore => Some(until.instant(self.zone_for(host))),
        }
    }

    pub(super) fn problems(&self, found: &mut Vec<Invalid>) {
        let mut tell = |field: &str, problem: &str| {
            found.push(Invalid::new(format!("windows.{field}"), problem));
        };
        for (field, stretches) in [("allow", &self.allow), ("freeze", &self.freeze)] {
            if stretches.len() > STRETCHES_MAX {
                tell(field, &format!("has more than {STRETCHES_MAX} entries"));
            }
        }
        if self.after_deadline == AfterDeadline::Ignore && self.until.is_none() {
            tell(
                "after_deadline",
                "is \"ignore\", but there is no deadline; set windows.until",
            );
        }
        if self.until.is_some() && self.allow.is_empty() {
            tell(
                "until",
                "is a deadline of windows, but windows.allow has none",
            );
        }
        if self.must_end_within.is_zero() {
            return;
        }
        let margin = i64::try_from(self.must_end_within.as_secs()).unwrap_or(i64::MAX);
        if self.must_end_within > MARGIN_MAX {
            tell("must_end_within", "is longer than 24h");
        } else if self.allow.is_empty() {
            tell("must_end_within", "needs windows.allow");
        } else if self.allow.iter().all(|window| window.seconds() <= margin) {
            tell(
                "must_end_within",
                "is as long as every window, so no host could ever move; write windows that touch as one",
            );
        }
    }
}
