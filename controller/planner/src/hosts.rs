//! Every enrolled host, and what is counted of all of them: kept up to date host by host, so that no plan has to count
//! the fleet.
//!
//! Reads like the map that it is. A host is changed through [`Hosts::get_mut`] only, whose guard puts what follows from
//! the change right when it is dropped; so the counts can never be other than what the hosts say.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};

use comber_model::disruption::{DisruptionBudget, Lock, LockId};
use comber_model::{BudgetName, Host, HostId};

use crate::HostView;
use crate::books::Books;

/// The hosts, by name.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    all: BTreeMap<HostId, HostView>,
    books: Books,
    /// Hosts that were touched since the last applied plan: no other can have said anything new.
    heard: BTreeSet<HostId>,
}

/// A host that is being changed.
#[derive(Debug)]
pub struct HostMut<'a> {
    view: &'a mut HostView,
    books: &'a mut Books,
    /// The record before, where a budget's selector may read it.
    before: Option<Host>,
}

impl Deref for Hosts {
    type Target = BTreeMap<HostId, HostView>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<'a> IntoIterator for &'a Hosts {
    type Item = (&'a HostId, &'a HostView);
    type IntoIter = std::collections::btree_map::Iter<'a, HostId, HostView>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

impl Hosts {
    /// Adds a host, or puts it in the place of the one of that name.
    pub fn insert(&mut self, id: HostId, view: HostView) {
        self.books.settle(&view, None);
        self.heard.insert(id.clone());
        self.all.insert(id, view);
    }

    /// A host to be changed.
    pub fn get_mut(&mut self, id: &HostId) -> Option<HostMut<'_>> {
        let view = self.all.get_mut(id)?;
        if !self.heard.contains(id) {
            self.heard.insert(id.clone());
        }
        let before = self.books.read_records().then(|| view.host.clone());
        Some(HostMut {
            view,
            books: &mut self.books,
            before,
        })
    }

    /// Changes all of them.
    pub fn for_each_mut(&mut self, mut change: impl FnMut(&mut HostView)) {
        for (id, view) in &mut self.all {
            change(view);
            self.books.settle(view, None);
            self.heard.insert(id.clone());
        }
    }

    /// Hosts that were touched since the last applied plan.
    pub(crate) fn heard(&self) -> impl Iterator<Item = (&HostId, &HostView)> {
        self.heard
            .iter()
            .filter_map(|id| self.all.get_key_value(id))
    }

    /// An applied plan has taken in what was heard.
    pub(crate) fn forget_heard(&mut self) {
        self.heard.clear();
    }

    /// What is counted of them for budgets.
    pub(crate) fn books(&self) -> &Books {
        &self.books
    }

    /// Every budget, by name.
    pub fn budgets(&self) -> impl Iterator<Item = &DisruptionBudget> {
        self.books.budgets()
    }

    /// A budget.
    pub fn budget(&self, name: &BudgetName) -> Option<&DisruptionBudget> {
        self.budgets().find(|budget| budget.name == *name)
    }

    /// Sets a budget, and counts its hosts once.
    pub fn put_budget(&mut self, budget: DisruptionBudget) {
        self.books.put(budget, self.all.values());
    }

    /// Takes a budget away.
    pub fn remove_budget(&mut self, name: &BudgetName) {
        self.books.remove(name);
    }

    /// Every lock, by who holds it.
    pub fn locks(&self) -> &BTreeMap<LockId, Lock> {
        self.books.locks()
    }

    /// Takes a lock, or puts it in the place of that holder's.
    pub fn put_lock(&mut self, lock: Lock) {
        self.books.put_lock(lock);
    }

    /// Gives a lock back.
    pub fn remove_lock(&mut self, id: &LockId) {
        self.books.remove_lock(id);
    }

    /// The same hosts, budgets and locks, all counted from the beginning: for tests of the counts.
    #[must_use]
    pub fn counted_again(&self) -> Self {
        let mut again = Self {
            all: self.all.clone(),
            heard: self.heard.clone(),
            books: Books::default(),
        };
        for budget in self.budgets() {
            again.put_budget(budget.clone());
        }
        for lock in self.locks().values() {
            again.put_lock(lock.clone());
        }
        again
    }

    /// True where the counts are those.
    pub fn counts_as(&self, other: &Self) -> bool {
        self.books.counts_as(&other.books)
    }
}

impl Deref for HostMut<'_> {
    type Target = HostView;

    fn deref(&self) -> &HostView {
        self.view
    }
}

impl DerefMut for HostMut<'_> {
    fn deref_mut(&mut self) -> &mut HostView {
        self.view
    }
}

impl Drop for HostMut<'_> {
    fn drop(&mut self) {
        self.books.settle(self.view, self.before.as_ref());
    }
}
