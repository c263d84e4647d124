//! `comber release add|withdraw|floor`: what the publisher lists. Prepares; `repo sign` and `repo finish` publish it.

use std::path::PathBuf;

use clap::Args;
use comber_bundle::Contents;
use comber_model::{ReleaseId, ReleaseName, Version};
use comber_trust::Signed;

use super::publish::{file_of, identify};
use crate::cmd::repo::prepared;
use crate::cmd::repo::workshop::{RepoArg, Workshop, refused};
use crate::error::{CliError, Outcome, failed};
use crate::session::Session;

/// What is signed of a release beside its bytes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SignedArgs {
    /// Place in the order of the product's releases [default: that of release.toml, or one above all that were listed]
    #[arg(long, value_name = "N")]
    counter: Option<u64>,
    /// Lowest version of the agent that can install it
    #[arg(long, value_name = "VERSION")]
    min_agent: Option<Version>,
    /// Lowest counter that a host may come from
    #[arg(long, value_name = "N")]
    min_from: Option<u64>,
    /// Hosts may not go back to it from a later one
    #[arg(long)]
    no_rollback: bool,
}

/// Lists a release: copies its bundle into the repository and prepares a list that names it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber release add webapp-2.4.1.comber
  comber release add ./webapp --no-rollback")]
pub(crate) struct AddArgs {
    /// A bundle, or a directory with release.toml and files/
    path: PathBuf,
    #[command(flatten)]
    signed: SignedArgs,
    #[command(flatten)]
    repo: RepoArg,
}

/// Takes a release off the list: once that is published and imported, no host installs it.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber release withdraw webapp@2.4.1")]
pub(crate) struct WithdrawArgs {
    /// name@version
    release: ReleaseId,
    #[command(flatten)]
    repo: RepoArg,
}

/// Sets the lowest counter of a product that any host still installs, whoever asks it to.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber release floor webapp 12")]
pub(crate) struct FloorArgs {
    /// The product
    product: ReleaseName,
    /// Its lowest counter
    counter: u64,
    #[command(flatten)]
    repo: RepoArg,
}

pub(super) fn add(args: &AddArgs, session: &Session) -> Outcome<()> {
    let (_keep, file) = file_of(&args.path, session)?;
    let contents = identify(&file)?;
    let workshop = Workshop::open(&args.repo, session)?;
    list(&workshop, &file, &contents, &args.signed)?;
    let id = contents.listing.manifest().id();
    prepared(&workshop, &format!("the next list names {id}"), session)
}

pub(super) fn withdraw(args: &WithdrawArgs, session: &Session) -> Outcome<()> {
    let workshop = Workshop::open(&args.repo, session)?;
    let withdrawn = workshop.publisher.withdraw(&args.release);
    withdrawn.map_err(|error| refused(&error))?;
    let done = format!("the next list does not name {}", args.release);
    prepared(&workshop, &done, session)
}

pub(super) fn floor(args: &FloorArgs, session: &Session) -> Outcome<()> {
    let workshop = Workshop::open(&args.repo, session)?;
    let set = workshop.publisher.floor(&args.product, args.counter);
    set.map_err(|error| refused(&error))?;
    let done = format!(
        "with the next list no host installs {} below counter {}",
        args.product, args.counter
    );
    prepared(&workshop, &done, session)
}

/// Prepares a list that names the bundle, unless one does already.
pub(super) fn list(
    workshop: &Workshop,
    file: &std::path::Path,
    contents: &Contents,
    args: &SignedArgs,
) -> Outcome<()> {
    let (manifest, artifact) = (contents.listing.manifest(), contents.artifact);
    let id = manifest.id();
    let publisher = &workshop.publisher;
    let preview = publisher.preview().map_err(|error| refused(&error))?;
    let known = preview.releases.get(&id);
    if known.is_some_and(|known| known.sha256 == artifact.digest.0) {
        return Ok(());
    }
    let next = publisher.next_counter(&id.name).map_err(|e| refused(&e))?;
    let own = Some(manifest.counter).filter(|counter| *counter > 0);
    let dir =
        tempfile::tempdir().map_err(|error| failed("cannot make a temporary directory")(&error))?;
    let tar = dir.path().join("tar");
    comber_bundle::decode(file, &artifact, &tar).map_err(|error| {
        CliError::configuration(format!("cannot read {}", file.display()))
            .because(error.to_string())
    })?;
    let signed = Signed {
        product: id.name,
        version: id.version,
        counter: args.counter.or(own).unwrap_or(next),
        platforms: manifest.platforms.clone(),
        min_agent: args.min_agent.clone(),
        min_from: args.min_from,
        rollback_ok: !args.no_rollback,
    };
    let added = publisher.add(&tar, signed);
    added.map(drop).map_err(|error| refused(&error))
}
