//! Starts the installed service once its host is enrolled, so that enrolling is all that an administrator does.
//!
//! Asks `systemctl`, and only where a service manager runs that has the package's unit. Invariant: an enrolment for
//! another state directory, in a chroot or by an ordinary user never touches the host's service.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::geteuid;
use thiserror::Error;

use crate::config::DEFAULT_STATE_DIR;

/// The package's unit.
pub const UNIT: &str = "comber-agent.service";
/// Exists exactly while systemd is the host's service manager; see `sd_booted(3)`.
const BOOTED: &str = "run/systemd/system";
/// Where packages and administrators put units.
const UNIT_DIRS: [&str; 3] = [
    "etc/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// The host's service manager.
#[derive(Debug)]
pub struct Service {
    root: PathBuf,
    systemctl: PathBuf,
}

/// The host is enrolled and its agent does not run.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// No such program.
    #[error(
        "this host is enrolled, but {program} cannot be run; start the agent with: systemctl enable --now {UNIT}",
        program = program.display()
    )]
    Run {
        /// `systemctl`.
        program: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It says why on the terminal itself.
    #[error(
        "this host is enrolled, but its agent does not start; see systemctl status {UNIT}, then: systemctl enable --now {UNIT}"
    )]
    Refused,
}

impl Service {
    /// The one of this host.
    pub fn system() -> Self {
        Self {
            root: "/".into(),
            systemctl: "systemctl".into(),
        }
    }

    /// Whether the agent with this state directory is the one that the package's unit runs, and may be started here.
    pub fn runs(&self, state_dir: &Path) -> bool {
        let has_unit = || {
            UNIT_DIRS
                .iter()
                .any(|dir| self.root.join(dir).join(UNIT).exists())
        };
        state_dir == Path::new(DEFAULT_STATE_DIR)
            && geteuid().is_root()
            && self.root.join(BOOTED).is_dir()
            && has_unit()
    }

    /// Starts it now and at each boot; one that runs already stays as it is.
    pub fn enable_now(&self) -> Result<(), ServiceError> {
        let asked = Command::new(&self.systemctl)
            .args(["--quiet", "enable", "--now", UNIT])
            .status();
        match asked {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(ServiceError::Refused),
            Err(source) => Err(ServiceError::Run {
                program: self.systemctl.clone(),
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn host(systemctl: &str) -> (tempfile::TempDir, Service) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("systemctl");
        fs::write(&program, format!("#!/bin/sh\n{systemctl}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let service = Service {
            root: dir.path().to_owned(),
            systemctl: program,
        };
        (dir, service)
    }

    #[test]
    fn only_the_installed_agent_of_a_booted_host_is_started() {
        let (dir, service) = host("true");
        let default = Path::new(DEFAULT_STATE_DIR);
        fs::create_dir_all(dir.path().join(BOOTED)).unwrap();
        assert!(!service.runs(default), "there is no unit");
        let units = dir.path().join(UNIT_DIRS[1]);
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join(UNIT), "").unwrap();
        assert_eq!(service.runs(default), geteuid().is_root());
        assert!(!service.runs(dir.path()), "another agent's state");
        fs::remove_dir(dir.path().join(BOOTED)).unwrap();
        assert!(!service.runs(default), "a chroot");
    }

    #[test]
    fn starting_enables_and_a_refusal_says_what_to_do() {
        let (dir, service) = host("echo \"$@\" >\"$(dirname \"$0\")/asked\"");
        service.enable_now().unwrap();
        let asked = fs::read_to_string(dir.path().join("asked")).unwrap();
        assert_eq!(asked.trim(), "--quiet enable --now comber-agent.service");
        let (_dir, service) = host("exit 1");
        let refused = service.enable_now().unwrap_err().to_string();
        assert!(
            refused.contains("systemctl enable --now comber-agent.service"),
            "{refused}"
        );
    }
}
