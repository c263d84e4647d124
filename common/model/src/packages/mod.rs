//! Installed packages: one as a purl, all of a host as a list, and the few versions that selectors ask for.
//!
//! Pure. Invariant: equal lists have equal texts, so the sha256 of the text names the list.

mod list;
mod purl;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Digest;

pub use list::{Difference, LIST_BYTES_MAX, LIST_MAX, PackageList};
pub use purl::{PURL_MAX, Package, PackageKind, escaped_name, name_in};

/// Which list of packages of a host the controller holds durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSummary {
    /// sha256 of the list's text.
    pub digest: Digest,
    /// How many packages.
    pub count: u32,
}

/// What one host has of the packages that some selector asks for: their versions by name. Texts are shared between
/// hosts; a host of which nothing is asked costs three words, and each answer two texts' references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions(Vec<(Arc<str>, Arc<str>)>);

impl Versions {
    /// Sets what is installed under a name; `None` where nothing is. True where that is news.
    pub fn set(&mut self, name: Arc<str>, version: Option<Arc<str>>) -> bool {
        let found = self.0.binary_search_by(|(known, _)| known.cmp(&name));
        match (found, version) {
            (Ok(at), Some(version)) => {
                let differs = self.0[at].1 != version;
                self.0[at].1 = version;
                differs
            }
            (Ok(at), None) => {
                self.0.remove(at);
                true
            }
            (Err(at), Some(version)) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (name, version));
                true
            }
            (Err(_), None) => false,
        }
    }

    /// What is installed under a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| (**known).cmp(name));
        found.ok().map(|at| &*self.0[at].1)
    }

    /// Names with versions, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, version)| (&**name, &**version))
    }
}

/// The version that selectors see: where several are installed (two architectures, two kernels), all that differ, in
/// order, with a space between them. `None` where there is none.
pub fn told_version<'a>(versions: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut versions: Vec<&str> = versions.into_iter().collect();
    versions.sort_unstable();
    versions.dedup();
    (!versions.is_empty()).then(|| versions.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_kernels_are_told_in_order_and_one_version_once() {
        assert_eq!(told_version([]), None);
        assert_eq!(
            told_version(["6.1-9", "6.1-10", "6.1-9"]).unwrap(),
            "6.1-10 6.1-9"
        );
    }

    #[test]
    fn only_news_are_news() {
        let mut versions = Versions::default();
        assert!(!versions.set("bash".into(), None));
        assert!(versions.set("bash".into(), Some("5".into())));
        assert!(!versions.set("bash".into(), Some("5".into())));
        assert!(versions.set("bash".into(), Some("6".into())));
        assert!(versions.set("apt".into(), Some("2".into())));
        let told: Vec<_> = versions.iter().collect();
        assert_eq!(told, [("apt", "2"), ("bash", "6")]);
        assert!(versions.set("bash".into(), None));
        assert_eq!(versions.iter().count(), 1);
    }
}
