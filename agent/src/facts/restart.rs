//! Whether the host asks for a reboot, and for what, as facts.
//!
//! What the host says is asked for in [`crate::reboot::need`]; on RPM hosts again only when the database of packages changed:
//! the answer follows from that and from the boot. Invariant: at most [`NAMES_MAX`] reasons, sorted.

use std::path::Path;

use comber_model::facts::NAMES_MAX;

use super::clean;
use crate::exec::Exec;
use crate::packages::Stamp;
use crate::reboot::{Need, Restarting};

/// What the host says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// True where it asks for a reboot.
    pub(super) required: bool,
    /// The packages that ask.
    pub(super) by: Vec<String>,
}

/// Asks the host; remembers its tool's last answer.
#[derive(Debug)]
pub(super) struct Restart {
    need: Need,
    exec: Exec,
    last: Option<(Stamp, Asked)>,
}

impl Restart {
    pub(super) fn new(need: Need, exec: Exec) -> Self {
        Self {
            need,
            exec,
            last: None,
        }
    }

    /// What the host says now.
    pub(super) async fn read(&mut self) -> Asked {
        if let Some(names) = self.need.asked_by_file() {
            return Asked {
                required: true,
                by: sorted(names.lines()),
            };
        }
        let stamp = Stamp::of_rpm(Path::new("/"));
        if stamp.is_empty() {
            return Asked::default();
        }
        match &self.last {
            Some((known, asked)) if *known == stamp => asked.clone(),
            Some(_) | None => {
                let asked = Asked::from(&self.need.restarting(&self.exec).await);
                self.last = Some((stamp, asked.clone()));
                asked
            }
        }
    }
}

impl From<&Restarting> for Asked {
    /// Bias: what cannot be told is no fact.
    fn from(said: &Restarting) -> Self {
        Self {
            required: matches!(said, Restarting::Needed(_)),
            by: sorted(said.names()),
        }
    }
}

fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = names.map(clean).filter(|name| !name.is_empty()).collect();
    names.sort();
    names.dedup();
    names.truncate(NAMES_MAX);
    names
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn debian_says_it_by_files() {
        let dir = tempfile::tempdir().unwrap();
        let need = Need {
            required_file: dir.path().join("reboot-required"),
            ..Need::default()
        };
        fs::write(&need.required_file, "*** System restart required ***\n").unwrap();
        let mut restart = Restart::new(need, Exec::new(dir.path()));
        assert_eq!(restart.read().await.by, Vec::<String>::new());
        let names = "linux-image-6.1.0-18-amd64\nlibc6\nlibc6\n\n";
        fs::write(dir.path().join("reboot-required.pkgs"), names).unwrap();
        let asked = restart.read().await;
        assert!(asked.required);
        assert_eq!(asked.by, ["libc6", "linux-image-6.1.0-18-amd64"]);
    }

    #[test]
    fn fedora_says_it_by_words() {
        let text = "Core libraries or services have been updated since boot-up:\n  * kernel\n  * glibc\n\n\
             Reboot is required to fully utilize these updates.\n";
        let asked = Asked::from(&Restarting::Needed(text.to_owned()));
        assert!(asked.required);
        assert_eq!(asked.by, ["glibc", "kernel"]);
        for none in [Restarting::NotNeeded, Restarting::Untold("x".to_owned())] {
            assert_eq!(Asked::from(&none), Asked::default());
        }
    }

    #[test]
    fn hostile_names_are_cut_and_cleaned() {
        let lines: Vec<String> = (0..500).map(|n| format!("  * p{n:03}\u{7}\n")).collect();
        let asked = Asked::from(&Restarting::Needed(lines.concat()));
        assert_eq!(asked.by.len(), NAMES_MAX);
        assert_eq!(asked.by[0], "p000");
    }
}
