//! Which hosts a rollout means, and which wave each stands in.
//!
//! The order within a rollout is pseudo-random but fixed by the rollout's number and the hosts' names: FNV-1a over
//! `r7` and the name, finished by the mix of splitmix64 so that names that differ in one digit land far apart. The
//! same hosts are therefore not always first, and two plans never disagree.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comber_model::release::Release;
use comber_model::rollout::{Cover, RolloutSpec, Trait, WaveSize};
use comber_model::selector::{Selector, Subject};
use comber_model::{Amount, HostId, Link, RolloutId};
use jiff::Timestamp;

use crate::cover::{self, Environments};
use crate::{HostView, PlanInput};

/// The hosts of a rollout at one moment.
pub(crate) struct Selection<'a> {
    /// Hosts of each wave of the spec, in the order in which they move.
    pub(crate) waves: Vec<Vec<&'a HostId>>,
    /// Hosts that the selector selects and the release's platforms do not include, by name.
    pub(crate) not_applicable: Vec<&'a HostId>,
    /// The environments among the hosts of the waves, where the rollout looks at them.
    pub(crate) cover: Option<Cover>,
    /// Which of them each of those hosts stands for.
    pub(crate) environments: BTreeMap<&'a HostId, Vec<u16>>,
    /// Environments that there are beside those.
    pub(crate) left_out: usize,
}

/// A rollout's selectors, parsed. One that does not parse selects nothing: silence never selects.
#[derive(Debug)]
pub(crate) struct Selectors {
    selector: Option<Selector>,
    scope: Hosts,
    platforms: Hosts,
    waves: Vec<Option<Selector>>,
}

impl Selectors {
    /// With the selectors of waves, which only the first selection needs.
    pub(crate) fn whole(spec: &RolloutSpec, release: &Release) -> Self {
        let of_wave = |size: &WaveSize| match size {
            WaveSize::Selector(source) => Selector::parse(source).ok(),
            WaveSize::Count(_)
            | WaveSize::Percent(_)
            | WaveSize::Representative(_)
            | WaveSize::Rest => None,
        };
        Self {
            waves: spec.waves.iter().map(|wave| of_wave(&wave.hosts)).collect(),
            ..Self::of_hosts(spec, release)
        }
    }

    /// Without those of waves.
    pub(crate) fn of_hosts(spec: &RolloutSpec, release: &Release) -> Self {
        Self {
            selector: Selector::parse(&spec.selector).ok(),
            scope: Hosts::of(spec.scope.as_ref()),
            platforms: Hosts::of(release.manifest.platforms.as_ref()),
            waves: Vec::new(),
        }
    }

    /// Whether the rollout means the host, and whether the release applies to it.
    pub(crate) fn judge(&self, subject: &Subject) -> Judgement {
        let selected = self.selector.as_ref().is_some_and(|s| s.selects(subject));
        let is_selected = selected && self.scope.has(subject);
        let applies = self.platforms.has(subject);
        match (is_selected, applies) {
            (false, _) => Judgement::NotSelected,
            (true, false) => Judgement::NotApplicable,
            (true, true) => Judgement::Selected,
        }
    }
}

/// Hosts beside those of the selector: of the author's scope, and those that the release runs on.
#[derive(Debug)]
enum Hosts {
    All,
    Those(Option<Selector>),
}

impl Hosts {
    fn of(source: Option<&String>) -> Self {
        source.map_or(Self::All, |source| {
            Self::Those(Selector::parse(source).ok())
        })
    }

    fn has(&self, subject: &Subject) -> bool {
        match self {
            Self::All => true,
            Self::Those(selector) => selector.as_ref().is_some_and(|s| s.selects(subject)),
        }
    }
}

/// What a rollout says of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    Selected,
    NotApplicable,
    NotSelected,
}

/// The host as selectors see it.
pub(crate) fn subject(view: &HostView) -> Subject {
    Subject::new(&view.host, &view.versions)
}

/// The packages that the selectors of a rollout and of its release ask for. Their versions must be in the hosts' views
/// before the rollout is previewed or created, and for as long as it is kept.
pub fn asked_packages(spec: &RolloutSpec, release: Option<&Release>) -> BTreeSet<Arc<str>> {
    let of_wave = |size: &WaveSize| match size {
        WaveSize::Selector(source) => Some(source.clone()),
        WaveSize::Count(_)
        | WaveSize::Percent(_)
        | WaveSize::Representative(_)
        | WaveSize::Rest => None,
    };
    let traits = spec.environments.iter().filter_map(|which| match which {
        Trait::Package(name) if spec.asks_for_environments() => Some(Arc::from(name.as_str())),
        Trait::Package(_)
        | Trait::Os
        | Trait::Kernel
        | Trait::Arch
        | Trait::Virtualization
        | Trait::Agent
        | Trait::Packages
        | Trait::Label(_) => None,
    });
    let waves = spec.waves.iter().filter_map(|wave| of_wave(&wave.hosts));
    let platforms = release.and_then(|release| release.manifest.platforms.clone());
    let sources = waves.chain(platforms).chain([spec.selector.clone()]);
    // A look at the text spares most selectors a parser's thread of their own.
    let parsed = sources
        .filter(|source| source.contains("packages"))
        .filter_map(|source| Selector::parse(&source).ok());
    parsed
        .flat_map(|selector| selector.packages().to_vec())
        .chain(traits)
        .collect()
}

/// Selects hosts and puts them into waves.
pub(crate) fn select<'a>(
    input: &'a PlanInput,
    id: RolloutId,
    spec: &RolloutSpec,
    release: &Release,
) -> Selection<'a> {
    let selectors = Selectors::whole(spec, release);
    let mut not_applicable = Vec::new();
    let mut candidates = Vec::new();
    for (host, view) in &input.hosts {
        if view.host.retired_at.is_some() {
            continue;
        }
        let subject = subject(view);
        match selectors.judge(&subject) {
            Judgement::NotSelected => {}
            Judgement::NotApplicable => not_applicable.push(host),
            Judgement::Selected => {
                candidates.push(Candidate::new(id, host, view, &selectors, &subject));
            }
        }
    }
    let mut selection = Selection {
        waves: Vec::new(),
        not_applicable,
        cover: None,
        environments: BTreeMap::new(),
        left_out: 0,
    };
    if spec.asks_for_environments() {
        let views = candidates.iter().filter_map(|c| input.hosts.get(c.host));
        let found = Environments::of(&spec.environments, views);
        let hosts = candidates.iter().map(|c| c.host);
        selection.environments = hosts.zip(found.of_host).collect();
        selection.cover = Some(found.cover);
        selection.left_out = found.left_out;
    }
    selection.waves = fill(spec, candidates, &selection);
    if let (Some(cover), Some(first)) = (&mut selection.cover, selection.waves.first()) {
        let of_first = first
            .iter()
            .filter_map(|host| selection.environments.get(*host));
        for environment in of_first.flatten() {
            cover.environments[usize::from(*environment)].first_wave += 1;
        }
    }
    selection
}

struct Candidate<'a> {
    host: &'a HostId,
    /// Whether it is away, and since when: the one seen last comes first.
    away: (bool, Reverse<Timestamp>),
    rank: u64,
    /// Bit `n` is set where the selector of wave `n` selects the host: one word, as there are at most 50 waves, in
    /// place of the host's facts.
    meant_by: u64,
}

impl<'a> Candidate<'a> {
    fn new(
        id: RolloutId,
        host: &'a HostId,
        view: &HostView,
        selectors: &Selectors,
        subject: &Subject,
    ) -> Self {
        let waves = selectors.waves.iter().enumerate();
        let meant = waves.filter(|(_, wave)| wave.as_ref().is_some_and(|s| s.selects(subject)));
        Self {
            host,
            away: match view.link {
                Link::Up { .. } => (false, Reverse(Timestamp::MAX)),
                Link::Down { since } => (true, Reverse(since)),
            },
            rank: rank(id, host),
            meant_by: meant.fold(0, |bits, (index, _)| bits | 1 << index),
        }
    }
}

fn fill<'a>(
    spec: &RolloutSpec,
    mut left: Vec<Candidate<'a>>,
    selection: &Selection<'a>,
) -> Vec<Vec<&'a HostId>> {
    let total = left.len();
    let mut covered = BTreeSet::new();
    // A canary that is away tells nothing, so the first wave prefers hosts that are there.
    left.sort_by_key(|c| (c.away, c.rank, c.host));
    let mut waves = Vec::new();
    for (index, wave) in spec.waves.iter().enumerate() {
        let take = |n: usize, left: &mut Vec<Candidate<'a>>| {
            left.drain(..n.min(left.len())).collect::<Vec<_>>()
        };
        let mut taken = match &wave.hosts {
            WaveSize::Count(count) => take(*count as usize, &mut left),
            WaveSize::Percent(percent) => take(percent.of_rounded_up(total), &mut left),
            WaveSize::Rest => take(total, &mut left),
            WaveSize::Representative(amount) => {
                let wanted = match amount {
                    Amount::Count(count) => *count as usize,
                    Amount::Percent(percent) => percent.of_rounded_up(total),
                };
                let mut taken = take_representative(wanted, &mut left, (selection, &covered));
                taken.extend(take(wanted - taken.len(), &mut left));
                taken
            }
            WaveSize::Selector(_) => {
                let (taken, rest) = left.into_iter().partition(|c| c.meant_by & 1 << index != 0);
                left = rest;
                taken
            }
        };
        if index == 0 {
            // Without a canary nothing would be proved, and the gate after it could never be met.
            if taken.is_empty() {
                taken = take(1, &mut left);
            }
            left.sort_by_key(|c| (c.rank, c.host));
        }
        let environments = taken
            .iter()
            .filter_map(|c| selection.environments.get(c.host));
        covered.extend(environments.flatten().copied());
        waves.push(taken.into_iter().map(|c| c.host).collect());
    }
    waves
}

/// Takes those that cover most. A host that is away proves nothing, so it is not picked for what it would cover.
fn take_representative<'a>(
    wanted: usize,
    left: &mut Vec<Candidate<'a>>,
    (selection, covered): (&Selection<'a>, &BTreeSet<u16>),
) -> Vec<Candidate<'a>> {
    let Some(cover) = &selection.cover else {
        return Vec::new();
    };
    let present = left.iter().enumerate().filter(|(_, c)| !c.away.0);
    let hosts: Vec<(usize, &[u16])> = present
        .filter_map(|(place, c)| Some((place, selection.environments.get(c.host)?.as_slice())))
        .collect();
    let picked = cover::pick(wanted, &hosts, (cover, covered));
    let order: BTreeMap<usize, usize> = picked
        .into_iter()
        .enumerate()
        .map(|(order, place)| (place, order))
        .collect();
    let mut taken = Vec::new();
    let mut rest = Vec::new();
    for (place, candidate) in std::mem::take(left).into_iter().enumerate() {
        match order.get(&place) {
            Some(order) => taken.push((*order, candidate)),
            None => rest.push(candidate),
        }
    }
    *left = rest;
    taken.sort_by_key(|(order, _)| *order);
    taken.into_iter().map(|(_, candidate)| candidate).collect()
}

/// A host's place in a rollout: pseudo-random, the same for ever.
pub(crate) fn rank(id: RolloutId, host: &HostId) -> u64 {
    let name = id.to_string();
    let bytes = name.bytes().chain([0]).chain(host.as_str().bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The order of a running rollout must never change, so neither may this function.
    #[test]
    fn ranks_are_the_same_for_ever() {
        let rank = |id, host: &str| rank(RolloutId(id), &host.parse().unwrap());
        let known = [
            (rank(1, "web-01"), 13_014_417_511_640_665_853),
            (rank(1, "web-02"), 9_463_427_542_221_147_710),
            (rank(2, "web-01"), 15_970_785_904_573_145_805),
            (rank(7, "db.example.org"), 16_657_695_395_335_853_390),
        ];
        for (now, then) in known {
            assert_eq!(now, then);
        }
    }

    /// Neighbouring names must not stay neighbours: a rack would be one wave.
    #[test]
    fn ranks_spread_names_evenly() {
        let mut buckets: BTreeMap<u64, u32> = BTreeMap::new();
        for number in 0..10_000 {
            let host: HostId = format!("host-{number:05}").parse().unwrap();
            *buckets.entry(rank(RolloutId(3), &host) >> 60).or_default() += 1;
        }
        assert_eq!(buckets.len(), 16);
        assert!(
            buckets.values().all(|n| (500..750).contains(n)),
            "{buckets:?}"
        );
    }
}
