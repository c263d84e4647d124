//! What a rollout would do, before it starts: the exact hosts of every wave, and how many a bad release would reach.

use std::collections::BTreeMap;

use comber_model::calendar::{Span, Zone};
use comber_model::rollout::{Cover, ENVIRONMENTS_MAX, ExcludedReason, RolloutSpec};
use comber_model::{Host, HostId, Invalid, Percent, RolloutId};
use jiff::Timestamp;

use crate::select::{self, Selection};
use crate::tally::WaveTally;
use crate::windows::{self, Times};
use crate::{PlanInput, deadlines, gate, order, questions};

/// A rollout as it would be if it started now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Hosts that the selector selects, the excluded ones among them.
    pub total: usize,
    /// Every wave, in order.
    pub waves: Vec<PreviewWave>,
    /// The environments that its hosts stand for, where it looks at them.
    pub cover: Option<Cover>,
    /// Hosts that would be set aside, by name.
    pub excluded: Vec<(HostId, ExcludedReason)>,
    /// Hosts that a release failing on every host would be activated on before the rollout stops by itself.
    pub exposed: usize,
    /// When it would select its hosts and open its first wave, where that is later than now.
    pub starts_at: Option<Timestamp>,
    /// When its hosts may move, by the zone that they keep; empty where nothing of time holds them.
    pub times: Vec<PreviewTimes>,
}

/// When the hosts of one zone may move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewTimes {
    /// Whose clock counts.
    pub zone: String,
    /// How many they are.
    pub hosts: usize,
    /// False where no zone of that name is known; they are held then.
    pub is_known: bool,
    /// The next times in which they may begin to activate; none where they never may.
    pub coming: Vec<Span>,
}

/// Times that a preview shows for each zone.
const TIMES_SHOWN: usize = 3;

/// One wave of a preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewWave {
    /// What people call it.
    pub name: String,
    /// Its hosts in the order in which they move.
    pub hosts: Vec<HostId>,
    /// Most hosts of it that are down at once.
    pub max_in_flight: usize,
}

/// Previews a rollout that is not created yet, as if it got the next number. The order of hosts follows from the
/// number, so another rollout created first changes which hosts come first, though not how many.
pub fn preview(
    input: &PlanInput,
    spec: &RolloutSpec,
    now: Timestamp,
) -> Result<Preview, Vec<Invalid>> {
    preview_as(input, spec, next_id(input), now)
}

/// Previews a rollout under its own number; exact as long as no host changes.
pub fn preview_as(
    input: &PlanInput,
    spec: &RolloutSpec,
    id: RolloutId,
    now: Timestamp,
) -> Result<Preview, Vec<Invalid>> {
    let selection = selection(input, spec, id)?;
    let sizes: Vec<usize> = selection.waves.iter().map(Vec::len).collect();
    let waves = selection
        .waves
        .iter()
        .enumerate()
        .map(|(index, hosts)| PreviewWave {
            name: spec.wave_name(index),
            hosts: hosts.iter().copied().cloned().collect(),
            max_in_flight: gate::in_flight_limit(spec, index, &waiting(hosts.len()))
                .1
                .min(hosts.len()),
        });
    let excluded = selection.not_applicable.iter();
    let starts_at = spec.starts_at().filter(|at| *at > now);
    let hosts = selection.waves.iter().flatten();
    let hosts = hosts.filter_map(|host| Some(&input.hosts.get(*host)?.host));
    Ok(Preview {
        starts_at,
        times: times(input, spec, hosts, starts_at.unwrap_or(now)),
        total: sizes.iter().sum::<usize>() + selection.not_applicable.len(),
        waves: waves.collect(),
        excluded: excluded
            .map(|host| ((*host).clone(), ExcludedReason::NotApplicable))
            .collect(),
        exposed: reach(spec, &sizes, Percent::ALL),
        cover: selection.cover,
    })
}

/// When the hosts may move, zone by zone.
fn times<'a>(
    input: &PlanInput,
    spec: &RolloutSpec,
    hosts: impl Iterator<Item = &'a Host>,
    now: Timestamp,
) -> Vec<PreviewTimes> {
    if windows::is_free(&input.freezes, spec, false) {
        return Vec::new();
    }
    // Where no host's own clock counts, one answer is that of all.
    let named = spec.windows.zone.to_string();
    let by_host = windows::asks_the_host(&input.freezes, spec);
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for host in hosts {
        let name = if by_host {
            windows::zone_name(host)
        } else {
            &named
        };
        *zones.entry(name).or_insert(0) += 1;
    }
    let times = zones.into_iter().map(|(name, hosts)| {
        let zone: Option<Zone> = if by_host {
            name.parse().ok()
        } else {
            Some(Zone::utc())
        };
        let coming = zone
            .as_ref()
            .map(|zone| Times::new(&input.freezes, spec, zone).coming(now, TIMES_SHOWN));
        PreviewTimes {
            zone: name.to_owned(),
            hosts,
            is_known: zone.is_some(),
            coming: coming.unwrap_or_default(),
        }
    });
    times.collect()
}

/// Hosts that a release failing on this share of hosts, evenly spread, would be activated on before the rollout stops
/// by itself; all applicable hosts where it would not stop.
pub fn exposure(
    input: &PlanInput,
    spec: &RolloutSpec,
    failing: Percent,
) -> Result<usize, Vec<Invalid>> {
    let selection = selection(input, spec, next_id(input))?;
    let sizes: Vec<usize> = selection.waves.iter().map(Vec::len).collect();
    Ok(reach(spec, &sizes, failing))
}

/// Selects, and refuses what could not run: everything that is wrong is told at once.
fn selection<'a>(
    input: &'a PlanInput,
    spec: &RolloutSpec,
    id: RolloutId,
) -> Result<Selection<'a>, Vec<Invalid>> {
    let mut problems = spec.problems();
    problems.extend(order::problems(input, spec, id));
    let Some(release) = input.releases.get(&spec.release) else {
        let problem = format!(
            "{} is not published; publish it with: comber release publish",
            spec.release
        );
        problems.push(Invalid::new("release", problem));
        return Err(problems);
    };
    problems.extend(questions::unknown_sources(input, spec));
    problems.extend(deadlines::deadline_problems(spec, release));
    if !problems.is_empty() {
        return Err(problems);
    }
    let selection = select::select(input, id, spec, release);
    let applicable: usize = selection.waves.iter().map(Vec::len).sum();
    match (applicable, selection.not_applicable.len()) {
        (0, 0) => problems.push(Invalid::new("selector", "selects no host")),
        (0, others) => {
            let problem = format!(
                "selects {others} hosts, none of which the platforms of {} include",
                spec.release
            );
            problems.push(Invalid::new("selector", problem));
        }
        (_, _) => problems.extend(empty_waves(&selection)),
    }
    if selection.left_out > 0 {
        let problem = format!(
            "these traits have {} different values on the hosts, at most {ENVIRONMENTS_MAX} may be looked at; leave out those that tell single hosts apart",
            selection.left_out + ENVIRONMENTS_MAX
        );
        problems.push(Invalid::new("environments", problem));
    }
    if problems.is_empty() {
        Ok(selection)
    } else {
        Err(problems)
    }
}

fn empty_waves(selection: &Selection<'_>) -> impl Iterator<Item = Invalid> {
    let waves = selection.waves.iter().enumerate();
    waves
        .filter(|(_, hosts)| hosts.is_empty())
        .map(|(index, _)| {
            Invalid::new(
                format!("wave[{index}].hosts"),
                "no host is left for this wave",
            )
        })
}

/// Counts through the waves, host after host, until a rule stops the rollout. Hosts in flight at that moment are
/// reached too. Budgets of single classes may stop it earlier; they are not counted on.
fn reach(spec: &RolloutSpec, sizes: &[usize], failing: Percent) -> usize {
    let hosts = count(sizes.iter().sum());
    let mut total = WaveTally::default();
    let mut index = 0;
    while index < sizes.len() {
        let group = open_together(spec, index, sizes.len());
        let size: usize = sizes[group.clone()].iter().sum();
        let before = total.outcomes.total as usize;
        let mut wave = WaveTally::default();
        wave.outcomes.total = count(size);
        for done in 1..=size {
            let number = before + done;
            let fails = failing.of_rounded_up(number) > failing.of_rounded_up(number - 1);
            for counts in [&mut total, &mut wave] {
                counts.outcomes.succeeded += u32::from(!fails);
                counts.outcomes.failed += u32::from(fails);
            }
            let out_of_reach = gate::gate_out_of_reach(spec, &wave, group.end - 1);
            let stops = gate::failures_spent(spec, &total, hosts)
                .or_else(|| out_of_reach.filter(|_| group.len() == 1));
            if stops.is_some() {
                let moved = wave.outcomes.succeeded;
                let at_once: usize = group.map(|w| at_once(spec, w, (sizes[w], moved))).sum();
                return before + size.min(done + at_once.saturating_sub(1));
            }
        }
        total.outcomes.total += count(size);
        index = group.end;
    }
    total.outcomes.total as usize
}

/// Most hosts of a wave that are down at once after so many succeeded; failures have not been seen yet.
fn at_once(spec: &RolloutSpec, wave: usize, (hosts, moved): (usize, u32)) -> usize {
    let mut counts = waiting(hosts);
    counts.moved = moved;
    gate::in_flight_limit(spec, wave, &counts).1
}

/// The counts of a wave that nothing has happened to.
fn waiting(hosts: usize) -> WaveTally {
    let mut counts = WaveTally::default();
    counts.outcomes.total = count(hosts);
    counts.outcomes.pending = count(hosts);
    counts
}

/// The waves that open one upon the other without any success: a gate of 0 % holds nothing back.
fn open_together(spec: &RolloutSpec, first: usize, waves: usize) -> std::ops::Range<usize> {
    let mut end = first + 1;
    while end < waves && spec.waves[end].gate.success == Percent::whole(0) {
        end += 1;
    }
    first..end
}

fn count(hosts: usize) -> u32 {
    u32::try_from(hosts).unwrap_or(u32::MAX)
}

fn next_id(input: &PlanInput) -> RolloutId {
    let last = input.rollouts.keys().next_back().map_or(0, |id| id.0);
    RolloutId(last.saturating_add(1))
}
