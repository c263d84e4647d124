//! The merged configuration, in which every value remembers the file or flag that it came from.
//!
//! Pure. Invariant: merging changes only the keys that the later fragment names.

use std::{collections::BTreeMap, sync::Arc};

use toml::Value;

/// Where a value was written: a path, or `flag --listen`.
pub(super) type Origin = Arc<str>;
pub(super) type Table = BTreeMap<String, Node>;

/// A table, or a value with its origin.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Table(Table),
    Value(Value, Origin),
}

impl Node {
    pub(super) fn from_toml(value: Value, origin: &Origin) -> Self {
        match value {
            Value::Table(table) => Self::Table(from_table(table, origin)),
            other => Self::Value(other, Arc::clone(origin)),
        }
    }

    /// Some origin within, for telling where a table of the wrong kind or name was written.
    pub(super) fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Table(table) => table.values().find_map(Self::origin),
            Self::Value(_, origin) => Some(origin),
        }
    }
}

pub(super) fn from_table(table: toml::Table, origin: &Origin) -> Table {
    table
        .into_iter()
        .map(|(key, value)| (key, Node::from_toml(value, origin)))
        .collect()
}

/// Lays `later` over `earlier`.
pub(super) fn merge(earlier: &mut Table, later: Table) {
    for (key, node) in later {
        match (earlier.get_mut(&key), node) {
            (Some(Node::Table(earlier)), Node::Table(later)) => merge(earlier, later),
            (Some(place), node) => *place = node,
            (None, node) => {
                earlier.insert(key, node);
            }
        }
    }
}
