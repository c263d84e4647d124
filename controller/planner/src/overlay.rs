//! Records by host that a plan looks up again and again.
//!
//! Names of hosts are found by hash, since a plan asks for each host in motion dozens of times. The invariant: whatever is iterated comes in the order of names, so that the same input
//! gives the same plan.

#![expect(
    clippy::disallowed_types,
    reason = "nothing is iterated but in the order of names"
)]

use std::collections::HashMap;

use comber_model::HostId;

/// Values by host.
pub(crate) struct Overlay<'a, V> {
    slots: HashMap<&'a HostId, V>,
}

impl<V> Default for Overlay<'_, V> {
    fn default() -> Self {
        Self {
            slots: HashMap::new(),
        }
    }
}

impl<'a, V> Overlay<'a, V> {
    pub(crate) fn get(&self, host: &HostId) -> Option<&V> {
        self.slots.get(host)
    }

    pub(crate) fn contains(&self, host: &HostId) -> bool {
        self.slots.contains_key(host)
    }

    pub(crate) fn insert(&mut self, host: &'a HostId, value: V) {
        self.slots.insert(host, value);
    }

    /// All, by name.
    pub(crate) fn sorted(&self) -> Vec<(&'a HostId, &V)> {
        let mut all: Vec<(&'a HostId, &V)> = self
            .slots
            .iter()
            .map(|(host, value)| (*host, value))
            .collect();
        all.sort_unstable_by_key(|(host, _)| *host);
        all
    }

    /// The same, and the values leave.
    pub(crate) fn into_sorted(self) -> Vec<(&'a HostId, V)> {
        let mut all: Vec<(&'a HostId, V)> = self.slots.into_iter().collect();
        all.sort_unstable_by_key(|(host, _)| *host);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_iterated_comes_by_name() {
        let names: Vec<HostId> = (0..50)
            .rev()
            .map(|n| format!("h{n:02}").parse().unwrap())
            .collect();
        let mut overlay = Overlay::default();
        for (number, name) in names.iter().enumerate() {
            overlay.insert(name, number);
        }
        overlay.insert(&names[7], 100);
        assert!(overlay.sorted().is_sorted_by_key(|(host, _)| *host));
        assert_eq!(overlay.get(&names[7]), Some(&100));
        assert!(overlay.contains(&names[0]) && overlay.sorted().len() == 50);
        let values = overlay.into_sorted();
        assert!(values.is_sorted_by_key(|(host, _)| *host));
    }
}
