//! Reboots the host and tells one boot from another.
//!
//! Runs one configured command and reads two small files. Invariant: a boot id that cannot be read is an error and is
//! never taken for a new boot.

use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_runtime::fsx::{self, FileError};
use thiserror::Error;

use crate::exec::{Exec, ExecError, Run};
use crate::surroundings::Variables;

/// Debian and its relatives say so here when an upgrade waits for a reboot.
const REBOOT_REQUIRED: &str = "/run/reboot-required";
/// `systemctl reboot` only hands over the request; inhibitors answer within its own timeout of 90 s.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(2);
/// A boot id is 36 characters long.
const BOOT_ID_MAX: u64 = 256;

/// How this host reboots.
#[derive(Debug, Clone)]
pub struct Reboot {
    /// Program and arguments.
    pub command: Vec<String>,
    /// A file whose content is another one after each boot.
    pub boot_id_file: PathBuf,
    /// Exists where the host asks for a reboot.
    pub required_file: PathBuf,
}

/// A boot id that cannot be had.
#[derive(Debug, Error)]
pub enum BootIdError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is nothing in it.
    #[error("{} does not hold a boot id", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Reboot {
    /// With that command and file, and Debian's mark.
    pub fn new(command: Vec<String>, boot_id_file: PathBuf) -> Self {
        Self {
            command,
            boot_id_file,
            required_file: REBOOT_REQUIRED.into(),
        }
    }

    /// The boot that the host runs in.
    pub fn boot_id(&self) -> Result<String, BootIdError> {
        let bytes = fsx::read_limited(&self.boot_id_file, BOOT_ID_MAX)?;
        let text = String::from_utf8_lossy(&bytes);
        let id = text.trim();
        if id.is_empty() || id.contains(char::is_control) {
            return Err(BootIdError::Empty {
                path: self.boot_id_file.clone(),
            });
        }
        Ok(id.to_owned())
    }

    /// Whether the host itself asks for a reboot.
    pub fn is_required(&self) -> bool {
        self.required_file.exists()
    }

    /// Asks for the reboot. `Ok` means that it was accepted: the agent is about to be stopped.
    pub async fn ask(&self, exec: &Exec) -> Result<(), ExecError> {
        let run = Run {
            command: &self.command,
            dir: Path::new("/"),
            variables: &Variables::new(),
            timeout: COMMAND_TIMEOUT,
        };
        exec.run(&run).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn reboot(dir: &Path, command: &[&str]) -> Reboot {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let mut reboot = Reboot::new(command, dir.join("boot_id"));
        reboot.required_file = dir.join("required");
        reboot
    }

    #[test]
    fn a_missing_or_empty_boot_id_is_no_new_boot() {
        let dir = tempfile::tempdir().unwrap();
        let reboot = reboot(dir.path(), &["true"]);
        assert!(matches!(reboot.boot_id(), Err(BootIdError::File(_))));
        fs::write(&reboot.boot_id_file, " \n").unwrap();
        assert!(matches!(reboot.boot_id(), Err(BootIdError::Empty { .. })));
        fs::write(&reboot.boot_id_file, "56e6-8a2a\n").unwrap();
        assert_eq!(reboot.boot_id().unwrap(), "56e6-8a2a");
    }

    #[test]
    fn the_kernel_has_a_boot_id() {
        let reboot = Reboot::new(Vec::new(), "/proc/sys/kernel/random/boot_id".into());
        assert_eq!(reboot.boot_id().unwrap().len(), 36);
    }

    #[tokio::test]
    async fn a_refused_reboot_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let exec = Exec::new(dir.path());
        let script = "echo 'blocked by backup'; exit 1";
        let error = reboot(dir.path(), &["sh", "-c", script])
            .ask(&exec)
            .await
            .unwrap_err();
        assert!(error.to_string().ends_with("blocked by backup"), "{error}");
        let mark = dir.path().join("asked");
        let mark = mark.to_str().unwrap();
        reboot(dir.path(), &["touch", mark])
            .ask(&exec)
            .await
            .unwrap();
        assert!(Path::new(mark).exists());
    }

    #[test]
    fn the_host_may_ask_for_a_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let reboot = reboot(dir.path(), &["true"]);
        assert!(!reboot.is_required());
        fs::write(&reboot.required_file, "").unwrap();
        assert!(reboot.is_required());
    }
}
