//! What can go wrong with packages, each with what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use comber_model::duration;
use thiserror::Error;

use crate::exec::ExecError;
use crate::preflight::PreflightError;

/// Why a step with packages failed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum PackageError {
    /// The host has neither.
    #[error("this host has neither dpkg nor rpm")]
    NoManager,
    /// A tool cannot be asked.
    #[error("cannot {what}")]
    Ask {
        what: &'static str,
        #[source]
        source: ExecError,
    },
    /// A tool answered that it cannot.
    #[error("cannot {what}: {answer}")]
    Answer { what: &'static str, answer: String },
    /// What the host says of its packages cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file of the release is no package, or not one that can be named safely.
    #[error("{file} in the release is not a package: {why}")]
    NotAPackage { file: String, why: String },
    /// Which of them to install?
    #[error("the release carries {package} twice, as {first} and {second}")]
    Twice {
        package: String,
        first: String,
        second: String,
    },
    /// The release says of the packages that it is one, and carries none.
    #[error("the release carries no packages; put *.deb or *.rpm below files/")]
    Empty,
    /// Not Comber's doing: it must not build on that.
    #[error(
        "the host's packages are not consistent ({found}); repair that first, for example with dpkg --configure -a"
    )]
    Inconsistent { found: String },
    /// An administrator said no.
    #[error("held on this host: {packages}; release the hold, or exempt the host")]
    Held { packages: String },
    /// Something else is needed.
    #[error(
        "the host cannot take these packages: {missing}; carry what is missing in the release, or allow dependencies = \"host\""
    )]
    Unsatisfied { missing: String },
    /// More would go than the release speaks of.
    #[error(
        "installing this would remove {packages}, which no package of the release replaces; carry packages that fit beside them"
    )]
    Removes { packages: String },
    /// Going back would be impossible.
    #[error(
        "{package} {version} could not be brought back: {why}; publish that version first, or declare the release irreversible"
    )]
    NoWayBack {
        package: String,
        version: String,
        why: String,
    },
    /// Somebody else is at work.
    #[error(
        "{} is held by {holder}, for longer than {}; wait until that has ended, or raise installer.lock_wait",
        lock.display(),
        duration::format(*waited)
    )]
    Locked {
        lock: PathBuf,
        holder: String,
        waited: Duration,
    },
    /// The manager ran and failed.
    #[error("the package manager failed")]
    Run(#[source] ExecError),
    /// It ran, and things are not as they shall be.
    #[error("after the package manager ran, {what}")]
    NotReached { what: String },
    /// The release's packages are not what is there.
    #[error("no longer as the release left it: {what}")]
    Drifted { what: String },
    /// The disk is too small.
    #[error(transparent)]
    Space(#[from] PreflightError),
    /// A record that was needed.
    #[error("the record of a change in {} cannot be used: {why}", path.display())]
    Record { path: PathBuf, why: String },
}
