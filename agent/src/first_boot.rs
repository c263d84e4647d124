//! Enrolment on the first boot: a file that an image or a provisioning tool left becomes this host's identity.
//!
//! Reads `enroll.toml`, asks the controller until it answers, and removes the file, since it holds a token. What the
//! controller refuses for good ends the agent, so that the service is seen to have failed; everything else is tried
//! again. Invariant: the file is removed only once an identity is durable, and no token is written to a log.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use comber_model::HostId;
use comber_runtime::{
    backoff::Backoff,
    clock::Clock,
    config::{self, ConfigError, Section, Settings, Sources},
    environment,
    fsx::{self, FileError},
    shutdown::Shutdown,
    systemd::{self, Notifier},
    telemetry::error_chain,
    token::Token,
};
use http::Uri;
use thiserror::Error;
use tokio::time;

use crate::{
    config::{self as settings, AgentSettings},
    enrol::{EnrolError, EnrolRequest, enrol},
    identity,
};

/// What the file says.
#[derive(Debug)]
pub struct FirstBoot {
    /// Address of the controller; the setting of the same name where it is absent.
    pub controller: Option<Uri>,
    /// Made by `comber token create`; it names the controller's authority too.
    pub token: Token,
    /// What the host is to be called; the setting of the same name where it is absent.
    pub name: Option<HostId>,
    /// A file with the publisher's root; what the controller offers where it is absent.
    pub root: Option<PathBuf>,
}

/// Why the host is not enrolled and trying again would not help.
#[derive(Debug, Error)]
pub enum FirstBootError {
    /// One line for each mistake in the file.
    #[error("the file for enrolment is wrong; mend it and start the agent again\n{0}")]
    File(ConfigError),
    /// Neither the file nor a setting names the controller.
    #[error("no controller is set; write controller = \"https://host:port\" beside the token")]
    NoController,
    /// The publisher's root that the file names.
    #[error("the publisher's root cannot be read")]
    Root(#[from] FileError),
    /// The controller refuses, or what came cannot be used.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
}

/// How the time before the link ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// There is an identity, or nothing to make one from: the agent goes on and says which.
    GoOn,
    /// The process was told to end.
    Told,
}

impl Settings for FirstBoot {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let controller = settings::controller(section);
        let token: Option<String> = section.required("token");
        let token = token.and_then(|text| match text.parse::<Token>() {
            Ok(token) => Some(token),
            Err(error) => {
                section.refuse("token", &error.to_string());
                None
            }
        });
        let name: Option<String> = section.optional("name");
        let name = name.and_then(|text| match settings::host_id(&text) {
            Ok(name) => Some(name),
            Err(problem) => {
                section.refuse("name", &problem);
                None
            }
        });
        let root = section.optional("root");
        Some(Self {
            controller,
            token: token?,
            name,
            root,
        })
    }
}

/// Enrols by `file`, where it exists and the host has no identity that can be used.
///
/// The service manager is told that the start is complete: a controller that is away must not hold up the boot.
pub async fn first_boot(
    file: &Path,
    settings: &AgentSettings,
    clock: &Clock,
    notifier: &Notifier,
    shutdown: &Shutdown,
) -> Result<Ended, FirstBootError> {
    if !file.exists() {
        return Ok(Ended::GoOn);
    }
    warn_of_readers(file);
    if is_enrolled(settings) {
        tracing::info!(file = %file.display(), "this host is enrolled already; the file for enrolment is not needed");
        remove(file);
        return Ok(Ended::GoOn);
    }
    notifier.ready();
    // All arms are cancel-safe: a try that is given up leaves nothing behind on this host.
    tokio::select! {
        _ = shutdown.wait() => Ok(Ended::Told),
        () = systemd::keep_alive(notifier, environment::watchdog()) => Ok(Ended::Told),
        tried = until_enrolled(file, settings, clock, notifier) => {
            tried?;
            remove(file);
            Ok(Ended::GoOn)
        }
    }
}

/// Tries until the host has an identity, also one that somebody makes by hand meanwhile.
async fn until_enrolled(
    file: &Path,
    settings: &AgentSettings,
    clock: &Clock,
    notifier: &Notifier,
) -> Result<(), FirstBootError> {
    let link = &settings.link;
    let mut backoff = Backoff::new(link.backoff_min, link.backoff_max);
    while !is_enrolled(settings) {
        // Read anew each time: an administrator may mend it meanwhile.
        let Some(error) = try_once(file, settings, clock).await? else {
            return Ok(());
        };
        let delay = backoff.next_random();
        tell(notifier, &error, delay);
        time::sleep(delay).await;
    }
    Ok(())
}

/// One try; what it failed by where another may succeed.
async fn try_once(
    file: &Path,
    settings: &AgentSettings,
    clock: &Clock,
) -> Result<Option<EnrolError>, FirstBootError> {
    let sources = Sources::default().with_file(file);
    let given: FirstBoot = config::load(&sources)
        .map_err(FirstBootError::File)?
        .settings;
    let controller = given.controller.as_ref().or(settings.controller.as_ref());
    let controller = controller.ok_or(FirstBootError::NoController)?;
    let name = given.name.as_ref().unwrap_or(&settings.name);
    let root = given.root.as_deref().map(read_root).transpose()?;
    let request = EnrolRequest {
        controller,
        token: &given.token,
        name,
        state_dir: &settings.state_dir,
        channel: settings.link.channel(),
        root: root.as_deref(),
    };
    match enrol(&request, clock).await {
        Ok(_) => {
            tracing::info!(host = %name, %controller, "this host is enrolled");
            Ok(None)
        }
        Err(error) if error.is_retryable() => Ok(Some(error)),
        Err(error) => Err(error.into()),
    }
}

/// Longer ones are no roots.
const ROOT_MAX: u64 = 256 << 10;

/// A publisher's root as an administrator left it.
pub(crate) fn read_root(file: &Path) -> Result<String, FileError> {
    let bytes = fsx::read_limited(file, ROOT_MAX)?;
    // What is no text is no root either, and is refused as one.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tell(notifier: &Notifier, error: &EnrolError, delay: Duration) {
    let error = error_chain(error);
    notifier.status(&format!("not enrolled yet: {error}"));
    tracing::warn!(
        error,
        ?delay,
        "this host is not enrolled yet, it will be tried again"
    );
}

/// A damaged identity is none: the file is there to get another.
fn is_enrolled(settings: &AgentSettings) -> bool {
    identity::load(&settings.state_dir).is_ok()
}

/// The agent works without it being gone, so a read-only `/etc` must not stop it.
fn remove(file: &Path) {
    if let Err(error) = fsx::remove_durable(file) {
        let error = error_chain(&error);
        tracing::error!(
            error,
            "the token of this host's enrolment stays on its disk; remove the file"
        );
    }
}

fn warn_of_readers(file: &Path) {
    let readable = fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    if readable {
        tracing::warn!(file = %file.display(), "others than root may read this token; make the file with mode 0600");
    }
}

#[cfg(test)]
mod tests;
