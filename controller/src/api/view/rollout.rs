//! Rollouts: rows, whole ones with their waves, previews and explanations.

use std::collections::{BTreeMap, HashMap};

use comber_model::calendar::Zone;
use comber_model::rollout::{
    Cover, Member, MemberState, Outcome, Outcomes, Priority, RollBack, RolloutSpec, RolloutState,
};
use comber_model::wire::time::to_timestamp;
use comber_model::{Hold, HostId};
use comber_planner::{
    PlanInput, Preview, PreviewTimes, RolloutExplanation, RolloutView, explain_rollout,
    in_flight_limit,
};
use comber_proto::rollout::v1 as wire;
use jiff::Timestamp;

use super::host::{agent_state, member};
use super::{count, outcomes};

/// Failed hosts told in an explanation.
const FAILED_MAX: usize = 20;

/// A rollout without what costs a look at every host.
pub(in crate::api) fn rollout_row(view: &RolloutView) -> wire::Rollout {
    let rollout = &view.rollout;
    wire::Rollout {
        id: rollout.id.to_string(),
        release: rollout.spec.release.to_string(),
        state: state(rollout.state).into(),
        since: Some(to_timestamp(rollout.since)),
        author: rollout.author.clone(),
        created_at: Some(to_timestamp(rollout.created_at)),
        started_at: rollout.started_at.map(to_timestamp),
        outcomes: Some(outcomes(view.outcomes())),
        halt: rollout.halt.as_ref().map(|halt| wire::Halt {
            at: Some(to_timestamp(halt.at)),
            wave: u32::from(halt.wave) + 1,
            rule: halt.reason.rule().to_owned(),
            text: halt.reason.to_string(),
        }),
        selector: rollout.spec.selector.clone(),
        priority: priority(rollout.spec.priority).to_owned(),
        coverage: rollout.cover.as_ref().map(coverage),
        due_at: rollout.due_at().map(to_timestamp),
        overdue_at: rollout.overdue_at.map(to_timestamp),
        ..wire::Rollout::default()
    }
}

/// A rollout with its waves.
pub(in crate::api) fn rollout(
    input: &PlanInput,
    view: &RolloutView,
    now: Timestamp,
) -> wire::Rollout {
    let mut row = rollout_row(view);
    row.waves = waves(input, view, now);
    row.roll_back = roll_back(view);
    for member in view.members.values() {
        match member.outcome() {
            Outcome::Failed { class } => {
                *row.failed_by_class.entry(class.to_string()).or_default() += 1;
            }
            Outcome::Excluded { reason } => {
                *row.excluded_by_reason
                    .entry(reason.to_string())
                    .or_default() += 1;
            }
            Outcome::Succeeded | Outcome::Pending | Outcome::Unreached => {}
        }
    }
    // A spec that was read from TOML can be written as TOML.
    row.spec = toml::to_string_pretty(&*view.rollout.spec).unwrap_or_default();
    row
}

fn waves(input: &PlanInput, view: &RolloutView, now: Timestamp) -> Vec<wire::Wave> {
    let spec = &view.rollout.spec;
    let explained = explain_rollout(input, view.rollout.id, now);
    let flights: Vec<u32> = explained
        .map(|whole| whole.waves.iter().map(|wave| wave.in_flight).collect())
        .unwrap_or_default();
    let mut by_wave: Vec<(Outcomes, HashMap<String, u32>)> =
        vec![(Outcomes::default(), HashMap::new()); spec.waves.len()];
    for member in view.members.values() {
        if let Some((counts, activity)) = by_wave.get_mut(usize::from(member.wave)) {
            counts.add(member.outcome());
            if member.outcome() == Outcome::Pending {
                *activity.entry(doing(input, member).to_owned()).or_default() += 1;
            }
        }
    }
    let waves = by_wave.into_iter().enumerate();
    waves
        .map(|(index, (counts, activity))| {
            let progress = view.rollout.waves.get(index);
            wire::Wave {
                number: count(index + 1),
                name: spec.wave_name(index),
                outcomes: Some(outcomes(counts)),
                opened_at: progress.and_then(|wave| wave.opened_at).map(to_timestamp),
                good_since: progress.and_then(|wave| wave.good_since).map(to_timestamp),
                in_flight: flights.get(index).copied().unwrap_or(0),
                max_in_flight: count(in_flight_limit(view, index)),
                activity,
            }
        })
        .collect()
}

/// What a pending host does.
fn doing(input: &PlanInput, member: &Member) -> &'static str {
    match &member.state {
        MemberState::Waiting => "waiting",
        MemberState::Backoff { .. } => "backoff",
        MemberState::Unreached { .. }
        | MemberState::Received
        | MemberState::Activating
        | MemberState::Succeeded { .. }
        | MemberState::Failed { .. }
        | MemberState::Excluded { .. } => match agent_state(input, member) {
            "" => "received",
            state => state,
        },
    }
}

fn roll_back(view: &RolloutView) -> Option<wire::RollBack> {
    view.rollout.roll_back?;
    let mut counts = wire::RollBack::default();
    for way in view
        .members
        .values()
        .filter_map(|member| member.roll_back.as_ref())
    {
        counts.total += 1;
        match way {
            RollBack::Wanted => counts.wanted += 1,
            RollBack::Done => counts.done += 1,
            RollBack::Failed { .. } => counts.failed += 1,
            RollBack::Impossible { .. } => counts.impossible += 1,
        }
    }
    Some(counts)
}

/// A rollout file's preview.
pub(in crate::api) fn preview(
    input: &PlanInput,
    spec: &RolloutSpec,
    preview: &Preview,
) -> wire::PreviewRolloutResponse {
    let hosts = || preview.waves.iter().flat_map(|wave| &wave.hosts);
    let artifact = input
        .releases
        .get(&spec.release)
        .map(|release| release.artifact);
    let has = |host: &&HostId| {
        let status = input.hosts.get(*host).and_then(|view| view.status.as_ref());
        let installed = status.and_then(|status| status.installed.get(&spec.release.name));
        installed.is_some_and(|installed| Some(installed.digest) == artifact.map(|a| a.digest))
    };
    let away = |host: &&HostId| {
        input
            .hosts
            .get(*host)
            .is_some_and(|view| !view.link.is_up())
    };
    let already = hosts().filter(has).count();
    let carried = artifact.map_or(0, |artifact| artifact.carried_length);
    wire::PreviewRolloutResponse {
        waves: preview
            .waves
            .iter()
            .enumerate()
            .map(|(index, wave)| wire::PreviewWave {
                number: count(index + 1),
                name: wave.name.clone(),
                hosts: wave.hosts.iter().map(ToString::to_string).collect(),
                max_in_flight: count(wave.max_in_flight),
            })
            .collect(),
        excluded: preview
            .excluded
            .iter()
            .map(|(host, reason)| wire::PreviewExcluded {
                host: host.to_string(),
                reason: reason.to_string(),
            })
            .collect(),
        exposed: count(preview.exposed),
        total: count(preview.total),
        bytes: carried.saturating_mul((hosts().count() - already) as u64),
        already: count(already),
        disconnected: count(hosts().filter(away).count()),
        starts_at: preview.starts_at.map(to_timestamp),
        times: preview.times.iter().map(times).collect(),
        coverage: preview.cover.as_ref().map(coverage),
    }
}

/// What a first wave covers.
fn coverage(cover: &Cover) -> wire::Coverage {
    let coverage = cover.of_first_wave();
    wire::Coverage {
        covered: count(coverage.covered),
        environments: count(coverage.environments),
        missing: coverage.missing,
    }
}

fn times(times: &PreviewTimes) -> wire::PreviewTimes {
    let zone = times.zone.parse().unwrap_or_else(|_| Zone::utc());
    let spans = times.coming.iter().map(|span| {
        let until = Some(span.until).filter(|until| *until < Timestamp::MAX);
        let from = zone
            .wall(span.from)
            .strftime("%a %d %b %Y %H:%M")
            .to_string();
        let text = match until.map(|until| zone.wall(until)) {
            None => format!("from {from} on"),
            Some(end) if end.date() == zone.wall(span.from).date() => {
                format!("{from} to {}", end.strftime("%H:%M"))
            }
            Some(end) => format!("{from} to {}", end.strftime("%a %d %b %Y %H:%M")),
        };
        wire::PreviewSpan {
            from: Some(to_timestamp(span.from)),
            until: until.map(to_timestamp),
            text,
        }
    });
    wire::PreviewTimes {
        zone: times.zone.clone(),
        hosts: count(times.hosts),
        known: times.is_known,
        spans: spans.collect(),
    }
}

/// Why a rollout is where it is, and what can be done.
pub(in crate::api) fn explanation(
    input: &PlanInput,
    view: &RolloutView,
    explained: &RolloutExplanation,
    now: Timestamp,
) -> wire::ExplainRolloutResponse {
    let mut failed: Vec<&Member> = view
        .members
        .values()
        .filter(|member| matches!(member.state, MemberState::Failed { .. }))
        .collect();
    failed.sort_by_key(|member| (member.wave, member.order));
    let waves = explained
        .waves
        .iter()
        .enumerate()
        .map(|(index, wave)| wire::WaveHolds {
            number: count(index + 1),
            holds: wave.hold.iter().map(hold).collect(),
            hosts: held_hosts(explained, index),
        });
    let own = [&explained.hold, &explained.next_gate]
        .into_iter()
        .flatten();
    wire::ExplainRolloutResponse {
        rollout: Some(rollout(input, view, now)),
        holds: own.map(hold).collect(),
        waves: waves.collect(),
        failed: failed
            .iter()
            .take(FAILED_MAX)
            .map(|m| member(input, m))
            .collect(),
        next: next(view),
    }
}

/// The holds of a wave's hosts, by rule; the first host in the wave's order is the example.
fn held_hosts(explained: &RolloutExplanation, wave: usize) -> Vec<wire::HeldHosts> {
    let mut by_rule: BTreeMap<&str, wire::HeldHosts> = BTreeMap::new();
    for member in explained
        .members
        .iter()
        .filter(|member| usize::from(member.wave) == wave)
    {
        if let Some(held) = &member.hold {
            let entry = by_rule
                .entry(held.rule())
                .or_insert_with(|| wire::HeldHosts {
                    hold: Some(hold(held)),
                    count: 0,
                    example: member.host.to_string(),
                });
            entry.count += 1;
        }
    }
    by_rule.into_values().collect()
}

/// A hold as people read it.
pub(in crate::api) fn hold(hold: &Hold) -> wire::Hold {
    wire::Hold {
        rule: hold.rule().to_owned(),
        text: hold.to_string(),
        until: hold.until().map(to_timestamp),
    }
}

/// What an operator can type now.
fn next(view: &RolloutView) -> Vec<String> {
    let id = view.rollout.id;
    let verbs: &[&str] = match view.rollout.state {
        RolloutState::Draft => &["start", "abort"],
        RolloutState::Running => &["watch", "pause", "abort"],
        RolloutState::Paused => &["resume", "rollback", "abort"],
        RolloutState::Halted if view.rollout.roll_back.is_some() => &["hosts", "abort"],
        RolloutState::Halted => &["hosts", "rollback", "abort"],
        RolloutState::RollingBack => &["watch"],
        RolloutState::Completed => &["hosts", "rollback"],
        RolloutState::Aborted => &["hosts"],
    };
    verbs
        .iter()
        .map(|verb| format!("comber rollout {verb} {id}"))
        .collect()
}

fn state(state: RolloutState) -> wire::RolloutState {
    match state {
        RolloutState::Draft => wire::RolloutState::Draft,
        RolloutState::Running => wire::RolloutState::Running,
        RolloutState::Paused => wire::RolloutState::Paused,
        RolloutState::Halted => wire::RolloutState::Halted,
        RolloutState::RollingBack => wire::RolloutState::RollingBack,
        RolloutState::Completed => wire::RolloutState::Completed,
        RolloutState::Aborted => wire::RolloutState::Aborted,
    }
}

fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Medium => "medium",
        Priority::High => "high",
        Priority::Emergency => "emergency",
    }
}
