//! All packages of a host: sorted purls, one a line, in one piece of text.
//!
//! Pure. Invariant: lines are valid purls, strictly ascending, each ended by a newline, within [`LIST_MAX`] and
//! [`LIST_BYTES_MAX`].

use std::collections::BTreeSet;

use super::Package;
use crate::Invalid;

/// Most packages of one host. A Debian desktop with everything has about 6000.
pub const LIST_MAX: usize = 20_000;
/// Most bytes of a list as text: its record must fit one transaction of the controller's store.
pub const LIST_BYTES_MAX: usize = 900 << 10;

/// The packages of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageList {
    text: String,
    count: usize,
}

/// What makes one list of another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Purls that go.
    pub removed: Vec<String>,
    /// Purls that come.
    pub added: Vec<String>,
}

impl PackageList {
    /// Of packages in any order.
    pub fn new(packages: impl IntoIterator<Item = Package>) -> Result<Self, Invalid> {
        let mut purls = BTreeSet::new();
        for package in packages {
            package.check()?;
            purls.insert(package.to_string());
        }
        Self::of(purls.iter().map(String::as_str))
    }

    /// Reads what [`PackageList::as_text`] gave.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(Invalid::new("packages", "end in the middle of a line"));
        }
        let mut last = "";
        for line in text.lines() {
            if line <= last {
                return Err(Invalid::new("packages", "are not in order"));
            }
            line.parse::<Package>()?;
            last = line;
        }
        Self::of(text.lines())
    }

    /// Of valid purls in order.
    fn of<'a>(purls: impl Iterator<Item = &'a str>) -> Result<Self, Invalid> {
        let mut list = Self::default();
        for purl in purls {
            list.text.push_str(purl);
            list.text.push('\n');
            list.count += 1;
            if list.count > LIST_MAX || list.text.len() > LIST_BYTES_MAX {
                let problem =
                    format!("are more than {LIST_MAX}, or more than {LIST_BYTES_MAX} bytes");
                return Err(Invalid::new("packages", problem));
            }
        }
        list.text.shrink_to_fit();
        Ok(list)
    }

    /// The text whose sha256 names the list.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// How many packages.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The purls in order.
    pub fn purls(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// What makes this list of `base`.
    pub fn difference(&self, base: &Self) -> Difference {
        let old: BTreeSet<&str> = base.purls().collect();
        let new: BTreeSet<&str> = self.purls().collect();
        let owned = |purl: &&str| (*purl).to_owned();
        Difference {
            removed: old.difference(&new).map(owned).collect(),
            added: new.difference(&old).map(owned).collect(),
        }
    }

    /// The list that a difference makes of this one. Refused whole where it takes away what is not there, adds what is,
    /// or names no package.
    pub fn apply(&self, difference: &Difference) -> Result<Self, Invalid> {
        let mut purls: BTreeSet<&str> = self.purls().collect();
        for purl in &difference.removed {
            if !purls.remove(purl.as_str()) {
                return Err(Invalid::new("removed", "names a package that is not there"));
            }
        }
        for purl in &difference.added {
            purl.parse::<Package>()
                .map_err(|error| error.within("added"))?;
            if !purls.insert(purl) {
                return Err(Invalid::new("added", "names a package that is there"));
            }
        }
        Self::of(purls.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(purls: &[&str]) -> PackageList {
        PackageList::new(purls.iter().map(|purl| purl.parse().unwrap())).unwrap()
    }

    const BASH: &str = "pkg:deb/debian/bash@5.2-1?arch=amd64";
    const OLD: &str = "pkg:deb/debian/openssl@3.0.11-1?arch=amd64";
    const NEW: &str = "pkg:deb/debian/openssl@3.0.15-1?arch=amd64";

    #[test]
    fn a_difference_leads_from_one_list_to_the_other() {
        let (old, new) = (list(&[OLD, BASH]), list(&[NEW, BASH]));
        let difference = new.difference(&old);
        assert_eq!(
            (&*difference.removed, &*difference.added),
            (&[OLD.to_owned()][..], &[NEW.to_owned()][..])
        );
        assert_eq!(old.apply(&difference).unwrap(), new);
        assert_eq!(
            old.apply(&old.difference(&PackageList::default()))
                .unwrap_err()
                .field,
            "added"
        );
        assert_eq!(new.apply(&difference).unwrap_err().field, "removed");
    }

    #[test]
    fn the_text_reads_back_and_damaged_text_does_not() {
        let both = list(&[NEW, BASH, BASH]);
        assert_eq!(both.count(), 2);
        assert_eq!(PackageList::parse(both.as_text()).unwrap(), both);
        assert_eq!(PackageList::parse("").unwrap(), PackageList::default());
        for text in [
            format!("{NEW}\n{BASH}\n"),
            format!("{BASH}\n{BASH}\n"),
            BASH.to_owned(),
            format!("{BASH}\nrubbish\n"),
            "\n".to_owned(),
        ] {
            assert!(PackageList::parse(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_list_has_bounds() {
        let purls = (0..=LIST_MAX).map(|n| format!("pkg:deb/d/p{n:05}@1"));
        let packages = purls.map(|purl| purl.parse().unwrap());
        assert!(PackageList::new(packages).is_err());
    }
}
