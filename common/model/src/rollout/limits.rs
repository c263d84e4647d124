//! How much may go wrong, and how fast hosts may follow each other: the numbers of budgets and of the ramp.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Amount, FailureClass, Invalid, Percent};

/// Most failures allowed; one more halts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureLimit {
    /// A count, or a share of the hosts that have finished.
    pub max: Amount,
    /// Finished hosts before a share is looked at; a count is held from the first host on.
    #[serde(default = "FailureLimit::default_sample")]
    pub min_sample: u32,
    /// Most failures in hosts, beside a share: whichever is spent first halts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_hosts: Option<u32>,
}

impl FailureLimit {
    fn default_sample() -> u32 {
        10
    }
}

impl Default for FailureLimit {
    /// 5 % of at least 10 finished hosts.
    fn default() -> Self {
        Self {
            max: Amount::Percent(Percent::whole(5)),
            min_sample: Self::default_sample(),
            max_hosts: None,
        }
    }
}

/// Most failures of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassLimit {
    /// A count, or a share of the hosts that have finished.
    pub max: Amount,
    /// Finished hosts before a share is looked at; that of all failures where absent.
    pub min_sample: Option<u32>,
}

impl From<Amount> for ClassLimit {
    fn from(max: Amount) -> Self {
        let min_sample = None;
        Self { max, min_sample }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimit {
    max: Amount,
    min_sample: u32,
}

impl Serialize for ClassLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self {
                max,
                min_sample: None,
            } => max.serialize(serializer),
            Self {
                max,
                min_sample: Some(min_sample),
            } => WrittenLimit { max, min_sample }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ClassLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LimitVisitor)
    }
}

struct LimitVisitor;

impl<'de> serde::de::Visitor<'de> for LimitVisitor {
    type Value = ClassLimit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of hosts, a percentage, or a table with max and min_sample")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<ClassLimit, E> {
        let count = u32::try_from(number);
        let count = count.map_err(|_| E::custom(format!("{number} is not a number of hosts")))?;
        Ok(Amount::Count(count).into())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<ClassLimit, E> {
        let count = u32::try_from(number);
        let count = count.map_err(|_| E::custom(format!("{number} is not a number of hosts")))?;
        Ok(Amount::Count(count).into())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ClassLimit, E> {
        let percent = text.parse().map_err(E::custom)?;
        Ok(Amount::Percent(percent).into())
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ClassLimit, A::Error> {
        let written = WrittenLimit::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(ClassLimit {
            max: written.max,
            min_sample: Some(written.min_sample),
        })
    }
}

/// How much may go wrong in one wave. Shares are of the wave's own finished hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WaveBudget {
    /// Failures of any class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<FailureLimit>,
    /// Failures of one class.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub per_class: BTreeMap<FailureClass, ClassLimit>,
}

/// How the number of hosts in flight grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// Hosts in flight at first.
    pub start: u32,
    /// By how much that is multiplied after as many successes as may be in flight.
    #[serde(default = "Ramp::default_factor")]
    pub factor: u32,
    /// It grows up to here; up to `max_in_flight` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Amount>,
}

impl Ramp {
    fn default_factor() -> u32 {
        2
    }

    /// Hosts that may be in flight after so many hosts succeeded and failed. One step up takes as many successes as
    /// were allowed in flight; every failure takes one step back.
    pub fn limit(&self, succeeded: u32, failed: u32) -> u32 {
        let mut steps = 0_u32;
        let (mut size, mut left) = (self.start, succeeded);
        while left >= size && size < u32::MAX {
            left -= size;
            size = size.saturating_mul(self.factor);
            steps += 1;
        }
        let kept = steps.saturating_sub(failed);
        self.start.saturating_mul(self.factor.saturating_pow(kept))
    }

    pub(super) fn problems(&self, found: &mut Vec<Invalid>) {
        if self.start == 0 {
            found.push(Invalid::new(
                "ramp.start",
                "is 0, so no host could ever move",
            ));
        }
        if !(2..=100).contains(&self.factor) {
            found.push(Invalid::new("ramp.factor", "must be 2 to 100"));
        }
        if self.max.is_some_and(Amount::is_zero) {
            found.push(Invalid::new("ramp.max", "is 0, so no host could ever move"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_grows_with_successes_and_a_failure_takes_one_step_back() {
        let ramp = Ramp {
            start: 1,
            factor: 2,
            max: None,
        };
        let grown: Vec<u32> = [0, 1, 2, 3, 6, 7, 15]
            .into_iter()
            .map(|n| ramp.limit(n, 0))
            .collect();
        assert_eq!(grown, [1, 2, 2, 4, 4, 8, 16]);
        assert_eq!(ramp.limit(7, 1), 4);
        assert_eq!(ramp.limit(7, 9), 1);
        assert_eq!(ramp.limit(u32::MAX, 0), u32::MAX);
    }
}
