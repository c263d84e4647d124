//! What was done of a change, on the disk before each call: the memory of the `module` installer across crashes.
//!
//! One small file beside the tree of the change, `<state>/shelves/<product>/module/session.json`. Invariant: a call that
//! was begun is on the disk as begun before it runs, so after a crash it is never taken for one that was not.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_model::duration;
use comber_runtime::backoff::random_or;
use comber_runtime::fsx;
use serde::{Deserialize, Serialize};

use super::error::ModuleError;
use super::protocol::{Reboot, State};

/// The form that this code writes.
const FORMAT: u32 = 1;
/// Two paths, a word and some numbers.
const SIZE_MAX: u64 = 64 << 10;
/// Most states of one change, as the protocol bounds it: a module that asks for reboots on and on is given up.
const CALLS_MAX: u32 = 28;

/// One change, from its first call until its last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of the file, each of which may hold with any other"
)]
pub(super) struct Session {
    format: u32,
    /// Of this change alone: marks the processes of its calls.
    pub id: String,
    /// `name@version`, for messages.
    pub release: String,
    /// Whose change it is: the short name of the release's directory.
    pub slot: String,
    /// The payload type.
    pub module: String,
    /// The executable.
    pub program: PathBuf,
    /// Of each call.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Whether the release says that there is no way back: then nobody comes to undo it where its checks fail.
    pub irreversible: bool,
    /// What was begun last.
    pub state: State,
    /// Whether that has ended well.
    pub ended: bool,
    /// What the module said of going back, once it was asked.
    pub supports_rollback: bool,
    /// What it said of reboots, or the release.
    pub reboot: Reboot,
    /// Whether a reboot into the change was begun.
    pub reboot_begun: bool,
    /// How many states were begun.
    pub calls: u32,
    /// Why the host is neither what it was nor what it should be.
    pub lost: Option<String>,
}

impl Session {
    /// A change that has not begun.
    pub(super) fn new(release: String, slot: String, module: String, program: PathBuf) -> Self {
        Self {
            format: FORMAT,
            id: format!("{:016x}", random_or(0)),
            release,
            slot,
            module,
            program,
            timeout: Duration::ZERO,
            irreversible: false,
            state: State::Prepare,
            ended: false,
            supports_rollback: false,
            reboot: Reboot::No,
            reboot_begun: false,
            calls: 0,
            lost: None,
        }
    }

    /// What is remembered at that place.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, ModuleError> {
        let bytes = match fsx::read_limited(path, SIZE_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = |source| ModuleError::Damaged {
            path: path.to_owned(),
            source,
        };
        let session: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
        if session.format != FORMAT {
            let problem = format!("form {}, not {FORMAT}", session.format);
            return Err(damaged(serde::de::Error::custom(problem)));
        }
        Ok(Some(session))
    }

    /// Makes it durable.
    pub(super) fn save(&self, path: &Path) -> Result<(), ModuleError> {
        let json = serde_json::to_vec_pretty(self).map_err(|source| ModuleError::Damaged {
            path: path.to_owned(),
            source,
        })?;
        Ok(fsx::write_atomic(path, &json, 0o600)?)
    }

    /// Notes that a state begins.
    pub(super) fn begin(&mut self, state: State, path: &Path) -> Result<(), ModuleError> {
        if self.calls >= CALLS_MAX {
            return Err(ModuleError::Circle { calls: self.calls });
        }
        self.calls += 1;
        self.state = state;
        self.ended = false;
        self.save(path)
    }

    /// Notes that it has ended well.
    pub(super) fn end(&mut self, path: &Path) -> Result<(), ModuleError> {
        self.ended = true;
        self.save(path)
    }

    /// Whether that state was the last one and has ended well.
    pub(super) fn has(&self, state: State) -> bool {
        self.state == state && self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("testdata/session-1.json");

    fn session() -> Session {
        Session {
            id: "00112233aabbccdd".to_owned(),
            timeout: Duration::from_hours(4),
            supports_rollback: true,
            reboot: Reboot::Automatic,
            calls: 3,
            state: State::ArtifactInstall,
            lost: Some("why".to_owned()),
            ..Session::new(
                "web@1.0".to_owned(),
                "1.0-0123456789ab".to_owned(),
                "single-file".to_owned(),
                "/usr/share/mender/modules/v3/single-file".into(),
            )
        }
    }

    #[test]
    fn the_first_form_is_read_and_written_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.json");
        assert_eq!(Session::load(&path).unwrap(), None);
        session().save(&path).unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, GOLDEN.trim_end());
        assert_eq!(Session::load(&path).unwrap(), Some(session()));
    }

    #[test]
    fn what_cannot_be_understood_is_no_fresh_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.json");
        let other = GOLDEN.replace("\"format\": 1", "\"format\": 2");
        for damage in ["", "{", &GOLDEN[..GOLDEN.len() / 2], &other] {
            std::fs::write(&path, damage).unwrap();
            let error = Session::load(&path).unwrap_err();
            assert!(matches!(error, ModuleError::Damaged { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_change_that_goes_in_circles_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.json");
        let mut session = session();
        session.calls = 0;
        for _ in 0..CALLS_MAX {
            session.begin(State::ArtifactReboot, &path).unwrap();
        }
        let error = session.begin(State::Cleanup, &path).unwrap_err();
        assert!(
            matches!(error, ModuleError::Circle { calls: 28 }),
            "{error:?}"
        );
    }
}
