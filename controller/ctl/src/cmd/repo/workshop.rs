//! The publisher's repository on this machine: where it is, how long its roles live, and the keys at hand.
//!
//! ```text
//!   <dir>/repository.toml   the lives of its roles, and whether it is for development
//!   <dir>/keys/*.key        keys that are used where no other is named
//!   <dir>/metadata targets staged   see comber-trust
//! ```
//!
//! Invariant: one command at a time works on it, and a passphrase comes from a file, the environment or a prompt, never
//! from an argument.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use comber_runtime::{environment, fsx};
use comber_trust::publisher::{Lives, Progress, PublishError, Publisher};
use comber_trust::{KeyError, Signer as _, SigningKey, dev, key_id, peek};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::error::{CliError, Outcome, failed};
use crate::exit::Exit;
use crate::session::Session;

const SETTINGS: &str = "repository.toml";
const SETTINGS_MAX: u64 = 64 << 10;
const LOCK: &str = "lock";
/// A passphrase is one line.
const PASSPHRASE_MAX: u64 = 4096;

/// Which repository.
#[derive(Debug, Clone, Args)]
pub(crate) struct RepoArg {
    /// Directory of the repository [default: repository in the directory of contexts]
    #[arg(long, value_name = "DIR", env = "COMBER_REPO", hide_env_values = true)]
    pub(crate) repo: Option<PathBuf>,
}

/// Which keys.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyArgs {
    /// A key to sign with; may be repeated [default: every key in the repository's keys/]
    #[arg(long = "key", value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) secret: SecretArg,
}

/// Where the passphrase of a key comes from.
#[derive(Debug, Clone, Args)]
pub(crate) struct SecretArg {
    #[arg(
        long,
        value_name = "FILE",
        help = "File whose first line is the passphrase; - for standard input [default: $COMBER_PASSPHRASE, or a prompt]"
    )]
    passphrase_file: Option<PathBuf>,
}

/// What the repository says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    version: u32,
    /// One key without a passphrase signs everything.
    pub(crate) development: bool,
    /// How long each role lives, from when it is signed.
    pub(crate) lives: LifeTable,
}

/// How long each role lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LifeTable {
    #[serde(with = "comber_model::duration")]
    pub(crate) root: Duration,
    #[serde(with = "comber_model::duration")]
    pub(crate) targets: Duration,
    #[serde(with = "comber_model::duration")]
    pub(crate) snapshot: Duration,
    #[serde(with = "comber_model::duration")]
    pub(crate) timestamp: Duration,
}

/// The repository, for one command.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) dir: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) publisher: Publisher,
    /// Held until the command is done.
    _lock: File,
}

impl Settings {
    pub(crate) fn new(development: bool, lives: Lives) -> Self {
        let time = |life: SignedDuration| Duration::try_from(life).unwrap_or_default();
        Self {
            version: 1,
            development,
            lives: LifeTable {
                root: time(lives.root),
                targets: time(lives.targets),
                snapshot: time(lives.snapshot),
                timestamp: time(lives.timestamp),
            },
        }
    }

    pub(crate) fn save(&self, dir: &Path) -> Outcome<()> {
        let cannot = failed("cannot write repository.toml");
        let text = toml::to_string_pretty(self).map_err(|error| cannot(&error))?;
        fsx::write_atomic(&dir.join(SETTINGS), text.as_bytes(), 0o644)
            .map_err(|error| failed("cannot write repository.toml")(&error))
    }

    fn load(dir: &Path) -> Outcome<Self> {
        let path = dir.join(SETTINGS);
        let wrong = || CliError::configuration(format!("{} is not usable", path.display()));
        let bytes = match fsx::read_limited(&path, SETTINGS_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(missing(dir));
            }
            Err(error) => return Err(wrong().caused_by(&error)),
        };
        let text = String::from_utf8_lossy(&bytes);
        let read: Self = toml::from_str(&text)
            .map_err(|error| wrong().because(error.to_string().trim_end().to_owned()))?;
        if read.version == 1 {
            return Ok(read);
        }
        Err(wrong().because(format!(
            "its version is {}, this command knows 1",
            read.version
        )))
    }

    pub(crate) fn lives(&self) -> Lives {
        let time = |life: Duration| SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        Lives {
            root: time(self.lives.root),
            targets: time(self.lives.targets),
            snapshot: time(self.lives.snapshot),
            timestamp: time(self.lives.timestamp),
        }
    }
}

/// Where the repository is.
pub(crate) fn place(arg: &RepoArg, session: &Session) -> PathBuf {
    let default = || session.config.join("repository");
    arg.repo.clone().unwrap_or_else(default)
}

fn missing(dir: &Path) -> CliError {
    CliError::configuration(format!("there is no repository at {}", dir.display()))
        .hint("to try things out: comber repo init --dev")
        .hint("for a fleet that counts: comber help repo init")
}

impl Workshop {
    /// Opens the repository, and waits for another command on it to be done.
    pub(crate) fn open(arg: &RepoArg, session: &Session) -> Outcome<Self> {
        let dir = place(arg, session);
        let settings = Settings::load(&dir)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| failed("cannot lock the repository")(&error))?;
        let now = session.clock.wall();
        let publisher = Publisher::open(&dir, settings.lives(), now).map_err(|e| refused(&e))?;
        Ok(Self {
            dir,
            settings,
            publisher,
            _lock: lock,
        })
    }

    /// Signs what is prepared with the keys named, or with those at hand; says how far each role is.
    pub(crate) fn sign(&self, args: &KeyArgs, session: &Session) -> Outcome<Progress> {
        if !args.keys.is_empty() {
            for path in &args.keys {
                let key = load(path, &args.secret, session)?;
                self.publisher.sign(&[&key]).map_err(|e| refused(&e))?;
            }
            return self.publisher.progress().map_err(|e| refused(&e));
        }
        for path in self.keys_at_hand()? {
            let key = load(&path, &args.secret, session)?;
            match self.publisher.sign(&[&key]) {
                // It signs another role than what is prepared.
                Ok(_) | Err(PublishError::Useless(_)) => {}
                Err(error) => return Err(refused(&error)),
            }
        }
        self.publisher.progress().map_err(|e| refused(&e))
    }

    /// Signs and publishes everything that is prepared; nothing where nothing is.
    pub(crate) fn publish(&self, args: &KeyArgs, session: &Session) -> Outcome<Progress> {
        let prepared = self.publisher.progress().map_err(|e| refused(&e))?;
        if prepared.is_empty() {
            return Ok(Vec::new());
        }
        self.sign(args, session)?;
        self.publisher.finish().map_err(|error| {
            refused(&error).hint("what is prepared stays; sign it with the missing keys: comber repo sign --key FILE")
        })
    }

    /// The keys in `keys/` that may sign something here.
    fn keys_at_hand(&self) -> Outcome<Vec<PathBuf>> {
        let roles = self.publisher.roles().map_err(|e| refused(&e))?;
        let Ok(entries) = fs::read_dir(self.dir.join(dev::KEYS_DIR)) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|ending| ending != "key") {
                continue;
            }
            let (public, _) = peek(&path).map_err(|error| key_error(&error))?;
            let id = key_id(&public).map_err(|error| key_error(&error))?;
            let id = crate::render::hex(&id);
            if roles.iter().any(|role| role.keys.contains(&id)) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Reads a key, and asks for its passphrase where it has one.
pub(crate) fn load(path: &Path, secret: &SecretArg, session: &Session) -> Outcome<SigningKey> {
    let (_, sealed) = peek(path).map_err(|error| key_error(&error))?;
    let passphrase = if sealed {
        Some(secret.passphrase(&path.display().to_string(), false, session)?)
    } else {
        None
    };
    let key = SigningKey::load(path, passphrase.as_deref()).map_err(|error| key_error(&error))?;
    let _public = key.public();
    Ok(key)
}

impl SecretArg {
    /// The passphrase for `what`; asked for twice where it is `new`.
    pub(crate) fn passphrase(&self, what: &str, new: bool, session: &Session) -> Outcome<String> {
        if let Some(path) = &self.passphrase_file {
            return passphrase_of(path);
        }
        if let Some(passphrase) = environment::passphrase() {
            return Ok(passphrase);
        }
        if !session.screen.can_ask() {
            return Err(CliError::usage(format!("{what} needs a passphrase"))
                .hint("give --passphrase-file FILE, or set COMBER_PASSPHRASE"));
        }
        let first = session
            .screen
            .ask_secret(&format!("passphrase of {what}: "))?;
        if new && session.screen.ask_secret("once more: ")? != first {
            return Err(CliError::usage("the two passphrases are not the same"));
        }
        Ok(first)
    }
}

fn passphrase_of(path: &Path) -> Outcome<String> {
    let text = if path.as_os_str() == "-" {
        crate::toml_file::read(path)?.0
    } else {
        let bytes = fsx::read_limited(path, PASSPHRASE_MAX).map_err(|error| {
            CliError::configuration("cannot read the passphrase").caused_by(&error)
        })?;
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// A key that does not do.
pub(crate) fn key_error(error: &KeyError) -> CliError {
    CliError::configuration("the key cannot be used").caused_by(error)
}

/// A change of the repository that was not made.
pub(crate) fn refused(error: &PublishError) -> CliError {
    CliError::new(Exit::Refused, "the repository was not changed").caused_by(error)
}
