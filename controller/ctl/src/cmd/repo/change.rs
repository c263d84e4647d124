//! Changes of a repository that is there: keys, thresholds, signatures, publishing.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use clap::Args;
use comber_trust::{Key, RoleType, parse_public, peek};
use serde::Serialize;

use super::Roles;
use super::workshop::{KeyArgs, RepoArg, Workshop, key_error, refused};
use crate::error::{CliError, Outcome};
use crate::render::bytes;
use crate::session::Session;

/// Prepares a root in which the key may, or may no longer, sign the role. Keys of the root before and of the new one sign it.
#[derive(Debug, Args)]
pub(crate) struct KeyOfRole {
    /// root, targets, snapshot or timestamp
    #[arg(value_parser = role)]
    role: RoleType,
    /// A key's file, or the public half as `comber key show` prints it
    key: String,
    #[command(flatten)]
    repo: RepoArg,
}

/// Prepares a root in which the role needs so many signatures.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber repo threshold targets 2")]
pub(crate) struct ThresholdArgs {
    /// root, targets, snapshot or timestamp
    #[arg(value_parser = role)]
    role: RoleType,
    /// How many
    count: NonZeroU64,
    #[command(flatten)]
    repo: RepoArg,
}

/// A role by its name.
pub(crate) fn role(text: &str) -> Result<RoleType, String> {
    match text {
        "root" => Ok(RoleType::Root),
        "targets" => Ok(RoleType::Targets),
        "snapshot" => Ok(RoleType::Snapshot),
        "timestamp" => Ok(RoleType::Timestamp),
        _ => Err("must be root, targets, snapshot or timestamp".to_owned()),
    }
}

/// The public half, from wherever it is.
pub(crate) fn public(text: &str) -> Outcome<Key> {
    if let Some(key) = parse_public(text) {
        return Ok(key);
    }
    let (key, _) = peek(&PathBuf::from(text)).map_err(|error| {
        key_error(&error).hint("give a key's file, or the public half as comber key show prints it")
    })?;
    Ok(key)
}

pub(super) fn add_key(args: &KeyOfRole, session: &Session) -> Outcome<()> {
    let workshop = Workshop::open(&args.repo, session)?;
    let added = workshop.publisher.add_key(args.role, &public(&args.key)?);
    added.map_err(|error| refused(&error))?;
    prepared(&workshop, "the next root lets the key sign", session)
}

pub(super) fn remove_key(args: &KeyOfRole, session: &Session) -> Outcome<()> {
    let workshop = Workshop::open(&args.repo, session)?;
    let removed = workshop
        .publisher
        .remove_key(args.role, &public(&args.key)?);
    removed.map_err(|error| refused(&error))?;
    prepared(
        &workshop,
        "the next root does not let the key sign",
        session,
    )
}

pub(super) fn threshold(args: &ThresholdArgs, session: &Session) -> Outcome<()> {
    let workshop = Workshop::open(&args.repo, session)?;
    let set = workshop.publisher.set_threshold(args.role, args.count);
    set.map_err(|error| refused(&error))?;
    prepared(
        &workshop,
        "the next root asks for so many signatures",
        session,
    )
}

/// Shows what is prepared by now.
pub(crate) fn prepared(workshop: &Workshop, done: &str, session: &Session) -> Outcome<()> {
    let progress = workshop.publisher.progress().map_err(|e| refused(&e))?;
    let roles = Roles::new(&progress, false);
    session.screen.show(|| &roles, |_| roles.told(done))
}

pub(super) fn sign(repo: &RepoArg, keys: &KeyArgs, session: &Session) -> Outcome<()> {
    let workshop = Workshop::open(repo, session)?;
    let progress = workshop.sign(keys, session)?;
    if progress.is_empty() {
        return Err(CliError::usage("nothing is prepared that could be signed"));
    }
    let roles = Roles::new(&progress, false);
    session.screen.show(|| &roles, |_| roles.told("signed"))
}

pub(super) fn merge(repo: &RepoArg, copy: &Path, session: &Session) -> Outcome<()> {
    let workshop = Workshop::open(repo, session)?;
    let progress = workshop.publisher.merge(copy).map_err(|e| refused(&e))?;
    let roles = Roles::new(&progress, false);
    session.screen.show(|| &roles, |_| roles.told("merged"))
}

pub(super) fn finish(repo: &RepoArg, session: &Session) -> Outcome<()> {
    let workshop = Workshop::open(repo, session)?;
    let progress = workshop.publisher.finish().map_err(|e| refused(&e))?;
    let roles = Roles::new(&progress, true);
    session.screen.show(|| &roles, |_| roles.told("published"))
}

pub(super) fn refresh(repo: &RepoArg, keys: &KeyArgs, session: &Session) -> Outcome<()> {
    let workshop = Workshop::open(repo, session)?;
    workshop.publisher.refresh().map_err(|e| refused(&e))?;
    let progress = workshop.publish(keys, session)?;
    let roles = Roles::new(&progress, true);
    session.screen.show(|| &roles, |_| roles.told("renewed"))
}

#[derive(Debug, Serialize)]
struct Exported<'a> {
    directory: &'a Path,
    bytes: u64,
}

pub(super) fn export(repo: &RepoArg, dir: &Path, session: &Session) -> Outcome<()> {
    let workshop = Workshop::open(repo, session)?;
    let copied = workshop.publisher.export(dir).map_err(|e| refused(&e))?;
    session.screen.show(
        || Exported {
            directory: dir,
            bytes: copied,
        },
        |_| {
            format!(
                "exported {} to {}\nnext, where the controller is:\n  comber repo import {}\n",
                bytes(copied),
                dir.display(),
                dir.display()
            )
        },
    )
}
