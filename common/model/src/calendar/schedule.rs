//! Questions about several stretches together: whether an instant is covered and until when, and when the next is.
//!
//! Touching stretches count as one. Looks only as far as it must: the cost of a question follows the answer's distance.

use jiff::Timestamp;

use super::zone::timestamp;
use super::{Stretch, Zone};

/// How far the end of what covers an instant is looked for, in days. What lasts longer is as good as endless.
const END_DAYS: i64 = 64;
/// How far the next one is looked for, in days: over the next 29 February but one.
const NEXT_DAYS: i64 = 3200;
/// Days on both sides of a question in which whatever is shorter than a day or two lies whole.
const NEAR_DAYS: i64 = 5;
/// Days looked at in one go.
const STEP_DAYS: i64 = 32;
const DAY: i64 = super::stretch::DAY;

/// From one instant to another, that one not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
}

/// Stretches by one zone's clock.
#[derive(Debug, Clone, Copy)]
pub struct Schedule<'a> {
    /// Them.
    pub stretches: &'a [Stretch],
    /// The zone of those that say none.
    pub zone: &'a Zone,
    /// Left off at the end of each span, in seconds.
    pub margin: i64,
}

impl<'a> Schedule<'a> {
    /// Without a margin.
    pub fn new(stretches: &'a [Stretch], zone: &'a Zone) -> Self {
        Self {
            stretches,
            zone,
            margin: 0,
        }
    }

    /// What covers the instant, as far as one can see.
    pub fn covering(&self, at: Timestamp) -> Option<Span> {
        let mut days = 2;
        loop {
            let from = at.as_second();
            let until = from + days * DAY;
            let spans = self.spans(from, until);
            let holds = |span: &Span| span.from <= at && at < span.until;
            let span = spans.into_iter().find(holds)?;
            if span.until.as_second() < until || days >= END_DAYS {
                return Some(span);
            }
            days *= 2;
        }
    }

    /// The first span that ends after one instant and begins before another.
    pub fn first_in(&self, from: Timestamp, until: Timestamp) -> Option<Span> {
        let spans = self.spans(from.as_second(), until.as_second());
        spans
            .into_iter()
            .find(|span| from < span.until && span.from < until)
    }

    /// The first span that ends after the instant; absent where none comes any more.
    pub fn next(&self, at: Timestamp) -> Option<Span> {
        let from = at.as_second();
        let mut days = 0;
        while days < NEXT_DAYS {
            let spans = self.spans(from + days * DAY, from + (days + STEP_DAYS) * DAY);
            if let Some(span) = spans.into_iter().find(|span| at < span.until) {
                return Some(self.covering(span.from.max(at)).map_or(span, |whole| Span {
                    from: span.from,
                    ..whole
                }));
            }
            days += STEP_DAYS;
        }
        None
    }

    /// Merged and without the margin, in order; those at the edges may be longer than they look.
    fn spans(&self, from: i64, until: i64) -> Vec<Span> {
        // What ends just before may touch what begins there.
        let asked = (from - self.margin - 1, until + 1);
        let near = self
            .zone
            .even(asked.0 - NEAR_DAYS * DAY, asked.1 + NEAR_DAYS * DAY);
        let mut found = Vec::new();
        for stretch in self.stretches {
            stretch.pieces((self.zone, &near), asked, &mut found);
        }
        found.sort_unstable();
        let mut merged: Vec<Span> = Vec::new();
        for span in found {
            match merged.last_mut() {
                Some(last) if span.from <= last.until => last.until = last.until.max(span.until),
                Some(_) | None => merged.push(span),
            }
        }
        let short = |span: &Span| Span {
            until: timestamp(span.until.as_second() - self.margin),
            ..*span
        };
        let spans = merged.iter().map(short);
        spans.filter(|span| span.from < span.until).collect()
    }
}
