//! What a gate asks beyond the fleet: questions to sources that the controller knows by name, and what came back.
//!
//! A rollout file never says an address: it names a source, and the controller's configuration says what stands behind
//! it. Pure: who asks over the network, and when, is decided elsewhere.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Invalid, SourceName};

/// Longest query in bytes.
pub(super) const QUERY_MAX: usize = 4096;
/// Most questions of one gate: each is a request per try.
pub const QUESTIONS_MAX: usize = 16;
/// Longest reason that is kept of an answer, in bytes.
pub const REASON_MAX: usize = 300;
/// An answer that has not come by then counts as inconclusive. Longer than any source is given to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_mins(2);

/// A query to Prometheus, and which value lets the wave open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrometheusQuery {
    /// Which of the controller's sources is asked.
    pub source: SourceName,
    /// `PromQL` that yields one number.
    pub query: String,
    /// Passes where this is true of the value.
    pub pass: Comparison,
    /// Fails where this is true of the value; neither is inconclusive. Absent: what does not pass fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<Comparison>,
    /// What a result without any series means: nothing is measured.
    #[serde(default, skip_serializing_if = "is_inconclusive")]
    pub empty: Verdict,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_inconclusive(verdict: &Verdict) -> bool {
    *verdict == Verdict::Inconclusive
}

/// A question to a program of one's own, which answers with a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Which of the controller's sources is asked.
    pub source: SourceName,
}

/// One question of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// To Prometheus.
    Prometheus(&'a PrometheusQuery),
    /// To a program of one's own.
    Webhook(&'a Webhook),
}

impl<'a> Question<'a> {
    /// Which source is asked.
    pub fn source(self) -> &'a SourceName {
        match self {
            Self::Prometheus(query) => &query.source,
            Self::Webhook(hook) => &hook.source,
        }
    }

    /// What kind of source that must be.
    pub fn kind(self) -> SourceKind {
        match self {
            Self::Prometheus(_) => SourceKind::Prometheus,
            Self::Webhook(_) => SourceKind::Webhook,
        }
    }

    pub(super) fn problems(self, found: &mut Vec<Invalid>) {
        let Self::Prometheus(query) = self else {
            return;
        };
        if query.query.trim().is_empty() || query.query.len() > QUERY_MAX {
            let problem = format!("must be 1 to {QUERY_MAX} bytes of PromQL");
            found.push(Invalid::new("query", problem));
        }
    }
}

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prometheus(query) => write!(f, "prometheus {}", query.source),
            Self::Webhook(hook) => write!(f, "webhook {}", hook.source),
        }
    }
}

/// What stands behind a source's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A Prometheus, or what speaks its query API.
    Prometheus,
    /// A program of one's own.
    Webhook,
}

impl SourceKind {
    /// The word used in files and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Webhook => "webhook",
        }
    }
}

/// What an answer says of the gate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The wave may open.
    Pass,
    /// The rollout stops.
    Fail,
    /// Neither can be said; it is asked again, and then a person decides.
    #[default]
    Inconclusive,
}

impl Verdict {
    /// The word used in files, logs and the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What came back to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which question of the gate, from 0.
    pub question: u16,
    /// When it came.
    pub at: Timestamp,
    /// What it says.
    pub verdict: Verdict,
    /// The value or the reason, one line for people; at most [`REASON_MAX`] bytes.
    pub reason: String,
}

impl Answer {
    /// An answer, its reason made one line of bounded length: it comes from elsewhere.
    pub fn new(question: u16, at: Timestamp, verdict: Verdict, reason: &str) -> Self {
        let mut kept: String = reason
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        while kept.len() > REASON_MAX {
            kept.pop();
        }
        Self {
            question,
            at,
            verdict,
            reason: kept,
        }
    }
}

/// All questions of a gate, asked together once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Which try, from 1.
    pub number: u32,
    /// When they were asked.
    pub asked_at: Timestamp,
    /// What came back so far, by question.
    pub answers: Vec<Answer>,
}

/// Rules of a gate that can be made to report only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the name of a gate's own key")]
pub enum DryRule {
    Coverage,
    Healthy,
    Prometheus,
    Webhook,
}

/// A condition on a number, written `value < 0.01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    operator: Operator,
    /// The bits of a finite number, so that equal texts are equal values.
    limit: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Less,
    AtMost,
    Greater,
    AtLeast,
    Equal,
    Different,
}

impl Operator {
    /// Longer ones first, since `<` begins `<=`.
    const ALL: [(Self, &'static str); 6] = [
        (Self::AtMost, "<="),
        (Self::AtLeast, ">="),
        (Self::Equal, "=="),
        (Self::Different, "!="),
        (Self::Less, "<"),
        (Self::Greater, ">"),
    ];
}

impl Comparison {
    /// Whether it is true of a value; a value that is no number has no answer.
    pub fn holds(self, value: f64) -> Option<bool> {
        let order = value.partial_cmp(&f64::from_bits(self.limit))?;
        Some(match self.operator {
            Operator::Less => order.is_lt(),
            Operator::AtMost => order.is_le(),
            Operator::Greater => order.is_gt(),
            Operator::AtLeast => order.is_ge(),
            Operator::Equal => order.is_eq(),
            Operator::Different => order.is_ne(),
        })
    }
}

impl FromStr for Comparison {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            let problem = format!(
                "{text:?} is no condition; write \"value < 0.01\", with one of <, <=, >, >=, ==, != and a number"
            );
            Invalid::new("", problem)
        };
        let rest = text.trim().strip_prefix("value").ok_or_else(wrong)?.trim();
        let (operator, sign) = Operator::ALL
            .into_iter()
            .find(|(_, sign)| rest.starts_with(sign))
            .ok_or_else(wrong)?;
        let number = rest[sign.len()..].trim();
        let digits = number.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'));
        let limit: f64 = number.parse().map_err(|_| wrong())?;
        if !digits || !limit.is_finite() || number.len() > 32 {
            return Err(wrong());
        }
        // Two zeros would be two values for one text.
        let limit = if limit == 0.0 { 0.0_f64 } else { limit };
        Ok(Self {
            operator,
            limit: limit.to_bits(),
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = Operator::ALL
            .into_iter()
            .find(|(operator, _)| *operator == self.operator)
            .map_or("", |(_, sign)| sign);
        write!(f, "value {sign} {}", f64::from_bits(self.limit))
    }
}

impl Serialize for Comparison {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Comparison {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads `{ … }` as a list of one, and `[{ … }, { … }]` as it is; an error names what is wrong in either.
pub(super) fn one_or_many<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Visitor<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table, or a list of tables")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            let one = T::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
            Ok(vec![one])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut many = Vec::new();
            while let Some(one) = seq.next_element()? {
                many.push(one);
            }
            Ok(many)
        }
    }
    deserializer.deserialize_any(Visitor(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, value: f64) -> Option<bool> {
        text.parse::<Comparison>().unwrap().holds(value)
    }

    #[test]
    fn conditions_read_back_as_written() {
        for text in [
            "value < 0.01",
            "value <= -3",
            "value > 1500",
            "value >= 0",
            "value == 1",
            "value != 2.5",
        ] {
            assert_eq!(text.parse::<Comparison>().unwrap().to_string(), text);
        }
        assert_eq!("value<1e3".parse(), "value < 1000".parse::<Comparison>());
        for bad in [
            "",
            "value",
            "0.01 > value",
            "value < x",
            "value < inf",
            "value < NaN",
            "value < 1 2",
            "value = 1",
        ] {
            assert!(bad.parse::<Comparison>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn what_is_no_number_answers_no_condition() {
        assert_eq!(holds("value < 0.01", 0.009), Some(true));
        assert_eq!(holds("value < 0.01", 0.01), Some(false));
        assert_eq!(holds("value <= 0", -0.0), Some(true));
        assert_eq!(holds("value > 5", f64::INFINITY), Some(true));
        assert_eq!(holds("value != 5", f64::NAN), None);
    }

    #[test]
    fn a_reason_from_elsewhere_is_one_short_line() {
        let answer = Answer::new(0, Timestamp::UNIX_EPOCH, Verdict::Fail, &"é\n".repeat(500));
        assert!(answer.reason.len() <= REASON_MAX && !answer.reason.contains('\n'));
    }
}
