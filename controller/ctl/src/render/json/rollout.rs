//! Rollouts, their hosts, plans and fences.

use std::collections::BTreeMap;

use comber_proto::rollout::v1 as wire;
use serde::Serialize;

use super::{filled, moment};
use crate::exit::Exit;
use crate::render::outcomes::state_word;

/// Hosts by outcome: exactly these six.
#[derive(Debug, Serialize)]
pub(crate) struct Outcomes {
    succeeded: u32,
    failed: u32,
    pending: u32,
    unreached: u32,
    excluded: u32,
    total: u32,
}

/// A rollout.
#[derive(Debug, Serialize)]
pub(crate) struct Rollout {
    id: String,
    release: String,
    state: &'static str,
    since: Option<String>,
    author: String,
    created_at: Option<String>,
    started_at: Option<String>,
    selector: Option<String>,
    priority: Option<String>,
    due_at: Option<String>,
    overdue: bool,
    outcomes: Outcomes,
    waves: Vec<Wave>,
    halt: Option<Halt>,
    roll_back: Option<RollBack>,
    failed_by_class: BTreeMap<String, u32>,
    excluded_by_reason: BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<Coverage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<String>,
}

#[derive(Debug, Serialize)]
struct Wave {
    number: u32,
    name: String,
    outcomes: Outcomes,
    opened_at: Option<String>,
    good_since: Option<String>,
    in_flight: u32,
    max_in_flight: u32,
    activity: BTreeMap<String, u32>,
}

#[derive(Debug, Serialize)]
struct Halt {
    at: Option<String>,
    wave: u32,
    rule: String,
    text: String,
}

#[derive(Debug, Serialize)]
struct RollBack {
    total: u32,
    wanted: u32,
    done: u32,
    failed: u32,
    impossible: u32,
}

/// Why something does not move.
#[derive(Debug, Serialize)]
pub(crate) struct Hold {
    rule: String,
    text: String,
    until: Option<String>,
}

/// All rollouts asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Rollouts {
    rollouts: Vec<Rollout>,
}

/// A rollout and what holds it.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    #[serde(flatten)]
    rollout: Rollout,
    holds: Vec<Hold>,
    next: Vec<String>,
}

/// How a watched rollout ended.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    exit_code: u8,
    rollout: Rollout,
    failed: Vec<Member>,
    next: Vec<String>,
}

/// A host of a rollout.
#[derive(Debug, Serialize)]
pub(crate) struct Member {
    host: String,
    wave: u32,
    outcome: String,
    reason: Option<String>,
    detail: String,
    since: Option<String>,
    attempts: u32,
    agent_state: Option<String>,
    before: Option<String>,
    roll_back: Option<String>,
}

/// Hosts of a rollout.
#[derive(Debug, Serialize)]
pub(crate) struct Members {
    hosts: Vec<Member>,
    /// True where the limit left some out.
    more: bool,
}

/// What a rollout file would do.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    total: u32,
    exposed: u32,
    bytes: u64,
    already: u32,
    disconnected: u32,
    waves: Vec<PlanWave>,
    excluded: Vec<PlanExcluded>,
    starts_at: Option<String>,
    times: Vec<PlanTimes>,
    coverage: Option<Coverage>,
}

/// Environments that the first wave covers.
#[derive(Debug, Serialize)]
struct Coverage {
    covered: u32,
    environments: u32,
    missing: Vec<String>,
}

impl From<&wire::Coverage> for Coverage {
    fn from(coverage: &wire::Coverage) -> Self {
        Self {
            covered: coverage.covered,
            environments: coverage.environments,
            missing: coverage.missing.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
struct PlanTimes {
    zone: String,
    hosts: u32,
    known: bool,
    spans: Vec<PlanSpan>,
}

#[derive(Debug, Serialize)]
struct PlanSpan {
    from: Option<String>,
    until: Option<String>,
    text: String,
}

#[derive(Debug, Serialize)]
struct PlanWave {
    number: u32,
    name: String,
    max_in_flight: u32,
    hosts: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PlanExcluded {
    host: String,
    reason: String,
}

/// The fence of an aborted rollout.
#[derive(Debug, Serialize)]
pub(crate) struct Fence {
    rollout: String,
    closed: bool,
    open: Vec<String>,
    open_count: u32,
    until: Option<String>,
}

impl From<&wire::Outcomes> for Outcomes {
    fn from(outcomes: &wire::Outcomes) -> Self {
        Self {
            succeeded: outcomes.succeeded,
            failed: outcomes.failed,
            pending: outcomes.pending,
            unreached: outcomes.unreached,
            excluded: outcomes.excluded,
            total: outcomes.total,
        }
    }
}

impl From<&wire::Rollout> for Rollout {
    fn from(rollout: &wire::Rollout) -> Self {
        Self {
            id: rollout.id.clone(),
            release: rollout.release.clone(),
            state: state_word(rollout),
            since: moment(rollout.since),
            author: rollout.author.clone(),
            created_at: moment(rollout.created_at),
            started_at: moment(rollout.started_at),
            selector: filled(&rollout.selector),
            priority: filled(&rollout.priority),
            due_at: moment(rollout.due_at),
            overdue: rollout.overdue_at.is_some(),
            outcomes: (&rollout.outcomes.unwrap_or_default()).into(),
            waves: rollout.waves.iter().map(Wave::from).collect(),
            halt: rollout.halt.as_ref().map(Halt::from),
            roll_back: rollout.roll_back.as_ref().map(RollBack::from),
            failed_by_class: sorted(&rollout.failed_by_class),
            excluded_by_reason: sorted(&rollout.excluded_by_reason),
            coverage: rollout.coverage.as_ref().map(Coverage::from),
            spec: filled(&rollout.spec),
        }
    }
}

impl From<&wire::Wave> for Wave {
    fn from(wave: &wire::Wave) -> Self {
        Self {
            number: wave.number,
            name: wave.name.clone(),
            outcomes: (&wave.outcomes.unwrap_or_default()).into(),
            opened_at: moment(wave.opened_at),
            good_since: moment(wave.good_since),
            in_flight: wave.in_flight,
            max_in_flight: wave.max_in_flight,
            activity: sorted(&wave.activity),
        }
    }
}

impl From<&wire::Halt> for Halt {
    fn from(halt: &wire::Halt) -> Self {
        Self {
            at: moment(halt.at),
            wave: halt.wave,
            rule: halt.rule.clone(),
            text: halt.text.clone(),
        }
    }
}

impl From<&wire::RollBack> for RollBack {
    fn from(back: &wire::RollBack) -> Self {
        Self {
            total: back.total,
            wanted: back.wanted,
            done: back.done,
            failed: back.failed,
            impossible: back.impossible,
        }
    }
}

impl From<&wire::Hold> for Hold {
    fn from(hold: &wire::Hold) -> Self {
        Self {
            rule: hold.rule.clone(),
            text: hold.text.clone(),
            until: moment(hold.until),
        }
    }
}

impl From<&wire::Member> for Member {
    fn from(member: &wire::Member) -> Self {
        Self {
            host: member.host.clone(),
            wave: member.wave,
            outcome: member.outcome.clone(),
            reason: filled(&member.reason),
            detail: member.detail.clone(),
            since: moment(member.since),
            attempts: member.attempts,
            agent_state: filled(&member.agent_state),
            before: filled(&member.before),
            roll_back: filled(&member.roll_back),
        }
    }
}

impl From<&wire::PreviewRolloutResponse> for Plan {
    fn from(plan: &wire::PreviewRolloutResponse) -> Self {
        let wave = |wave: &wire::PreviewWave| PlanWave {
            number: wave.number,
            name: wave.name.clone(),
            max_in_flight: wave.max_in_flight,
            hosts: wave.hosts.clone(),
        };
        let excluded = |host: &wire::PreviewExcluded| PlanExcluded {
            host: host.host.clone(),
            reason: host.reason.clone(),
        };
        Self {
            total: plan.total,
            exposed: plan.exposed,
            bytes: plan.bytes,
            already: plan.already,
            disconnected: plan.disconnected,
            waves: plan.waves.iter().map(wave).collect(),
            excluded: plan.excluded.iter().map(excluded).collect(),
            starts_at: moment(plan.starts_at),
            times: plan.times.iter().map(PlanTimes::from).collect(),
            coverage: plan.coverage.as_ref().map(Coverage::from),
        }
    }
}

impl From<&wire::PreviewTimes> for PlanTimes {
    fn from(times: &wire::PreviewTimes) -> Self {
        let span = |span: &wire::PreviewSpan| PlanSpan {
            from: moment(span.from),
            until: moment(span.until),
            text: span.text.clone(),
        };
        Self {
            zone: times.zone.clone(),
            hosts: times.hosts,
            known: times.known,
            spans: times.spans.iter().map(span).collect(),
        }
    }
}

impl Rollouts {
    /// Of a list.
    pub(crate) fn new(rollouts: &[wire::Rollout]) -> Self {
        Self {
            rollouts: rollouts.iter().map(Rollout::from).collect(),
        }
    }
}

impl Status {
    /// A rollout, its holds and the commands that make sense.
    pub(crate) fn new(rollout: &wire::Rollout, holds: &[wire::Hold], next: &[String]) -> Self {
        Self {
            rollout: rollout.into(),
            holds: holds.iter().map(Hold::from).collect(),
            next: next.to_vec(),
        }
    }
}

impl Summary {
    /// The end of a watch.
    pub(crate) fn new(summary: &crate::render::Summary, exit: Exit) -> Self {
        Self {
            exit_code: exit.code(),
            rollout: (&summary.rollout).into(),
            failed: summary.failed.iter().map(Member::from).collect(),
            next: summary.next.clone(),
        }
    }
}

impl Members {
    /// Of a list that the limit may have cut.
    pub(crate) fn new(members: &[wire::Member], more: bool) -> Self {
        Self {
            hosts: members.iter().map(Member::from).collect(),
            more,
        }
    }
}

impl Fence {
    /// Of one rollout.
    pub(crate) fn new(rollout: &str, fence: &wire::AwaitFenceResponse) -> Self {
        Self {
            rollout: rollout.to_owned(),
            closed: fence.closed,
            open: fence.open.clone(),
            open_count: fence.open_count,
            until: moment(fence.until),
        }
    }
}

fn sorted(counts: &std::collections::HashMap<String, u32>) -> BTreeMap<String, u32> {
    counts
        .iter()
        .map(|(name, count)| (name.clone(), *count))
        .collect()
}
