//! Reading one table of the merged configuration, noting each mistake and each effective value.
//!
//! A [`Settings`] asks for its keys one by one; a key that nobody asked for is unknown and refused when the table ends.
//! Invariant: a method that returns a fallback in place of a bad value has noted a problem.

use std::ops::RangeInclusive;

use toml::Value;

use super::{
    Shown,
    problem::Problem,
    tree::{Node, Origin, Table},
    value::ConfigValue,
};

/// What a table of the configuration is read into.
pub trait Settings: Sized {
    /// Asks for every key of the table, also after one failed, and only then gives up.
    ///
    /// `None` means that a problem was noted. A key that is not asked for is refused as unknown.
    fn read(section: &mut Section<'_>) -> Option<Self>;
}

/// One table while it is read.
#[derive(Debug)]
pub struct Section<'a> {
    path: String,
    /// Where the table, or what holds it, was written: the place to add what is missing.
    place: Origin,
    table: &'a Table,
    known: Vec<&'static str>,
    pub(super) report: &'a mut Report,
}

/// What reading has found so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) problems: Vec<Problem>,
    pub(super) shown: Vec<Shown>,
}

impl Report {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self {
            problems,
            shown: Vec::new(),
        }
    }
}

impl<'a> Section<'a> {
    pub(super) fn root(table: &'a Table, report: &'a mut Report) -> Self {
        Self::new(String::new(), "the configuration".into(), table, report)
    }

    pub(super) fn new(
        path: String,
        place: Origin,
        table: &'a Table,
        report: &'a mut Report,
    ) -> Self {
        Self {
            path,
            place,
            table,
            known: Vec::new(),
            report,
        }
    }

    /// The key's value, or `default` when it is not set.
    pub fn value<T: ConfigValue>(&mut self, key: &'static str, default: T) -> T {
        match self.take::<T>(key) {
            Taken::Set(value, origin) => {
                self.show(key, Some(&value.to_value()), &origin);
                value
            }
            Taken::Absent => {
                self.show(key, Some(&default.to_value()), "default");
                default
            }
            Taken::Bad => default,
        }
    }

    /// The key's value; when it is not set, that is a problem.
    pub fn required<T: ConfigValue>(&mut self, key: &'static str) -> Option<T> {
        match self.take::<T>(key) {
            Taken::Set(value, origin) => {
                self.show(key, Some(&T::to_value(&value)), &origin);
                Some(value)
            }
            Taken::Absent => {
                let place = Origin::clone(&self.place);
                self.note(
                    key,
                    &place,
                    format!("is not set; expected {}", T::allowed()),
                );
                None
            }
            Taken::Bad => None,
        }
    }

    /// The key's value, if it is set.
    pub fn optional<T: ConfigValue>(&mut self, key: &'static str) -> Option<T> {
        match self.take::<T>(key) {
            Taken::Set(value, origin) => {
                self.show(key, Some(&T::to_value(&value)), &origin);
                Some(value)
            }
            Taken::Absent => {
                self.show(key, None, "default");
                None
            }
            Taken::Bad => None,
        }
    }

    /// Like [`Section::value`], refusing what is outside of `range`.
    pub fn within<T: ConfigValue + PartialOrd>(
        &mut self,
        key: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        let value = self.value(key, default);
        if !range.contains(&value) {
            let (low, high) = (range.start().to_value(), range.end().to_value());
            self.refuse(
                key,
                &format!("{} is outside of {low} to {high}", value.to_value()),
            );
        }
        value
    }

    /// One of a few words, each standing for a value.
    pub fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        let word = |value: T| {
            choices
                .iter()
                .find(|(_, choice)| *choice == value)
                .map_or("", |(word, _)| *word)
        };
        let chosen: String = self.value(key, word(default).to_owned());
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == chosen) {
            return *value;
        }
        let words: Vec<String> = choices
            .iter()
            .map(|(word, _)| format!("{word:?}"))
            .collect();
        self.refuse(
            key,
            &format!("{chosen:?} is not one of {}", words.join(", ")),
        );
        default
    }

    /// Notes that the key's value, though of the right type, does not do; `message` says what would.
    pub fn refuse(&mut self, key: &'static str, message: &str) {
        let node = self.node(key);
        let origin = self.origin_of(node);
        self.note(key, &origin, message.to_owned());
    }

    pub(super) fn read_all<T: Settings>(mut self) -> Option<T> {
        let read = T::read(&mut self);
        self.refuse_unknown();
        read
    }

    pub(super) fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }

    fn take<T: ConfigValue>(&mut self, key: &'static str) -> Taken<T> {
        match self.node(key) {
            None => Taken::Absent,
            Some(Node::Value(value, origin)) => {
                if let Some(read) = T::from_value(value) {
                    return Taken::Set(read, Origin::clone(origin));
                }
                self.note(key, origin, format!("{value} is not {}", T::allowed()));
                Taken::Bad
            }
            Some(table @ Node::Table(_)) => {
                let origin = self.origin_of(Some(table));
                self.note(
                    key,
                    &origin,
                    format!("is a table; expected {}", T::allowed()),
                );
                Taken::Bad
            }
        }
    }

    fn refuse_unknown(&mut self) {
        let unknown = self
            .table
            .iter()
            .filter(|(key, _)| !self.known.contains(&key.as_str()));
        let unknown: Vec<_> = unknown.collect();
        for (key, node) in unknown {
            let mut known = self.known.clone();
            known.sort_unstable();
            let message = format!("is not a known key; known here: {}", known.join(", "));
            let origin = self.origin_of(Some(node));
            self.note(&bare_or_quoted(key), &origin, message);
        }
    }

    /// Where the node was written; an empty table or none at all belongs to the place of this section.
    pub(super) fn origin_of(&self, node: Option<&Node>) -> Origin {
        Origin::clone(node.and_then(Node::origin).unwrap_or(&self.place))
    }

    pub(super) fn note(&mut self, key: &str, origin: &str, message: String) {
        let key = self.path_of(key);
        self.report.problems.push(Problem {
            origin: origin.to_owned(),
            key,
            message,
        });
    }

    pub(super) fn show(&mut self, key: &str, value: Option<&Value>, origin: &str) {
        let shown = Shown {
            key: self.path_of(key),
            value: value.map(Value::to_string),
            origin: origin.to_owned(),
        };
        self.report.shown.push(shown);
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }
}

/// What stands behind a key.
enum Taken<T> {
    Set(T, Origin),
    Absent,
    /// The problem is noted.
    Bad,
}

/// A key as TOML wants it written.
pub(super) fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if bare {
        key.to_owned()
    } else {
        Value::String(key.to_owned()).to_string()
    }
}
