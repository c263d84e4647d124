//! The one error of parsing: which field is wrong, what is wrong with it, and what would be right.

use std::fmt;

/// A value that was refused. Nothing was changed by the attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// Path of the field as the user wrote it, for example `wave[1].max_in_flight`.
    pub field: String,
    /// What is wrong and what is allowed, without the field's name.
    pub problem: String,
}

impl Invalid {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The same error seen from one level further out: `wave[1]` + `soak` becomes `wave[1].soak`.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.field = match (parent.is_empty(), self.field.is_empty()) {
            (true, _) => self.field,
            (false, true) => parent.to_owned(),
            (false, false) if self.field.starts_with('[') => format!("{parent}{}", self.field),
            (false, false) => format!("{parent}.{}", self.field),
        };
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "{}", self.problem)
        } else {
            write!(f, "{}: {}", self.field, self.problem)
        }
    }
}

/// The nearest of `known` to a word that is none of them, for "did you mean" in errors.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in bytes; names here are short ASCII words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_from_the_outside_in() {
        let error = Invalid::new("count", "is 0, must be at least 1")
            .within("hosts")
            .within("wave[1]");
        assert_eq!(
            error.to_string(),
            "wave[1].hosts.count: is 0, must be at least 1"
        );
        let error = Invalid::new("[2]", "is empty").within("wave");
        assert_eq!(error.field, "wave[2]");
    }

    #[test]
    fn suggests_only_what_is_near() {
        assert_eq!(nearest("kernal", ["kernel", "arch", "os"]), Some("kernel"));
        assert_eq!(nearest("zebra", ["kernel", "arch", "os"]), None);
    }
}
