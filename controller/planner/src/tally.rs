//! Counts of members, per wave and over all: what budgets and gates are held against.
//!
//! A tally of a set of members is the sum of its members' entries in any order, so it can be kept up to date by adding
//! and removing single members.

use std::collections::BTreeMap;

use comber_model::FailureClass;
use comber_model::rollout::{Member, MemberState, Outcome, Outcomes};

/// Counts of a rollout's members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    waves: BTreeMap<u16, WaveTally>,
}

/// Counts of one wave's members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WaveTally {
    /// By outcome.
    pub(crate) outcomes: Outcomes,
    /// Failed ones by class.
    pub(crate) failed: BTreeMap<FailureClass, u32>,
    /// Unreached ones past their deadline.
    pub(crate) overdue: u32,
    /// Ones that nothing more is planned for, excluded ones among them.
    pub(crate) settled: u32,
    /// Ones that succeeded by an attempt, so not those that had the release already.
    pub(crate) moved: u32,
    /// Ones that succeeded, by the environments that they stand for.
    pub(crate) proven: BTreeMap<u16, u32>,
}

impl Tally {
    pub(crate) fn of<'a>(members: impl IntoIterator<Item = &'a Member>) -> Self {
        let mut tally = Self::default();
        members.into_iter().for_each(|member| tally.add(member));
        tally
    }

    pub(crate) fn add(&mut self, member: &Member) {
        let wave = self.waves.entry(member.wave).or_default();
        wave.outcomes.add(member.outcome());
        wave.overdue += u32::from(is_overdue(member));
        wave.settled += u32::from(member.is_settled());
        if let Outcome::Failed { class } = member.outcome() {
            *wave.failed.entry(class).or_default() += 1;
        }
        wave.moved += u32::from(has_moved(member));
        for environment in proves(member) {
            *wave.proven.entry(*environment).or_default() += 1;
        }
    }

    /// The opposite of [`Tally::add`], for a member that was added.
    pub(crate) fn remove(&mut self, member: &Member) {
        let wave = self.waves.entry(member.wave).or_default();
        wave.outcomes.remove(member.outcome());
        wave.overdue -= u32::from(is_overdue(member));
        wave.settled -= u32::from(member.is_settled());
        if let Outcome::Failed { class } = member.outcome() {
            *wave.failed.entry(class).or_default() -= 1;
        }
        wave.moved -= u32::from(has_moved(member));
        for environment in proves(member) {
            *wave.proven.entry(*environment).or_default() -= 1;
        }
    }

    /// One wave's counts; nothing where it has no member.
    pub(crate) fn wave(&self, wave: usize) -> WaveTally {
        let index = u16::try_from(wave).unwrap_or(u16::MAX);
        self.waves.get(&index).cloned().unwrap_or_default()
    }

    /// The counts of all waves.
    pub(crate) fn total(&self) -> WaveTally {
        self.sum(usize::MAX)
    }

    /// The counts of the first `waves` waves.
    pub(crate) fn sum(&self, waves: usize) -> WaveTally {
        let mut total = WaveTally::default();
        let first = |(index, _): &(&u16, &WaveTally)| usize::from(**index) < waves;
        for (_, wave) in self.waves.iter().filter(first) {
            total.add(wave);
        }
        total
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        self.total().outcomes
    }
}

impl WaveTally {
    /// Members that a gate is a share of: neither excluded nor given up as unreached.
    pub(crate) fn counted(&self) -> u32 {
        self.present() - self.overdue
    }

    /// Members that are not excluded: what limits in flight are a share of.
    pub(crate) fn present(&self) -> u32 {
        self.outcomes.total - self.outcomes.excluded
    }

    /// True where something is still planned for a member.
    pub(crate) fn has_unsettled(&self) -> bool {
        self.settled < self.outcomes.total
    }

    fn add(&mut self, other: &Self) {
        let (sum, part) = (&mut self.outcomes, &other.outcomes);
        sum.succeeded += part.succeeded;
        sum.failed += part.failed;
        sum.pending += part.pending;
        sum.unreached += part.unreached;
        sum.excluded += part.excluded;
        sum.total += part.total;
        self.overdue += other.overdue;
        self.settled += other.settled;
        for (class, count) in &other.failed {
            *self.failed.entry(*class).or_default() += count;
        }
        self.moved += other.moved;
        for (environment, count) in &other.proven {
            *self.proven.entry(*environment).or_default() += count;
        }
    }
}

fn is_overdue(member: &Member) -> bool {
    matches!(member.state, MemberState::Unreached { overdue: true })
}

fn has_moved(member: &Member) -> bool {
    member.state == MemberState::Succeeded { already: false }
}

/// The environments on which the member has shown that the release works.
fn proves(member: &Member) -> &[u16] {
    match member.state {
        MemberState::Succeeded { .. } => &member.environments,
        MemberState::Waiting
        | MemberState::Unreached { .. }
        | MemberState::Received
        | MemberState::Activating
        | MemberState::Backoff { .. }
        | MemberState::Failed { .. }
        | MemberState::Excluded { .. } => &[],
    }
}

#[cfg(test)]
mod tests {
    use comber_model::rollout::ExcludedReason;
    use comber_model::{Failure, Generation};
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn state() -> impl Strategy<Value = MemberState> {
        prop_oneof![
            Just(MemberState::Waiting),
            any::<bool>().prop_map(|overdue| MemberState::Unreached { overdue }),
            Just(MemberState::Received),
            Just(MemberState::Activating),
            any::<bool>().prop_map(|already| MemberState::Succeeded { already }),
            proptest::sample::select(&FailureClass::ALL[..]).prop_map(|class| {
                MemberState::Failed {
                    failure: Failure::new(class, "x"),
                }
            }),
            Just(MemberState::Excluded {
                reason: ExcludedReason::Retired
            }),
        ]
    }

    fn member(wave: u16, state: MemberState) -> Member {
        Member {
            host: "h".parse().unwrap(),
            wave,
            order: 0,
            state,
            since: Timestamp::UNIX_EPOCH,
            attempts: 0,
            generation: Generation(0),
            before: None,
            clock: None,
            grant: None,
            last_failure: None,
            roll_back: None,
            environments: vec![wave, 7],
        }
    }

    proptest! {
        #[test]
        fn changing_members_one_by_one_equals_counting_them_again(
            old in proptest::collection::vec((0..4u16, state()), 1..20),
            new in proptest::collection::vec((0..4u16, state()), 20),
        ) {
            let members = |states: &[(u16, MemberState)]| -> Vec<Member> {
                states.iter().map(|(wave, state)| member(*wave, state.clone())).collect()
            };
            let (old, new) = (members(&old), members(&new));
            let mut tally = Tally::of(&old);
            for (old, new) in old.iter().zip(&new) {
                tally.add(new);
                tally.remove(old);
            }
            let counted = Tally::of(&new[..old.len()]);
            for wave in 0..4 {
                let (a, b) = (tally.wave(wave), counted.wave(wave));
                prop_assert_eq!(a.outcomes, b.outcomes);
                prop_assert_eq!((a.overdue, a.settled, a.moved), (b.overdue, b.settled, b.moved));
                for environment in 0..8 {
                    let proven = |t: &WaveTally| t.proven.get(&environment).copied().unwrap_or(0);
                    prop_assert_eq!(proven(&a), proven(&b));
                }
                for class in FailureClass::ALL {
                    let failed = |t: &WaveTally| t.failed.get(&class).copied().unwrap_or(0);
                    prop_assert_eq!(failed(&a), failed(&b));
                }
            }
            prop_assert!(tally.outcomes().add_up());
            prop_assert!(tally.total().counted() <= tally.total().present());
        }
    }
}
