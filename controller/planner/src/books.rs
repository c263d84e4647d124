//! The ledger of disruption budgets: which hosts are in which failure domain, and which of them are down.
//!
//! A host is down while it is not connected, while it is active on behalf of whatever rollout (installing, rebooting,
//! going back), and while it is broken. What may still go down by a permit is added for each plan by [`Room`]; locks
//! count beside the hosts. The invariant: what is kept here is what counting all hosts again would give.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comber_model::disruption::{DisruptionBudget, Lock, LockGroup, LockId};
use comber_model::packages::Versions;
use comber_model::selector::{Selector, Subject};
use comber_model::{AgentState, BudgetName, Hold, Host, HostId};
use jiff::Timestamp;

use crate::{HostView, PlanInput, fence};

/// Names told of those who are down.
const NAMES_TOLD: usize = 3;

/// All budgets with their counts, and all locks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books {
    all: BTreeMap<BudgetName, Book>,
    locks: BTreeMap<LockId, Lock>,
}

/// One budget and what it counts.
#[derive(Debug, Clone)]
struct Book {
    budget: Arc<DisruptionBudget>,
    reach: Reach,
    /// The domain of each host that the budget is about.
    places: BTreeMap<HostId, Arc<str>>,
    domains: BTreeMap<Arc<str>, Domain>,
}

/// Which hosts a budget is about.
#[derive(Debug, Clone)]
enum Reach {
    All,
    /// A selector that cannot be read any more is about every host: a guard fails closed.
    Those(Selector),
}

/// One failure domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Domain {
    /// Hosts in it.
    pub(crate) hosts: BTreeSet<HostId>,
    /// Those of them that are down.
    pub(crate) down: BTreeSet<HostId>,
    /// Locks that count in it.
    pub(crate) locks: BTreeSet<LockId>,
}

impl Domain {
    /// What a percentage is of.
    fn size(&self) -> usize {
        self.hosts.len() + self.locks.len()
    }

    fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.locks.is_empty()
    }
}

/// True where the host is down, whoever's doing that is. One that was retired is no part of the fleet.
pub(crate) fn is_down(view: &HostView) -> bool {
    let state = view.status.as_ref().map(|status| status.state);
    let is_unwell = state.is_some_and(|s| s.is_active() || s == AgentState::Broken);
    view.host.retired_at.is_none() && (!view.link.is_up() || is_unwell)
}

/// What a host is down of, for people.
fn why_down(view: &HostView) -> String {
    let state = view.status.as_ref().map(|status| status.state);
    match state.filter(|s| s.is_active() || *s == AgentState::Broken) {
        Some(state) => format!("{} is {state}", view.host.id),
        None if view.link.is_up() => format!("{} has a permit", view.host.id),
        None => format!("{} is not connected", view.host.id),
    }
}

impl Book {
    fn new(budget: DisruptionBudget) -> Self {
        let selector = budget.selector.as_deref().map(Selector::parse);
        let reach = match selector {
            Some(Ok(selector)) => Reach::Those(selector),
            Some(Err(_)) | None => Reach::All,
        };
        Self {
            budget: Arc::new(budget),
            reach,
            places: BTreeMap::new(),
            domains: BTreeMap::new(),
        }
    }

    /// The domain that the host belongs to by its record; absent where the budget is not about it.
    fn place_of(&self, host: &Host, subject: &mut Option<Subject>) -> Option<Arc<str>> {
        if host.retired_at.is_some() {
            return None;
        }
        if let Reach::Those(selector) = &self.reach {
            let subject = subject.get_or_insert_with(|| Subject::new(host, &Versions::default()));
            if !selector.selects(subject) {
                return None;
            }
        }
        let value = self
            .budget
            .by
            .as_ref()
            .map_or("", |by| by.value(&host.labels));
        let known = self.domains.get_key_value(value);
        Some(known.map_or_else(|| value.into(), |(known, _)| Arc::clone(known)))
    }

    fn move_to(&mut self, host: &HostId, place: Option<Arc<str>>) {
        let old = match place.clone() {
            Some(place) => self.places.insert(host.clone(), place),
            None => self.places.remove(host),
        };
        if old == place {
            return;
        }
        if let Some(old) = old {
            self.in_domain(&old, |domain| {
                domain.hosts.remove(host);
                domain.down.remove(host);
            });
        }
        if let Some(place) = place {
            self.in_domain(&place, |domain| {
                domain.hosts.insert(host.clone());
            });
        }
    }

    fn set_down(&mut self, host: &HostId, is_down: bool) {
        let Some(place) = self.places.get(host).cloned() else {
            return;
        };
        let is_known = self.domains[&place].down.contains(host);
        if is_known != is_down {
            self.in_domain(&place, |domain| {
                if is_down {
                    domain.down.insert(host.clone());
                } else {
                    domain.down.remove(host);
                }
            });
        }
    }

    /// Changes a domain, and forgets it where nothing is left of it.
    fn in_domain(&mut self, place: &Arc<str>, change: impl FnOnce(&mut Domain)) {
        let domain = self.domains.entry(Arc::clone(place)).or_default();
        change(domain);
        if domain.is_empty() {
            self.domains.remove(place);
        }
    }

    /// The domain that a lock of this group counts in.
    fn place_of_lock(&self, group: &LockGroup) -> Arc<str> {
        if self.budget.by.is_some() {
            group.as_str().into()
        } else {
            "".into()
        }
    }

    /// A domain as people read it.
    fn domain_name(&self, place: &str) -> String {
        match &self.budget.by {
            None => "all hosts".to_owned(),
            Some(by) if place.is_empty() => format!("hosts without {by}"),
            Some(by) => format!("{by}={place}"),
        }
    }
}

impl Books {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn budgets(&self) -> impl Iterator<Item = &DisruptionBudget> {
        self.all.values().map(|book| book.budget.as_ref())
    }

    pub(crate) fn locks(&self) -> &BTreeMap<LockId, Lock> {
        &self.locks
    }

    /// True where a budget reads more of a host than its labels.
    pub(crate) fn read_records(&self) -> bool {
        !self.all.is_empty()
    }

    /// Takes in what became of a host; `before` is its record before, where that is known and may be the same still.
    pub(crate) fn settle(&mut self, view: &HostView, before: Option<&Host>) {
        let has_moved = before != Some(&view.host);
        let is_down = is_down(view);
        let mut subject = None;
        for book in self.all.values_mut() {
            if has_moved {
                let place = book.place_of(&view.host, &mut subject);
                book.move_to(&view.host.id, place);
            }
            book.set_down(&view.host.id, is_down);
        }
    }

    pub(crate) fn put<'a>(
        &mut self,
        budget: DisruptionBudget,
        hosts: impl Iterator<Item = &'a HostView>,
    ) {
        let mut book = Book::new(budget);
        for view in hosts {
            let place = book.place_of(&view.host, &mut None);
            book.move_to(&view.host.id, place);
            book.set_down(&view.host.id, is_down(view));
        }
        let locks: Vec<Lock> = self.locks.values().cloned().collect();
        self.all.insert(book.budget.name.clone(), book);
        for lock in locks {
            self.put_lock(lock);
        }
    }

    pub(crate) fn remove(&mut self, name: &BudgetName) {
        self.all.remove(name);
    }

    pub(crate) fn put_lock(&mut self, lock: Lock) {
        self.remove_lock(&lock.id);
        for book in self.all.values_mut().filter(|book| book.budget.fleet_lock) {
            let place = book.place_of_lock(&lock.group);
            book.in_domain(&place, |domain| {
                domain.locks.insert(lock.id.clone());
            });
        }
        self.locks.insert(lock.id.clone(), lock);
    }

    pub(crate) fn remove_lock(&mut self, id: &LockId) {
        let Some(lock) = self.locks.remove(id) else {
            return;
        };
        for book in self.all.values_mut().filter(|book| book.budget.fleet_lock) {
            let place = book.place_of_lock(&lock.group);
            book.in_domain(&place, |domain| {
                domain.locks.remove(id);
            });
        }
    }

    /// True where the other books have the same in them.
    pub(crate) fn counts_as(&self, other: &Self) -> bool {
        let same = |(a, b): (&Book, &Book)| a.places == b.places && a.domains == b.domains;
        self.locks == other.locks
            && self.all.len() == other.all.len()
            && self.all.values().zip(other.all.values()).all(same)
    }

    /// The domains of a budget with their hosts, for proofs that count in their own way.
    pub(crate) fn domain_of(
        &self,
        name: &BudgetName,
        host: &HostId,
    ) -> Option<(&Arc<str>, &Domain)> {
        let book = self.all.get(name)?;
        book.domains.get_key_value(book.places.get(host)?)
    }
}

/// What is left of each budget at one moment: the books, and the hosts that permits may still take down.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    input: &'a PlanInput,
    /// By budget and domain: hosts that are up and hold a permit.
    permitted: BTreeMap<(&'a BudgetName, &'a str), BTreeSet<&'a HostId>>,
}

impl<'a> Room<'a> {
    /// The room that the hosts of these names leave, which may go down by a permit or are down by one.
    pub(crate) fn new(input: &'a PlanInput, in_flight: impl Iterator<Item = &'a HostId>) -> Self {
        let mut room = Self {
            input,
            permitted: BTreeMap::new(),
        };
        for host in in_flight {
            room.take(host);
        }
        room
    }

    /// The same, from the records as they are.
    pub(crate) fn now(input: &'a PlanInput, now: Timestamp) -> Self {
        if input.hosts.books().is_empty() {
            return Self::new(input, std::iter::empty());
        }
        let members = input.rollouts.values().flat_map(|view| {
            let members = view.attention.iter();
            members.filter_map(|host| view.members.get(host))
        });
        let in_flight = members.filter_map(|member| {
            let (host, view) = input.hosts.get_key_value(&member.host)?;
            fence::is_in_flight(member, view, now).then_some(host)
        });
        Self::new(input, in_flight)
    }

    /// Counts a host as one that goes down.
    pub(crate) fn take(&mut self, host: &'a HostId) {
        for (name, book) in &self.input.hosts.books().all {
            let Some(place) = book.places.get(host) else {
                continue;
            };
            if !book.domains[place].down.contains(host) {
                self.permitted
                    .entry((name, place))
                    .or_default()
                    .insert(host);
            }
        }
    }

    /// The budget that keeps the host up; absent where it may go down, or counts already.
    pub(crate) fn hold(&self, host: &HostId) -> Option<Hold> {
        let books = &self.input.hosts.books().all;
        books.iter().find_map(|(name, book)| {
            let place = book.places.get(host)?;
            let counts_already = book.domains[place].down.contains(host)
                || self
                    .permitted
                    .get(&(name, place.as_ref()))
                    .is_some_and(|hosts| hosts.contains(host));
            if counts_already {
                return None;
            }
            self.spent(name, book, place)
        })
    }

    /// What keeps a client of that group from taking a lock; absent where it may.
    pub(crate) fn hold_of_lock(&self, group: &LockGroup) -> Option<Hold> {
        let books = &self.input.hosts.books().all;
        let mut sharing = books.iter().filter(|(_, book)| book.budget.fleet_lock);
        sharing.find_map(|(name, book)| {
            let place = book.place_of_lock(group);
            self.spent(name, book, &place)
        })
    }

    /// Those who are down where a budget has no room for one more.
    fn spent(&self, name: &BudgetName, book: &Book, place: &str) -> Option<Hold> {
        let nothing = Domain::default();
        let domain = book.domains.get(place).unwrap_or(&nothing);
        let permitted = self.permitted.get(&(name, place));
        let permitted = permitted.into_iter().flatten().copied();
        let down = domain.down.len() + domain.locks.len() + permitted.clone().count();
        let limit = book.budget.max.limit(domain.size());
        if down < limit {
            return None;
        }
        let views = domain.down.iter().chain(permitted);
        let views = views.filter_map(|host| self.input.hosts.get(host));
        let locks = domain
            .locks
            .iter()
            .map(|lock| format!("{lock} holds a lock"));
        let who = views.map(why_down).chain(locks);
        Some(Hold::DisruptionBudget {
            budget: name.clone(),
            domain: book.domain_name(place),
            down: count(down),
            max: book.budget.max,
            limit: count(limit),
            who: who.take(NAMES_TOLD).collect(),
        })
    }

    /// Hosts of a domain, by the name that people read, that are up and hold a permit.
    pub(crate) fn permitted(&self, name: &BudgetName, domain: &str) -> Vec<&'a HostId> {
        let Some(book) = self.input.hosts.books().all.get(name) else {
            return Vec::new();
        };
        let here = self
            .permitted
            .iter()
            .filter(|((budget, place), _)| *budget == name && book.domain_name(place) == domain);
        here.flat_map(|(_, hosts)| hosts.iter().copied()).collect()
    }

    /// Every domain of a budget: its name, its hosts and locks, how many of them are or may be down, and the limit.
    pub(crate) fn domains(&self, name: &BudgetName) -> Vec<DomainState> {
        let Some((name, book)) = self.input.hosts.books().all.get_key_value(name) else {
            return Vec::new();
        };
        let state = |(place, domain): (&Arc<str>, &Domain)| {
            let permitted = self.permitted.get(&(name, place.as_ref()));
            let permitted = permitted.into_iter().flatten().copied();
            let views = domain.down.iter().chain(permitted.clone());
            let views = views.filter_map(|host| self.input.hosts.get(host));
            let locks = domain
                .locks
                .iter()
                .map(|lock| format!("{lock} holds a lock"));
            let down = domain.down.len() + domain.locks.len() + permitted.count();
            DomainState {
                name: book.domain_name(place),
                hosts: count(domain.hosts.len()),
                down: count(down),
                limit: count(book.budget.max.limit(domain.size())),
                who: views.map(why_down).chain(locks).take(NAMES_TOLD).collect(),
            }
        };
        book.domains.iter().map(state).collect()
    }
}

/// How one failure domain of a budget stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainState {
    /// As people read it, for example `labels.rack=r1`.
    pub name: String,
    /// Hosts in it.
    pub hosts: u32,
    /// Hosts and locks of it that are or may be down.
    pub down: u32,
    /// Most that may be.
    pub limit: u32,
    /// The first of those that are, with the reason.
    pub who: Vec<String>,
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Every domain of a budget at that time; empty where there is no such budget.
pub fn budget_domains(input: &PlanInput, name: &BudgetName, now: Timestamp) -> Vec<DomainState> {
    Room::now(input, now).domains(name)
}

/// Whether a client of `FleetLock` may take its lock now: what keeps it from that, where something does.
///
/// A client that has the lock keeps it, whatever else is down; one whose group changed asks anew.
pub fn lock_hold(
    input: &PlanInput,
    id: &LockId,
    group: &LockGroup,
    now: Timestamp,
) -> Option<Hold> {
    let held = input.hosts.locks().get(id);
    if held.is_some_and(|lock| lock.group == *group) {
        return None;
    }
    Room::now(input, now).hold_of_lock(group)
}
