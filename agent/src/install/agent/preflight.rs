//! Whether this host can replace its agent by a staged one, and get the old one back.
//!
//! Runs the new program once for its version, and asks the package's program whether it can watch. Changes nothing but that
//! it forgets an update that is long over. Invariant: what passes here can be launched on this host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_model::ReleaseId;
use thiserror::Error;

use crate::exec::{ExecError, Run};
use crate::install::{Fit, Shelf};
use crate::surroundings::Variables;
use crate::update::{FORM, Itself, Phase, ServiceKind, UpdateError, WATCH_UNIT, is_newer};

/// To print one line. Generous, since nothing is lost by waiting before anything is changed.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often and how long apart it is looked whether the last update is closed; ten seconds in all.
const CLOSING_TRIES: u32 = 20;
const CLOSING_PAUSE: Duration = Duration::from_millis(500);

/// Why the agent cannot be replaced now.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NotUpdatable {
    #[error("the agent is being updated to {release} already")]
    InProgress { release: ReleaseId },
    #[error(transparent)]
    Files(#[from] UpdateError),
    #[error(
        "{} cannot launch and watch the new agent: it is no comber-agent as a package installs it; install Comber's \
         package and start the agent from it", path.display()
    )]
    Launcher {
        path: PathBuf,
        #[source]
        source: ExecError,
    },
    #[error(
        "{} watches updates of form {told:?} and this one has form {FORM}; upgrade Comber's package first", path.display()
    )]
    OldLauncher { path: PathBuf, told: String },
    #[error("systemd does not know {WATCH_UNIT} ({told}); install Comber's package")]
    NoUnit { told: String },
    #[error("systemd cannot be asked for {WATCH_UNIT}")]
    Systemd(#[source] ExecError),
    #[error(
        "{} cannot be executed here; is it built for the architecture of this host, and executable?", path.display()
    )]
    Program {
        path: PathBuf,
        #[source]
        source: ExecError,
    },
    #[error("{} says that it is version {told:?}, the release says {wanted}", path.display())]
    Version {
        path: PathBuf,
        told: String,
        wanted: String,
    },
}

/// Looks at everything, `program` being the staged agent.
pub(super) async fn look(shelf: &Shelf, program: &Path) -> Result<Fit, NotUpdatable> {
    let itself = &shelf.site.itself;
    last_is_over(itself).await?;
    let launcher = itself.launcher();
    watches(shelf, launcher).await?;
    if let ServiceKind::Systemd { .. } = itself.service {
        has_unit(shelf).await?;
    }
    let wanted = shelf.record.manifest.version.as_str();
    let told = ask(shelf, program, &["--version"])
        .await
        .map_err(|source| NotUpdatable::Program {
            path: program.to_owned(),
            source,
        })?;
    if version_in(&told) != wanted {
        return Err(NotUpdatable::Version {
            path: program.to_owned(),
            told,
            wanted: wanted.to_owned(),
        });
    }
    let packaged = ask_launcher(shelf, launcher, &["--version"]).await?;
    let packaged = version_in(&packaged);
    if !is_newer(wanted, packaged) {
        return Ok(Fit::NotApplicable(format!(
            "the package of this host has the agent {packaged}, which counts above {wanted}"
        )));
    }
    Ok(Fit::Fits)
}

/// The watcher of an update that was kept closes it a moment after the report: the next one waits for that.
async fn last_is_over(itself: &Itself) -> Result<(), NotUpdatable> {
    let mut tries = 0;
    loop {
        let Some(order) = itself.files.order()? else {
            return Ok(());
        };
        let release = order.release;
        match itself.files.progress() {
            Ok(progress) if matches!(progress.phase, Phase::Restored { .. }) => {
                if itself.clear_alone()? {
                    return Ok(());
                }
            }
            // It may be closed while this looks.
            Err(error) if tries >= CLOSING_TRIES => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        if tries >= CLOSING_TRIES {
            return Err(NotUpdatable::InProgress { release });
        }
        tries += 1;
        tokio::time::sleep(CLOSING_PAUSE).await;
    }
}

async fn watches(shelf: &Shelf, launcher: &Path) -> Result<(), NotUpdatable> {
    let told = ask_launcher(shelf, launcher, &["watch-update", "--form"]).await?;
    if told.trim().parse::<u32>().is_ok_and(|form| form >= FORM) {
        return Ok(());
    }
    Err(NotUpdatable::OldLauncher {
        path: launcher.to_owned(),
        told,
    })
}

async fn has_unit(shelf: &Shelf) -> Result<(), NotUpdatable> {
    let systemctl = Path::new("systemctl");
    let question = ["show", "--property", "LoadState", "--value", WATCH_UNIT];
    let told = ask(shelf, systemctl, &question).await;
    match told.map_err(NotUpdatable::Systemd)? {
        told if told.trim() == "loaded" => Ok(()),
        told => Err(NotUpdatable::NoUnit { told }),
    }
}

async fn ask_launcher(
    shelf: &Shelf,
    launcher: &Path,
    arguments: &[&str],
) -> Result<String, NotUpdatable> {
    let told = ask(shelf, launcher, arguments).await;
    told.map_err(|source| NotUpdatable::Launcher {
        path: launcher.to_owned(),
        source,
    })
}

async fn ask(shelf: &Shelf, program: &Path, arguments: &[&str]) -> Result<String, ExecError> {
    let mut command = vec![program.to_string_lossy().into_owned()];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let run = Run {
        command: &command,
        dir: Path::new("/"),
        variables: &Variables::new(),
        timeout: TIMEOUT,
    };
    shelf.site.exec.run(&run).await
}

/// `comber-agent 1.2.3` is how it introduces itself.
fn version_in(told: &str) -> &str {
    told.split_whitespace().last().unwrap_or_default()
}
