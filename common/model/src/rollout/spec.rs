//! The rollout file: what an administrator writes. Its defaults are the careful ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cover::TRAITS_MAX;
use super::question::{self, QUESTIONS_MAX};
use super::windows::Windows;
use super::{
    ClassLimit, DryRule, Due, FailureLimit, PrometheusQuery, Question, Ramp, Spread, Trait,
    WaveBudget, Webhook,
};
use crate::calendar::{Moment, Zone, ZoneChoice};
use crate::{Amount, FailureClass, Invalid, Percent, ReleaseId, RolloutId, duration};

/// Most waves of one rollout.
pub(super) const WAVES_MAX: usize = 50;
/// Most rollouts that one may wait for.
const AFTER_MAX: usize = 16;
/// Longest rollout file in bytes.
pub(super) const SOURCE_MAX: usize = 64 << 10;

/// A rollout as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutSpec {
    /// What is rolled out.
    pub release: ReleaseId,
    /// To which hosts: CEL over facts and labels; `true` for all.
    pub selector: String,
    /// Hosts outside this selector are never taken in, whatever `selector` says. Set by the controller: the scope of an
    /// author who may not reach the whole fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Which rollout a host works on first.
    #[serde(default)]
    pub priority: Priority,
    /// How soon it shall be done; past that it goes before others that are not.
    #[serde(default, skip_serializing_if = "Due::is_default")]
    pub due: Due,
    /// What happens to hosts already changed when the rollout halts.
    #[serde(default)]
    pub on_halt: OnHalt,
    /// How much may go wrong.
    #[serde(default)]
    pub budget: Budget,
    /// How fast.
    #[serde(default)]
    pub pace: Pace,
    /// Which failures are tried again.
    #[serde(default)]
    pub retry: Retry,
    /// Rollouts that must be completed before this one selects its hosts: infrastructure first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<RolloutId>,
    /// When a started rollout selects its hosts and opens its first wave; at once where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Moment>,
    /// When hosts may begin to activate.
    #[serde(default, skip_serializing_if = "Windows::is_default")]
    pub windows: Windows,
    /// In what hosts differ that may matter to the release: what `pick = "representative"` and `gate.coverage` look at.
    #[serde(
        default = "Trait::default_list",
        skip_serializing_if = "is_default_traits"
    )]
    pub environments: Vec<Trait>,
    /// The waves in their order. Hosts that no wave takes are an error, found when the rollout is planned.
    #[serde(rename = "wave")]
    pub waves: Vec<WaveSpec>,
}

fn is_default_traits(traits: &[Trait]) -> bool {
    traits == Trait::default_list()
}

/// Order between rollouts that want the same host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the field's own, lowest first")]
pub enum Priority {
    Low,
    #[default]
    Medium,
    High,
    Emergency,
}

/// What happens to hosts already changed when a gate or budget halts the rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnHalt {
    /// They stay as they are; failed ones have rolled back by themselves.
    #[default]
    Hold,
    /// Hosts of the waves that have not passed go back to what they had.
    RollBackWave,
    /// Every host of the rollout goes back to what it had.
    RollBackAll,
}

/// How much may go wrong before the rollout halts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct Budget {
    /// Failures of any class.
    pub failures: FailureLimit,
    /// Failures of one class; a percentage is held to its own sample, or else to that of `failures`.
    pub per_class: BTreeMap<FailureClass, ClassLimit>,
    /// Hosts that do not confirm receipt.
    pub unreached: Unreached,
    /// Hosts that fall silent after receipt.
    pub silent: Silent,
}

/// Hosts whose wave is open and that have not confirmed receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Unreached {
    /// How long a wave waits for such a host before it goes on without it.
    #[serde(with = "duration")]
    pub after: Duration,
    /// Most of them past `after`, of the hosts in open waves; one more halts.
    pub max: Amount,
}

impl Default for Unreached {
    /// After 1 hour; at most 10 % of the hosts in open waves.
    fn default() -> Self {
        Self {
            after: Duration::from_hours(1),
            max: Amount::Percent(Percent::whole(10)),
        }
    }
}

/// Hosts that confirmed receipt and are then not heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Silent {
    /// How long a host with work in hand may be away.
    #[serde(with = "duration")]
    pub after: Duration,
    /// What it is then.
    pub counts_as: CountsAs,
}

impl Default for Silent {
    /// After 15 minutes; failed.
    fn default() -> Self {
        Self {
            after: Duration::from_mins(15),
            counts_as: CountsAs::Failed,
        }
    }
}

/// What a silent host counts as; corrected in either case when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountsAs {
    /// Failed, class `silent`, in the failure budget.
    Failed,
    /// Still pending: the wave waits for it until its attempt's deadline.
    Pending,
}

/// How fast hosts may move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// Hosts that may be down at once, for waves that do not say their own; a percentage is of the wave.
    pub max_in_flight: Amount,
    /// Life of a permit, counted by the host from when it asked: 1s to 1h.
    #[serde(with = "duration")]
    pub permit: Duration,
    /// Whether a host may use its permit while it cannot reach the controller.
    pub disconnected: bool,
    /// Longest time from receipt to the end of an attempt, waiting for its permit not counted.
    #[serde(with = "duration")]
    pub attempt_deadline: Duration,
}

impl Default for Pace {
    /// A quarter of a wave at once; permits of 1 minute, used only while connected; 1 hour for an attempt.
    fn default() -> Self {
        Self {
            max_in_flight: Amount::Percent(Percent::whole(25)),
            permit: Duration::from_mins(1),
            disconnected: false,
            attempt_deadline: Duration::from_hours(1),
        }
    }
}

/// Which failures are tried again, how often, and after which pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Further tries by class, at most 10 each; a class that is absent is not tried again.
    pub classes: BTreeMap<FailureClass, u32>,
    /// Pause before the second try; doubled for each one after, up to an hour.
    #[serde(with = "duration")]
    pub backoff: Duration,
}

impl Default for Retry {
    /// Twice more after `fetch`, since networks mend themselves; nothing else.
    fn default() -> Self {
        Self {
            classes: BTreeMap::from([(FailureClass::Fetch, 2)]),
            backoff: Duration::from_mins(1),
        }
    }
}

impl Retry {
    /// The pause before try `attempt + 1`.
    pub fn pause_after(&self, attempt: u32) -> Duration {
        let factor = 1u32 << attempt.saturating_sub(1).min(16);
        self.backoff
            .saturating_mul(factor)
            .min(Duration::from_hours(1).max(self.backoff))
    }
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaveSpec {
    /// What people call it; `wave N` where absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Which hosts it takes of those that earlier waves left.
    pub hosts: WaveSize,
    /// How long the wave must stay good, once it is done, before the next one opens.
    #[serde(default, with = "duration")]
    pub soak: Duration,
    /// What must hold of all waves before, for this one to open. The first wave opens when the rollout starts.
    #[serde(default)]
    pub gate: Gate,
    /// Hosts of this wave that may be down at once.
    #[serde(default)]
    pub max_in_flight: Option<Amount>,
    /// Lets few hosts move at first, and more with every success; never more than `max_in_flight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// The wave opens not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Moment>,
    /// How much may go wrong in this wave alone, beside the budget of the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<WaveBudget>,
    /// Hosts of one failure domain that the rollout may have down at once, while this wave moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
}

/// What must hold for a wave to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Least share of the previous wave's hosts that succeeded, of those that are neither excluded nor unreached past
    /// their deadline.
    pub success: Percent,
    /// Least share of the target's environments on which a host of the waves before has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Percent>,
    /// Least share of the hosts that succeeded in the wave before that are still there when its soak is over: connected,
    /// or away for less than `silent.after`, and not broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Percent>,
    /// Queries to Prometheus, asked when all else holds.
    #[serde(
        deserialize_with = "question::one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub prometheus: Vec<PrometheusQuery>,
    /// Questions to programs of one's own, asked at the same time.
    #[serde(
        deserialize_with = "question::one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub webhook: Vec<Webhook>,
    /// Pause before an inconclusive answer is asked for again.
    #[serde(with = "duration", skip_serializing_if = "is_default_every")]
    pub every: Duration,
    /// How often all is asked before the rollout pauses for a person.
    #[serde(skip_serializing_if = "is_default_tries")]
    pub tries: u32,
    /// Rules that only report what they would have done.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub dry_run: BTreeSet<DryRule>,
}

/// Long enough for a scrape or two to come in.
const DEFAULT_EVERY: Duration = Duration::from_mins(1);
/// Five minutes of nothing to go by are enough to call a person.
const DEFAULT_TRIES: u32 = 5;

fn is_default_every(every: &Duration) -> bool {
    *every == DEFAULT_EVERY
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_default_tries(tries: &u32) -> bool {
    *tries == DEFAULT_TRIES
}

impl Default for Gate {
    /// 95 % succeeded, and nothing else.
    fn default() -> Self {
        Self {
            success: Percent::whole(95),
            coverage: None,
            healthy: None,
            prometheus: Vec::new(),
            webhook: Vec::new(),
            every: DEFAULT_EVERY,
            tries: DEFAULT_TRIES,
            dry_run: BTreeSet::new(),
        }
    }
}

impl Gate {
    /// What it asks of others, in the order in which answers are numbered.
    pub fn questions(&self) -> impl Iterator<Item = Question<'_>> {
        let queries = self.prometheus.iter().map(Question::Prometheus);
        queries.chain(self.webhook.iter().map(Question::Webhook))
    }

    /// True where the answer to a question only is reported.
    pub fn is_dry(&self, question: Question<'_>) -> bool {
        self.dry_run.contains(&match question {
            Question::Prometheus(_) => DryRule::Prometheus,
            Question::Webhook(_) => DryRule::Webhook,
        })
    }

    fn problems(&self, found: &mut Vec<Invalid>) {
        for (index, question) in self.questions().enumerate() {
            let mut inner = Vec::new();
            question.problems(&mut inner);
            let (kind, place) = match index.checked_sub(self.prometheus.len()) {
                None => ("prometheus", index),
                Some(place) => ("webhook", place),
            };
            let path = format!("{kind}[{place}]");
            found.extend(inner.into_iter().map(|error| error.within(&path)));
        }
        if self.questions().count() > QUESTIONS_MAX {
            let problem = format!("at most {QUESTIONS_MAX} questions are allowed in one gate");
            found.push(Invalid::new("prometheus", problem));
        }
        let day = Duration::from_hours(24);
        if self.every < Duration::from_secs(1) || self.every > day {
            found.push(Invalid::new("every", "must be 1s to 24h"));
        }
        if self.tries == 0 || self.tries > 1000 {
            found.push(Invalid::new("tries", "must be 1 to 1000"));
        }
    }
}

/// Which hosts a wave takes, of those that earlier waves left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaveSize {
    /// So many.
    Count(u32),
    /// This share of all selected hosts, rounded up.
    Percent(Percent),
    /// So many, or this share rounded up: those that cover most environments.
    Representative(Amount),
    /// All that this selector is true for.
    Selector(String),
    /// All that are left. What the last wave should say.
    Rest,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSize {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    percent: Option<Percent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selector: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rest: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pick: Option<Pick>,
}

/// How a wave picks its hosts among those that are left.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pick {
    Random,
    Representative,
}

const SIZE_FORMS: &str = "must be a number such as 5, a percentage such as \"10%\", \"rest\", or a table with one of count, percent, selector; count and percent may have pick = \"representative\"";

impl Serialize for WaveSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Percent(percent) => percent.serialize(serializer),
            Self::Rest => serializer.serialize_str("rest"),
            Self::Selector(source) => WrittenSize {
                selector: Some(source.clone()),
                ..WrittenSize::default()
            }
            .serialize(serializer),
            Self::Representative(amount) => {
                let pick = Some(Pick::Representative);
                let (count, percent) = match *amount {
                    Amount::Count(count) => (Some(count), None),
                    Amount::Percent(percent) => (None, Some(percent)),
                };
                WrittenSize {
                    count,
                    percent,
                    pick,
                    ..WrittenSize::default()
                }
                .serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for WaveSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl<'de> serde::de::Visitor<'de> for SizeVisitor {
    type Value = WaveSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIZE_FORMS)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<WaveSize, E> {
        u32::try_from(number)
            .map(WaveSize::Count)
            .map_err(|_| E::custom(SIZE_FORMS))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<WaveSize, E> {
        u32::try_from(number)
            .map(WaveSize::Count)
            .map_err(|_| E::custom(SIZE_FORMS))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WaveSize, E> {
        match text {
            "rest" => Ok(WaveSize::Rest),
            text => text.parse().map(WaveSize::Percent).map_err(E::custom),
        }
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<WaveSize, A::Error> {
        let written = WrittenSize::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        let is_representative = written.pick == Some(Pick::Representative);
        match (
            written.count,
            written.percent,
            written.selector,
            written.rest,
        ) {
            (Some(count), None, None, None) if is_representative => {
                Ok(WaveSize::Representative(Amount::Count(count)))
            }
            (None, Some(percent), None, None) if is_representative => {
                Ok(WaveSize::Representative(Amount::Percent(percent)))
            }
            (Some(count), None, None, None) => Ok(WaveSize::Count(count)),
            (None, Some(percent), None, None) => Ok(WaveSize::Percent(percent)),
            (None, None, Some(source), None) if written.pick.is_none() => {
                Ok(WaveSize::Selector(source))
            }
            (None, None, None, Some(true)) if written.pick.is_none() => Ok(WaveSize::Rest),
            _ => Err(serde::de::Error::custom(SIZE_FORMS)),
        }
    }
}

impl RolloutSpec {
    /// Reads a rollout file and checks it whole; every problem found is told at once.
    pub fn parse(source: &str) -> Result<Self, Vec<Invalid>> {
        if source.len() > SOURCE_MAX {
            let problem = format!(
                "has {} bytes, at most {SOURCE_MAX} are allowed",
                source.len()
            );
            return Err(vec![Invalid::new("", problem)]);
        }
        let spec: Self = toml::from_str(source)
            .map_err(|error| vec![Invalid::new("", error.to_string().trim_end().to_owned())])?;
        let problems = spec.problems();
        if problems.is_empty() {
            Ok(spec)
        } else {
            Err(problems)
        }
    }

    /// Everything that is wrong with it beyond its syntax.
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        check_selector("selector", &self.selector, &mut found);
        if let Some(scope) = &self.scope {
            check_selector("scope", scope, &mut found);
        }
        self.pace_problems(&mut found);
        self.retry_problems(&mut found);
        self.wave_problems(&mut found);
        self.windows.problems(&mut found);
        self.start_problems(&mut found);
        self.environment_problems(&mut found);
        if self.after.len() > AFTER_MAX {
            let problem = format!(
                "names {} rollouts, at most {AFTER_MAX} are allowed",
                self.after.len()
            );
            found.push(Invalid::new("after", problem));
        }
        if self.budget.silent.after.is_zero() {
            found.push(Invalid::new("budget.silent.after", "is 0s, must be longer"));
        }
        if self.budget.unreached.after.is_zero() {
            found.push(Invalid::new(
                "budget.unreached.after",
                "is 0s, must be longer",
            ));
        }
        found
    }

    /// When its first wave may open at the earliest.
    pub fn starts_at(&self) -> Option<Timestamp> {
        self.start_at.map(|start| start.instant(&self.zone()))
    }

    /// When a wave may open at the earliest, as far as its own start goes.
    pub fn wave_starts_at(&self, wave: usize) -> Option<Timestamp> {
        let start = self.waves.get(wave)?.start_at?;
        Some(start.instant(&self.zone()))
    }

    /// True where the environments of its hosts matter to it.
    pub fn asks_for_environments(&self) -> bool {
        self.waves.iter().any(|wave| {
            let is_representative = matches!(wave.hosts, WaveSize::Representative(_));
            is_representative || wave.gate.coverage.is_some()
        })
    }

    /// The zone in which its own times are read where they have no offset.
    fn zone(&self) -> Zone {
        match &self.windows.zone {
            ZoneChoice::Named(zone) => zone.clone(),
            ZoneChoice::Host => Zone::utc(),
        }
    }

    /// A rollout starts everywhere at once, so its start cannot be read from each host's own clock.
    fn start_problems(&self, found: &mut Vec<Invalid>) {
        let own = ("start_at".to_owned(), self.start_at);
        let waves = self.waves.iter().enumerate();
        let waves = waves.map(|(index, wave)| (format!("wave[{index}].start_at"), wave.start_at));
        for (field, start) in std::iter::once(own).chain(waves) {
            if matches!(start, Some(Moment::Wall(_))) && self.windows.zone == ZoneChoice::Host {
                found.push(Invalid::new(
                    field,
                    "needs an offset such as Z or +01:00, or a zone in windows.zone, since hosts stand in several",
                ));
            }
        }
    }

    fn environment_problems(&self, found: &mut Vec<Invalid>) {
        let count = self.environments.len();
        let different: BTreeSet<&Trait> = self.environments.iter().collect();
        if count == 0 || count > TRAITS_MAX || different.len() < count {
            let problem = format!("must name 1 to {TRAITS_MAX} different traits");
            found.push(Invalid::new("environments", problem));
        }
    }

    /// What people call a wave.
    pub fn wave_name(&self, index: usize) -> String {
        let name = self.waves.get(index).and_then(|wave| wave.name.clone());
        name.unwrap_or_else(|| format!("wave {}", index + 1))
    }

    fn pace_problems(&self, found: &mut Vec<Invalid>) {
        let pace = &self.pace;
        if pace.max_in_flight.is_zero() {
            found.push(Invalid::new(
                "pace.max_in_flight",
                "is 0, so no host could ever move",
            ));
        }
        if pace.permit < Duration::from_secs(1) || pace.permit > Duration::from_hours(1) {
            found.push(Invalid::new("pace.permit", "must be 1s to 1h"));
        }
        if pace.attempt_deadline < Duration::from_secs(1) {
            found.push(Invalid::new("pace.attempt_deadline", "must be at least 1s"));
        }
    }

    fn retry_problems(&self, found: &mut Vec<Invalid>) {
        for (class, times) in &self.retry.classes {
            if *times > 10 {
                let problem = format!("is {times}, at most 10 are allowed");
                found.push(Invalid::new(format!("retry.classes.{class}"), problem));
            }
        }
    }

    fn wave_problems(&self, found: &mut Vec<Invalid>) {
        if self.waves.is_empty() || self.waves.len() > WAVES_MAX {
            let problem = format!(
                "there must be 1 to {WAVES_MAX} waves, here are {}",
                self.waves.len()
            );
            found.push(Invalid::new("wave", problem));
        }
        let last = self.waves.len().saturating_sub(1);
        let mut all_taken = false;
        for (index, wave) in self.waves.iter().enumerate() {
            let mut inner = Vec::new();
            if all_taken {
                inner.push(Invalid::new(
                    "hosts",
                    "an earlier wave takes all that are left, so this one would be empty",
                ));
            }
            wave.problems(&mut inner);
            all_taken |= matches!(wave.hosts, WaveSize::Rest | WaveSize::Percent(Percent::ALL));
            if index == last && !all_taken {
                inner.push(Invalid::new(
                    "hosts",
                    "the last wave must take \"rest\", so that no selected host is left out",
                ));
            }
            found.extend(
                inner
                    .into_iter()
                    .map(|error| error.within(&format!("wave[{index}]"))),
            );
        }
    }
}

impl WaveSpec {
    fn problems(&self, found: &mut Vec<Invalid>) {
        let name = self.name.as_deref().unwrap_or("x");
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            found.push(Invalid::new(
                "name",
                "must be 1 to 64 bytes without control characters",
            ));
        }
        match &self.hosts {
            WaveSize::Count(0) => {
                found.push(Invalid::new("hosts", "is 0, so the wave would be empty"));
            }
            WaveSize::Percent(percent) if *percent == Percent::whole(0) => {
                found.push(Invalid::new("hosts", "is 0%, so the wave would be empty"));
            }
            WaveSize::Representative(amount) if amount.is_zero() => {
                found.push(Invalid::new("hosts", "is 0, so the wave would be empty"));
            }
            WaveSize::Selector(source) => check_selector("hosts.selector", source, found),
            WaveSize::Count(_)
            | WaveSize::Percent(_)
            | WaveSize::Representative(_)
            | WaveSize::Rest => {}
        }
        let mut inner = Vec::new();
        self.gate.problems(&mut inner);
        found.extend(inner.into_iter().map(|error| error.within("gate")));
        if let Some(ramp) = &self.ramp {
            ramp.problems(found);
        }
        if self.max_in_flight.is_some_and(Amount::is_zero) {
            found.push(Invalid::new(
                "max_in_flight",
                "is 0, so no host could ever move",
            ));
        }
        if self.spread.as_ref().is_some_and(|spread| spread.max == 0) {
            found.push(Invalid::new(
                "spread.max",
                "is 0, so no host could ever move",
            ));
        }
    }
}

#[cfg(feature = "selector")]
pub(crate) fn check_selector(field: &str, source: &str, found: &mut Vec<Invalid>) {
    if let Err(error) = crate::selector::Selector::parse(source) {
        found.push(error.within(field));
    }
}

/// Without selectors compiled in, only the size is bounded; the controller checks the rest.
#[cfg(not(feature = "selector"))]
pub(crate) fn check_selector(field: &str, source: &str, found: &mut Vec<Invalid>) {
    if source.len() > 4096 {
        found.push(Invalid::new(field, "has more than 4096 bytes"));
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
