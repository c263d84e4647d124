//! Representative hosts: a small set that covers the environments of the whole target.
//!
//! Greedy: each pick is the host that brings most environments that no pick before had, where that is equal the ones
//! that most hosts have, and then the host's own place in the rollout's order. So the same fleet always gives the same
//! hosts. When nothing is left to cover, hosts of combinations not yet seen follow, the commonest first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use comber_model::rollout::{Cover, ENVIRONMENTS_MAX, Environment, Trait};

use crate::HostView;

/// Most hosts that are picked for what they cover; the rest of a larger wave follows in order.
const PICKED_MAX: usize = 1000;

/// The environments of a set of hosts, and which each host stands for.
pub(crate) struct Environments {
    pub(crate) cover: Cover,
    /// Places in `cover`, by host in the order in which they were given.
    pub(crate) of_host: Vec<Vec<u16>>,
    /// More environments than are kept.
    pub(crate) left_out: usize,
}

impl Environments {
    /// Looks at every host. The commonest are kept, where there are more than [`ENVIRONMENTS_MAX`].
    pub(crate) fn of<'a>(traits: &[Trait], hosts: impl Iterator<Item = &'a HostView>) -> Self {
        let mut numbers: BTreeMap<(usize, String), usize> = BTreeMap::new();
        let mut counts: Vec<u32> = Vec::new();
        let mut rows: Vec<Vec<usize>> = Vec::new();
        for view in hosts {
            let values = traits.iter().enumerate();
            let row = values.map(|(kind, which)| {
                let value = which.of(&view.host, &view.versions);
                let number = *numbers.entry((kind, value)).or_insert(counts.len());
                if number == counts.len() {
                    counts.push(0);
                }
                counts[number] += 1;
                number
            });
            rows.push(row.collect());
        }
        let mut found: Vec<((usize, String), usize)> = numbers.into_iter().collect();
        found.sort_by_key(|(_, number)| Reverse(counts[*number]));
        let left_out = found.len().saturating_sub(ENVIRONMENTS_MAX);
        found.truncate(ENVIRONMENTS_MAX);
        found.sort_by(|((a, x), i), ((b, y), j)| {
            (a, Reverse(counts[*i]), x).cmp(&(b, Reverse(counts[*j]), y))
        });
        let mut places: Vec<Option<u16>> = vec![None; counts.len()];
        let mut environments = Vec::new();
        for ((kind, value), number) in found {
            places[number] = u16::try_from(environments.len()).ok();
            environments.push(Environment {
                kind: traits[kind].clone(),
                value,
                hosts: counts[number],
                first_wave: 0,
            });
        }
        let of_host = rows.into_iter().map(|row| {
            let mut row: Vec<u16> = row.into_iter().filter_map(|n| places[n]).collect();
            row.sort_unstable();
            row
        });
        Self {
            of_host: of_host.collect(),
            cover: Cover { environments },
            left_out,
        }
    }
}

/// The environments of one host that joins later, among those known.
pub(crate) fn of_joiner(cover: &Cover, view: &HostView) -> Vec<u16> {
    let known = cover.environments.iter().enumerate();
    let own = known.filter(|(_, e)| e.kind.of(&view.host, &view.versions) == e.value);
    own.filter_map(|(index, _)| u16::try_from(index).ok())
        .collect()
}

/// Hosts with equal environments, the next to be picked last.
struct Class<'a> {
    environments: &'a [u16],
    hosts: Vec<usize>,
}

/// Picks up to `wanted` of `hosts`, given as (number, environments) in the order of the rollout; `covered` already are.
pub(crate) fn pick(
    wanted: usize,
    hosts: &[(usize, &[u16])],
    (cover, covered): (&Cover, &BTreeSet<u16>),
) -> Vec<usize> {
    let wanted = wanted.min(PICKED_MAX);
    let mut by_environments: BTreeMap<&[u16], Vec<usize>> = BTreeMap::new();
    for (place, (_, environments)) in hosts.iter().enumerate() {
        by_environments.entry(environments).or_default().push(place);
    }
    let mut classes: Vec<Class<'_>> = by_environments
        .into_iter()
        .map(|(environments, mut hosts)| {
            hosts.reverse();
            Class {
                environments,
                hosts,
            }
        })
        .collect();
    let mut covered = covered.clone();
    let mut picked = Vec::new();
    let gain = |class: &Class<'_>, covered: &BTreeSet<u16>| {
        let new = class.environments.iter().filter(|e| !covered.contains(e));
        let hosts = |e: &u16| u64::from(cover.environments[usize::from(*e)].hosts);
        new.fold((0_usize, 0_u64), |(count, sum), e| {
            (count + 1, sum + hosts(e))
        })
    };
    // What a class brings only shrinks, so an entry that is still true is the best.
    let mut heap: BinaryHeap<((usize, u64), Reverse<usize>, usize)> = classes
        .iter()
        .enumerate()
        .filter_map(|(index, class)| {
            let next = class.hosts.last()?;
            Some((gain(class, &covered), Reverse(*next), index))
        })
        .collect();
    while picked.len() < wanted
        && let Some((told, next, index)) = heap.pop()
    {
        let now = gain(&classes[index], &covered);
        if now.0 == 0 {
            continue;
        }
        if now < told {
            heap.push((now, next, index));
            continue;
        }
        covered.extend(classes[index].environments);
        picked.extend(classes[index].hosts.pop());
    }
    let mut seen: BTreeSet<&[u16]> = picked.iter().map(|place| hosts[*place].1).collect();
    classes.sort_by_key(|class| (Reverse(class.hosts.len()), class.hosts.last().copied()));
    for class in &mut classes {
        if picked.len() < wanted && seen.insert(class.environments) {
            picked.extend(class.hosts.pop());
        }
    }
    picked.into_iter().map(|place| hosts[place].0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cover(counts: &[u32]) -> Cover {
        let environment = |(index, hosts): (usize, &u32)| Environment {
            kind: Trait::Kernel,
            value: index.to_string(),
            hosts: *hosts,
            first_wave: 0,
        };
        Cover {
            environments: counts.iter().enumerate().map(environment).collect(),
        }
    }

    #[test]
    fn the_host_that_brings_most_comes_first_then_the_commoner_then_the_earlier() {
        let cover = cover(&[9, 3, 1, 5]);
        let hosts: [(usize, &[u16]); 5] = [
            (10, &[0]),
            (11, &[0, 1]),
            (12, &[0, 2]),
            (13, &[0, 3]),
            (14, &[0, 3]),
        ];
        let none = BTreeSet::new();
        assert_eq!(pick(3, &hosts, (&cover, &none)), [13, 11, 12]);
        assert_eq!(pick(5, &hosts, (&cover, &none)), [13, 11, 12, 10]);
        let covered = BTreeSet::from([0, 1, 3]);
        assert_eq!(pick(1, &hosts, (&cover, &covered)), [12]);
    }
}
