//! Whether the host asks for a reboot, and for what.
//!
//! Debian and its relatives leave files in `/run`; on RPM hosts `needs-restarting -r` is asked, where it is installed,
//! and again only when the database of packages changed: its answer follows from that and from the boot. Invariant: at
//! most [`NAMES_MAX`] reasons, sorted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_model::facts::NAMES_MAX;
use comber_runtime::fsx;

use super::clean;
use crate::packages::Stamp;
use crate::query::{Bounds, ask};

/// Debian and its relatives say so here when an upgrade waits for a reboot.
const REQUIRED: &str = "/run/reboot-required";
/// Some hundred names at most.
const FILE_MAX: u64 = 64 << 10;
/// It reads the whole database of packages, with dnf.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_mins(1),
    bytes: 64 << 10,
};
/// `needs-restarting -r` ends with it where a reboot is needed.
const NEEDED: i32 = 1;

/// What the host says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// True where it asks for a reboot.
    pub(super) required: bool,
    /// The packages that ask.
    pub(super) by: Vec<String>,
}

/// Looks at files and asks tools; remembers the tool's last answer.
#[derive(Debug)]
pub(super) struct Restart {
    file: PathBuf,
    last: Option<(Stamp, Asked)>,
}

impl Restart {
    pub(super) fn new() -> Self {
        Self {
            file: REQUIRED.into(),
            last: None,
        }
    }

    /// What the host says now.
    pub(super) async fn read(&mut self) -> Asked {
        let told = by_file(&self.file);
        if told.required {
            return told;
        }
        let stamp = Stamp::of_rpm(Path::new("/"));
        if stamp.is_empty() {
            return told;
        }
        match &self.last {
            Some((known, asked)) if *known == stamp => asked.clone(),
            Some(_) | None => {
                let asked = by_tool().await;
                self.last = Some((stamp, asked.clone()));
                asked
            }
        }
    }
}

fn by_file(file: &Path) -> Asked {
    if !file.exists() {
        return Asked::default();
    }
    let mut names = file.as_os_str().to_owned();
    names.push(".pkgs");
    let bytes = fsx::read_limited(Path::new(&names), FILE_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Asked {
        required: true,
        by: sorted(text.lines()),
    }
}

async fn by_tool() -> Asked {
    match ask(&["needs-restarting", "-r"], BOUNDS).await {
        Ok(answer) if answer.code == Some(NEEDED) => parse(&answer.text),
        Ok(_) => Asked::default(),
        Err(error) => {
            if !error.is_missing() {
                tracing::warn!(%error, "it is not known whether a reboot is needed");
            }
            Asked::default()
        }
    }
}

/// Status 1 alone could also be a failure: only with its words is it an answer.
fn parse(text: &str) -> Asked {
    let required = text
        .lines()
        .any(|line| line.trim_start().starts_with("Reboot is required"));
    let names = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("* "));
    Asked {
        required,
        by: if required { sorted(names) } else { Vec::new() },
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
        let file = dir.path().join("reboot-required");
        assert_eq!(by_file(&file), Asked::default());
        fs::write(&file, "*** System restart required ***\n").unwrap();
        assert_eq!(by_file(&file).by, Vec::<String>::new());
        let names = "linux-image-6.1.0-18-amd64\nlibc6\nlibc6\n\n";
        fs::write(dir.path().join("reboot-required.pkgs"), names).unwrap();
        let mut restart = Restart { file, last: None };
        let asked = restart.read().await;
        assert!(asked.required);
        assert_eq!(asked.by, ["libc6", "linux-image-6.1.0-18-amd64"]);
    }

    #[test]
    fn fedora_says_it_by_words() {
        let asked = parse(
            "Core libraries or services have been updated since boot-up:\n  * kernel\n  * glibc\n\n\
             Reboot is required to fully utilize these updates.\n",
        );
        assert!(asked.required);
        assert_eq!(asked.by, ["glibc", "kernel"]);
        let failed = parse("Error: no such file\n  * kernel\n");
        assert_eq!(failed, Asked::default());
        let none =
            "No core libraries or services have been updated.\nReboot should not be necessary.\n";
        assert_eq!(parse(none), Asked::default());
    }

    #[test]
    fn hostile_names_are_cut_and_cleaned() {
        let lines: Vec<String> = (0..500).map(|n| format!("  * p{n:03}\u{7}\n")).collect();
        let many = lines.concat();
        let asked = parse(&format!("{many}Reboot is required\n"));
        assert_eq!(asked.by.len(), NAMES_MAX);
        assert_eq!(asked.by[0], "p000");
    }
}
