//! States and outcomes: their words, what they mean to the eye, and the bar of a wave.
//!
//! Pure. Invariant: the words are those of the wire and of JSON; the bar's parts add up to its width.

use comber_proto::rollout::v1::{Outcomes, Rollout, RolloutState};

use super::{Paint, View};

/// Every state with its word.
pub(crate) const STATES: [(RolloutState, &str); 8] = [
    (RolloutState::Unspecified, "unknown"),
    (RolloutState::Draft, "draft"),
    (RolloutState::Running, "running"),
    (RolloutState::Paused, "paused"),
    (RolloutState::Halted, "halted"),
    (RolloutState::RollingBack, "rolling_back"),
    (RolloutState::Completed, "completed"),
    (RolloutState::Aborted, "aborted"),
];

/// The state; one that this version does not know counts as not said.
pub(crate) fn state_of(rollout: &Rollout) -> RolloutState {
    RolloutState::try_from(rollout.state).unwrap_or_default()
}

/// The state's word.
pub(crate) fn state_word(rollout: &Rollout) -> &'static str {
    let state = state_of(rollout);
    STATES
        .iter()
        .find(|(known, _)| *known == state)
        .map_or("unknown", |(_, word)| word)
}

/// How a state looks.
pub(crate) fn state_paint(rollout: &Rollout) -> Paint {
    match state_of(rollout) {
        RolloutState::Completed => Paint::Good,
        RolloutState::Halted | RolloutState::Aborted => Paint::Bad,
        RolloutState::Paused | RolloutState::RollingBack => Paint::Notice,
        RolloutState::Running => Paint::Strong,
        RolloutState::Draft | RolloutState::Unspecified => Paint::Plain,
    }
}

/// How the word of an outcome looks.
pub(crate) fn outcome_paint(outcome: &str) -> Paint {
    match outcome.split('(').next() {
        Some("succeeded") => Paint::Good,
        Some("failed") => Paint::Bad,
        Some("unreached") => Paint::Notice,
        Some("excluded") => Paint::Faint,
        Some(_) | None => Paint::Plain,
    }
}

/// `17 succeeded, 1 failed, 42 pending, 0 unreached, 2 excluded of 62 hosts`.
pub(crate) fn sentence(view: &View, outcomes: &Outcomes) -> String {
    let counted = |count: u32, word: &str| {
        let paint = if count == 0 {
            Paint::Plain
        } else {
            outcome_paint(word)
        };
        view.paint(paint, &format!("{count} {word}"))
    };
    format!(
        "{}, {}, {}, {}, {} of {}",
        counted(outcomes.succeeded, "succeeded"),
        counted(outcomes.failed, "failed"),
        counted(outcomes.pending, "pending"),
        counted(outcomes.unreached, "unreached"),
        counted(outcomes.excluded, "excluded"),
        super::text::hosts(outcomes.total),
    )
}

/// A bar of `width` columns: `█` succeeded, `x` failed, `?` unreached, `·` pending. Excluded hosts are not in it.
pub(crate) fn bar(view: &View, outcomes: &Outcomes, width: usize) -> String {
    let parts = [
        (outcomes.succeeded, "█", Paint::Good),
        (outcomes.failed, "x", Paint::Bad),
        (outcomes.unreached, "?", Paint::Notice),
        (outcomes.pending, "·", Paint::Faint),
    ];
    let counts = parts.map(|(count, _, _)| u64::from(count));
    let widths = share(counts, width);
    parts
        .iter()
        .zip(widths)
        .map(|((_, sign, paint), width)| view.paint(*paint, &sign.repeat(width)))
        .collect()
}

/// Divides `width` in proportion to `counts`. Whatever is there is seen: a single failed host among thousands gets its
/// column, taken from the widest part.
fn share(counts: [u64; 4], width: usize) -> [usize; 4] {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return [0, 0, 0, width];
    }
    let width64 = u64::try_from(width).unwrap_or(u64::MAX);
    let mut widths = counts.map(|count| {
        let part = usize::try_from(count * width64 / total).unwrap_or(width);
        part.max(usize::from(count > 0))
    });
    loop {
        let sum: usize = widths.iter().sum();
        let widest = widths.iter().copied().max().unwrap_or(0);
        let Some(slot) = widths.iter_mut().find(|part| **part == widest) else {
            return widths;
        };
        match sum.cmp(&width) {
            std::cmp::Ordering::Equal => return widths,
            std::cmp::Ordering::Less => *slot += width - sum,
            std::cmp::Ordering::Greater if widest <= 1 => return widths,
            std::cmp::Ordering::Greater => *slot -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_there_is_seen_and_the_parts_add_up() {
        for counts in [
            [0, 0, 0, 0],
            [1, 1, 1, 1],
            [9999, 1, 0, 0],
            [0, 1, 1, 100_000],
            [7, 0, 0, 0],
        ] {
            for width in [4, 10, 37] {
                let widths = share(counts, width);
                assert_eq!(widths.iter().sum::<usize>(), width, "{counts:?}");
                for (count, part) in counts.iter().zip(widths) {
                    assert!(*count == 0 || part > 0, "{counts:?} in {width}: {widths:?}");
                }
            }
        }
    }

    #[test]
    fn the_words_are_those_of_the_model() {
        for state in comber_model::rollout::RolloutState::ALL {
            assert!(
                STATES.iter().any(|(_, word)| *word == state.as_str()),
                "{state}"
            );
        }
    }
}
