//! Tables within tables: one, named ones, and lists of them.
//!
//! Invariant: a bad table never hides the mistakes of its neighbours.

use std::collections::BTreeMap;

use toml::Value;

use super::{
    Shown,
    problem::Problem,
    section::{Section, Settings, bare_or_quoted},
    tree::{Node, Origin, Table, from_table},
    value::ConfigValue,
};

impl Section<'_> {
    /// A table below this one; when it is not written, all its keys are unset.
    pub fn table<T: Settings>(&mut self, key: &'static str) -> Option<T> {
        let node = self.node(key);
        let origin = self.origin_of(node);
        let path = self.path_of(key);
        match node {
            None => self.below(path, origin, &Table::new()),
            Some(Node::Table(table)) => self.below(path, origin, table),
            Some(Node::Value(..)) => self.no_table(path.clone(), &origin, &format!("[{path}]")),
        }
    }

    /// Tables under names that the user chooses: `[mirror.berlin]`. `None` when one of them is bad.
    pub fn named_tables<T: Settings>(&mut self, key: &'static str) -> Option<BTreeMap<String, T>> {
        let node = self.node(key);
        let path = self.path_of(key);
        let entries = match node {
            None => return Some(BTreeMap::new()),
            Some(Node::Table(entries)) => entries,
            Some(Node::Value(_, origin)) => {
                return self.no_table(path.clone(), origin, &format!("[{path}.<name>]"));
            }
        };
        // All entries are read before the first bad one is looked at.
        let read: Vec<_> = entries
            .iter()
            .map(|(name, node)| (name.clone(), self.named_table(&path, name, node)))
            .collect();
        read.into_iter()
            .map(|(name, table)| Some((name, table?)))
            .collect()
    }

    /// Values under names that the user chooses: `[variables]` with `PORT = "8080"`. `None` when one of them is bad.
    pub fn named_values<T: ConfigValue>(
        &mut self,
        key: &'static str,
    ) -> Option<BTreeMap<String, T>> {
        let node = self.node(key);
        let path = self.path_of(key);
        let entries = match node {
            None => return Some(BTreeMap::new()),
            Some(Node::Table(entries)) => entries,
            Some(Node::Value(_, origin)) => {
                return self.no_table(path.clone(), origin, &format!("[{path}]"));
            }
        };
        // All entries are read before the first bad one is looked at.
        let read: Vec<_> = entries
            .iter()
            .map(|(name, node)| (name.clone(), self.named_value(&path, name, node)))
            .collect();
        read.into_iter()
            .map(|(name, value)| Some((name, value?)))
            .collect()
    }

    /// A list of tables: `[[check]]`. `None` when one of them is bad.
    pub fn list<T: Settings>(&mut self, key: &'static str) -> Option<Vec<T>> {
        let node = self.node(key);
        let path = self.path_of(key);
        let (items, origin) = match node {
            None => return Some(Vec::new()),
            Some(Node::Value(value @ Value::Array(items), origin)) => {
                self.show(key, Some(value), origin);
                (items, origin)
            }
            Some(other) => {
                let origin = self.origin_of(Some(other));
                return self.no_table(path.clone(), &origin, &format!("[[{path}]]"));
            }
        };
        // All items are read before the first bad one is looked at.
        let read: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(index, item)| self.list_item(&path, index, item, origin))
            .collect();
        read.into_iter().collect()
    }

    fn named_table<T: Settings>(&mut self, path: &str, name: &str, node: &Node) -> Option<T> {
        let origin = self.origin_of(Some(node));
        let path = format!("{path}.{}", bare_or_quoted(name));
        match node {
            Node::Table(table) => self.below(path, origin, table),
            Node::Value(..) => self.no_table(path.clone(), &origin, &format!("[{path}]")),
        }
    }

    fn named_value<T: ConfigValue>(&mut self, path: &str, name: &str, node: &Node) -> Option<T> {
        let key = format!("{path}.{}", bare_or_quoted(name));
        let origin = self.origin_of(Some(node));
        let read = match node {
            Node::Value(value, _) => T::from_value(value),
            Node::Table(_) => None,
        };
        match &read {
            Some(read) => self.report.shown.push(Shown {
                key,
                value: Some(read.to_value().to_string()),
                origin: origin.to_string(),
            }),
            None => self.report.problems.push(Problem {
                origin: origin.to_string(),
                key,
                message: format!("is not {}", T::allowed()),
            }),
        }
        read
    }

    fn list_item<T: Settings>(
        &mut self,
        path: &str,
        index: usize,
        item: &Value,
        origin: &Origin,
    ) -> Option<T> {
        let item_path = format!("{path}[{index}]");
        let Value::Table(item) = item else {
            return self.no_table(item_path, origin, &format!("[[{path}]]"));
        };
        let table = from_table(item.clone(), origin);
        // The list was shown whole, and `key[0].name` is not TOML, so its parts are not shown again.
        let shown_before = self.report.shown.len();
        let read = self.below(item_path, Origin::clone(origin), &table);
        self.report.shown.truncate(shown_before);
        read
    }

    fn below<T: Settings>(&mut self, path: String, place: Origin, table: &Table) -> Option<T> {
        Section::new(path, place, table, self.report).read_all()
    }

    fn no_table<T>(&mut self, key: String, origin: &Origin, write: &str) -> Option<T> {
        let message = format!("is not a table; write {write}");
        self.report.problems.push(Problem {
            origin: origin.to_string(),
            key,
            message,
        });
        None
    }
}
