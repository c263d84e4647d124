//! Which packages selectors ask for, and their versions in the hosts' views.
//!
//! Pure but for the world that it changes. Invariant: once a name is answered, every host's view has its version, and
//! each edit of a host's list keeps that true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comber_model::HostId;
use comber_model::packages::{PackageList, escaped_name, name_in};

use super::parts::{Found, version_in};
use crate::core::World;

/// Names that may be asked for before those that no rollout needs are forgotten: questions of `comber host list` must
/// not add up for ever.
const NAMES_KEPT: usize = 256;

/// The packages that are asked for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    names: BTreeMap<Arc<str>, State>,
    /// Each version once, for all hosts.
    texts: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
enum State {
    /// Every host's view has it.
    Answered,
    /// The store is being read; what these hosts reported meanwhile is newer.
    Reading { reported: BTreeSet<HostId> },
}

impl Asked {
    /// True where all of these are in the hosts' views.
    pub(crate) fn has(&self, names: &BTreeSet<Arc<str>>) -> bool {
        let answered = |name| matches!(self.names.get(name), Some(State::Answered));
        names.iter().all(answered)
    }

    fn text(&mut self, version: &str) -> Arc<str> {
        if let Some(text) = self.texts.get(version) {
            return Arc::clone(text);
        }
        let text: Arc<str> = version.into();
        self.texts.insert(Arc::clone(&text));
        text
    }
}

impl World {
    /// Has edits note these names from now on.
    pub(super) fn ask(&mut self, names: BTreeSet<Arc<str>>) {
        if self.asked.names.len() + names.len() > NAMES_KEPT {
            self.forget_unneeded(&names);
        }
        for name in names {
            self.asked
                .names
                .entry(name)
                .or_insert_with(|| State::Reading {
                    reported: BTreeSet::new(),
                });
        }
    }

    /// Takes in what the store has of names that were asked for before it was read.
    pub(super) fn answer(&mut self, names: &BTreeSet<Arc<str>>, found: Vec<Found>) {
        for Found {
            host,
            name,
            version,
        } in found
        {
            let is_news = match self.asked.names.get(&name) {
                Some(State::Reading { reported }) => !reported.contains(&host),
                Some(State::Answered) | None => false,
            };
            if let Some(mut view) = self.input.hosts.get_mut(&host).filter(|_| is_news) {
                view.versions.set(name, Some(self.asked.text(&version)));
            }
        }
        for name in names {
            if let Some(state) = self.asked.names.get_mut(name) {
                *state = State::Answered;
            }
        }
    }

    /// Notes what a host's new list has of the names that are asked for. One pass over the list, however many those are.
    pub(super) fn note(&mut self, host: &HostId, list: &PackageList) {
        let names = self.asked.names.keys();
        let asked: BTreeMap<String, Arc<str>> = names
            .map(|name| (escaped_name(name), Arc::clone(name)))
            .collect();
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for purl in list.purls().filter(|_| !asked.is_empty()) {
            if let Some((spelled, _)) = asked.get_key_value(name_in(purl)) {
                found.entry(spelled).or_default().push(purl);
            }
        }
        for (spelled, name) in &asked {
            let purls = found.get(spelled.as_str()).into_iter().flatten();
            let version = version_in(purls, name);
            let version = version.map(|version| self.asked.text(&version));
            if let Some(mut view) = self.input.hosts.get_mut(host) {
                view.versions.set(Arc::clone(name), version);
            }
            if let Some(State::Reading { reported }) = self.asked.names.get_mut(name) {
                reported.insert(host.clone());
            }
        }
    }

    /// What the selectors of all rollouts ask for.
    pub(super) fn asked_by_rollouts(&self) -> BTreeSet<Arc<str>> {
        let asked = |view: &comber_planner::RolloutView| {
            let spec = &view.rollout.spec;
            let release = self.input.releases.get(&spec.release);
            comber_planner::asked_packages(spec, release.map(AsRef::as_ref))
        };
        self.input.rollouts.values().flat_map(asked).collect()
    }

    fn forget_unneeded(&mut self, wanted: &BTreeSet<Arc<str>>) {
        let needed = self.asked_by_rollouts();
        let stays = |name: &Arc<str>| needed.contains(name) || wanted.contains(name);
        let (kept, gone) = std::mem::take(&mut self.asked.names)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(name, _)| stays(name));
        self.asked.names = kept;
        self.input.hosts.for_each_mut(|view| {
            for name in gone.keys() {
                view.versions.set(Arc::clone(name), None);
            }
        });
        self.asked.texts.retain(|text| Arc::strong_count(text) > 1);
    }
}
