//! Whether the host itself says that it needs a reboot, for what, and whether that is news.
//!
//! Looks at `/run/reboot-required` and asks `needs-restarting -r`, where they are; nobody else does. A host that needed a reboot before a
//! release came would otherwise reboot with every release. Bias: what cannot be told counts as a need, since a release
//! with `reboot = "auto"` asked for the host's word. Invariant: a mark taken twice without a change is the same mark.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_runtime::fsx;
use comber_runtime::telemetry::error_chain;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::exec::{Exec, Printed, Run};
use crate::surroundings::Variables;

/// Debian and its relatives say so here when an upgrade waits for a reboot.
const REQUIRED_FILE: &str = "/run/reboot-required";
/// It asks the package database; dnf may have to read its metadata.
const TIMEOUT: Duration = Duration::from_mins(1);
/// It names the packages that were changed since the boot.
const ANSWER_MAX: u64 = 256 << 10;
/// Beside the file are the names of packages, some hundred at most.
const FILE_MAX: u64 = 64 << 10;
/// The words with which it says so. Status 1 alone could also be a failure.
const WORDS: &str = "Reboot is required";
/// `needs-restarting -r` ends with it where a reboot is needed.
const NEEDED: i32 = 1;

/// How the host says that it needs a reboot.
#[derive(Debug, Clone)]
pub struct Need {
    /// Exists where the host asks for a reboot.
    pub required_file: PathBuf,
    /// True where any need counts; false where only one that is new since the activation does.
    pub any: bool,
    /// Environment of `needs-restarting`, of which `PATH` says where it is.
    pub variables: Variables,
}

/// What the host said at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The file's identity and times; absent where it is not there.
    pub file: Option<String>,
    /// Digest of what `needs-restarting` said; absent where it needs none or is not there.
    pub restarting: Option<String>,
}

/// What `needs-restarting` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restarting {
    /// No need, or the host does not have the tool.
    NotNeeded,
    /// A reboot is needed, in its own words.
    Needed(String),
    /// It could not tell; why.
    Untold(String),
}

impl Restarting {
    /// The packages that it names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let text = match self {
            Self::Needed(text) => text.as_str(),
            Self::NotNeeded | Self::Untold(_) => "",
        };
        text.lines()
            .filter_map(|line| line.trim_start().strip_prefix("* "))
    }

    fn of(printed: &Printed) -> Self {
        let is_said = |line: &str| line.trim_start().starts_with(WORDS);
        match printed.status.code() {
            Some(0) => Self::NotNeeded,
            Some(NEEDED) if printed.out.lines().any(is_said) => Self::Needed(printed.out.clone()),
            _ => Self::Untold(format!("it ended with {}", printed.status)),
        }
    }
}

impl Default for Need {
    fn default() -> Self {
        Self {
            required_file: REQUIRED_FILE.into(),
            any: false,
            variables: Variables::new(),
        }
    }
}

impl Need {
    /// What the host says now.
    pub async fn mark(&self, exec: &Exec) -> Mark {
        Mark {
            file: self.file(),
            restarting: match self.restarting(exec).await {
                Restarting::NotNeeded => None,
                Restarting::Needed(text) => Some(digest(&text)),
                Restarting::Untold(_) => Some("not told".to_owned()),
            },
        }
    }

    /// Whether the host asks for a reboot, given what it said before the activation.
    pub fn is_needed(&self, before: Option<&Mark>, now: &Mark) -> bool {
        let none = Mark::default();
        let before = before.filter(|_| !self.any).unwrap_or(&none);
        let news = |before: &Option<String>, now: &Option<String>| now.is_some() && now != before;
        news(&before.file, &now.file) || news(&before.restarting, &now.restarting)
    }

    /// Each package that wants a reboot writes the file anew, so its times tell a new wish from an old one.
    fn file(&self) -> Option<String> {
        match std::fs::symlink_metadata(&self.required_file) {
            Ok(found) => Some(format!(
                "{}:{}:{}.{:09}",
                found.ino(),
                found.len(),
                found.mtime(),
                found.mtime_nsec()
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => Some(format!("unreadable: {error}")),
        }
    }

    /// The packages that ask for a reboot by the file, where it is there; one line each, as they wrote it.
    pub fn asked_by_file(&self) -> Option<String> {
        if !self.required_file.exists() {
            return None;
        }
        let mut names = self.required_file.as_os_str().to_owned();
        names.push(".pkgs");
        let bytes = fsx::read_limited(Path::new(&names), FILE_MAX).unwrap_or_default();
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What `needs-restarting` says now.
    pub async fn restarting(&self, exec: &Exec) -> Restarting {
        let command = ["needs-restarting", "-r"].map(str::to_owned);
        let run = Run {
            command: &command,
            dir: Path::new("/"),
            variables: &self.variables,
            timeout: TIMEOUT,
        };
        let said = match exec.read(&run, ANSWER_MAX).await {
            Ok(printed) => Restarting::of(&printed),
            Err(error) if error.is_missing() => Restarting::NotNeeded,
            Err(error) => Restarting::Untold(error_chain(&error)),
        };
        if let Restarting::Untold(problem) = &said {
            tracing::warn!(
                problem,
                "needs-restarting does not say whether a reboot is needed"
            );
        }
        said
    }
}

fn digest(text: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    comber_model::Digest(digest).to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Host {
        dir: tempfile::TempDir,
        need: Need,
        exec: Exec,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().display().to_string();
            let need = Need {
                required_file: dir.path().join("reboot-required"),
                any: false,
                variables: Variables::from([("PATH".to_owned(), format!("{path}:/usr/bin:/bin"))]),
            };
            let exec = Exec::new(dir.path());
            Self { dir, need, exec }
        }

        fn restarting(&self, body: &str) {
            let path = self.dir.path().join("needs-restarting");
            fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        async fn mark(&self) -> Mark {
            self.need.mark(&self.exec).await
        }

        async fn needs(&self, before: &Mark) -> bool {
            self.need.is_needed(Some(before), &self.mark().await)
        }
    }

    #[tokio::test]
    async fn only_a_wish_that_is_new_counts_unless_any_does() {
        let mut host = Host::new();
        let before = host.mark().await;
        assert!(!host.needs(&before).await);
        fs::write(
            &host.need.required_file,
            "*** System restart required ***\n",
        )
        .unwrap();
        assert!(host.needs(&before).await);
        let old = host.mark().await;
        assert!(!host.needs(&old).await);
        assert!(host.need.is_needed(None, &old), "nothing was noted before");
        let file = fs::File::options()
            .write(true)
            .open(&host.need.required_file)
            .unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        assert!(host.needs(&old).await, "another package wants one, too");
        host.need.any = true;
        let now = host.mark().await;
        assert!(host.need.is_needed(Some(&now), &now));
    }

    #[tokio::test]
    async fn needs_restarting_is_asked_where_it_is() {
        let host = Host::new();
        let before = host.mark().await;
        host.restarting("echo No core libraries; exit 0");
        assert!(!host.needs(&before).await);
        host.restarting("echo '  * glibc'; echo Reboot is required; exit 1");
        assert!(host.needs(&before).await);
        let glibc = host.mark().await;
        assert!(!host.needs(&glibc).await);
        host.restarting("echo '  * glibc'; echo '  * kernel'; echo Reboot is required; exit 1");
        assert!(host.needs(&glibc).await);
        let said = host.need.restarting(&host.exec).await;
        assert_eq!(said.names().collect::<Vec<_>>(), ["glibc", "kernel"]);
    }

    #[tokio::test]
    async fn one_that_does_not_say_counts_as_a_need() {
        let host = Host::new();
        let before = host.mark().await;
        host.restarting("echo 'Error: Failed to load plugin' >&2; exit 2");
        assert!(host.needs(&before).await);
        // Nor is the status alone an answer.
        host.restarting("echo '  * glibc'; exit 1");
        let said = host.need.restarting(&host.exec).await;
        assert!(matches!(said, Restarting::Untold(_)), "{said:?}");
        assert_eq!(said.names().count(), 0);
    }
}
