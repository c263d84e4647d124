//! How many hosts: a count such as `5`, or a share such as `"2%"`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Invalid;

/// A share in hundredths of a percent, 0 to 10,000, so that `"0.5%"` is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u16);

impl Percent {
    /// Everything.
    pub const ALL: Self = Self(10_000);

    /// From whole percents; more than 100 counts as 100.
    pub fn whole(percent: u16) -> Self {
        Self(percent.min(100) * 100)
    }

    /// The share of `total`, rounded up: the fewest that are at least this share.
    pub fn of_rounded_up(self, total: usize) -> usize {
        (total * usize::from(self.0)).div_ceil(10_000)
    }

    /// The share of `total`, rounded down: the most that are at most this share.
    pub fn of_rounded_down(self, total: usize) -> usize {
        total * usize::from(self.0) / 10_000
    }

    /// True where `part` of `total` is more than this share. Of nothing, nothing is more.
    pub fn is_exceeded_by(self, part: usize, total: usize) -> bool {
        part * 10_000 > total * usize::from(self.0)
    }
}

impl FromStr for Percent {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(
                "",
                format!("{text:?} is not a percentage; write \"10%\" or \"0.5%\", from 0% to 100%"),
            )
        };
        let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits =
            |s: &str| !s.is_empty() && s.len() <= 3 && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return Err(wrong());
        }
        let whole: u16 = whole.parse().map_err(|_| wrong())?;
        let part: u16 = format!("{part:0<2}").parse().map_err(|_| wrong())?;
        let hundredths = whole.checked_mul(100).and_then(|n| n.checked_add(part));
        hundredths
            .filter(|n| *n <= 10_000)
            .map(Self)
            .ok_or_else(wrong)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match (part, part % 10) {
            (0, _) => write!(f, "{whole}%"),
            (_, 0) => write!(f, "{whole}.{}%", part / 10),
            _ => write!(f, "{whole}.{part:02}%"),
        }
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A number of hosts, absolute or as a share of those it is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So much of the whole.
    Percent(Percent),
}

impl Amount {
    /// The most hosts of `total` that stay within this limit. A percentage above 0 allows at least one host, since a
    /// limit that rounds to none would stop the rollout for ever.
    pub fn limit(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) if percent == Percent::whole(0) => 0,
            Self::Percent(percent) => percent.of_rounded_down(total).max(1),
        }
    }

    /// True where this allows nothing at all.
    pub fn is_zero(self) -> bool {
        matches!(self, Self::Count(0)) || self == Self::Percent(Percent::whole(0))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Percent(percent) => percent.fmt(f),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Percent(percent) => percent.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of hosts such as 5, or a percentage such as \"10%\"")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Amount, E> {
                u32::try_from(number)
                    .map(Amount::Count)
                    .map_err(|_| E::custom(format!("{number} is not a number of hosts")))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Amount, E> {
                u32::try_from(number)
                    .map(Amount::Count)
                    .map_err(|_| E::custom(format!("{number} is not a number of hosts")))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Amount, E> {
                text.parse().map(Amount::Percent).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_read_back_as_written() {
        for text in ["0%", "1%", "0.5%", "12.25%", "0.05%", "100%"] {
            assert_eq!(text.parse::<Percent>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "%",
            "5",
            "-1%",
            "101%",
            "100.01%",
            "1.234%",
            "+5%",
            "5 percent",
        ] {
            assert!(bad.parse::<Percent>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_small_share_still_lets_one_host_move() {
        let tenth = Amount::Percent(Percent::whole(10));
        assert_eq!(tenth.limit(5), 1);
        assert_eq!(tenth.limit(39), 3);
        assert_eq!(Amount::Percent(Percent::whole(0)).limit(1000), 0);
    }

    #[test]
    fn rounding_never_flatters() {
        let percent: Percent = "98%".parse().unwrap();
        assert_eq!(percent.of_rounded_up(51), 50);
        assert!(Percent::whole(2).is_exceeded_by(3, 100));
        assert!(!Percent::whole(2).is_exceeded_by(2, 100));
    }
}
