//! `comber repo …`: the publisher's signed repository, and its import into a controller.
//!
//! Everything but `import` and `status` happens on the publisher's machine and needs no controller. Invariant: a change
//! is prepared, then signed by enough keys, then published whole; until then readers see what was before.

mod change;
mod import;
mod init;
mod verify;
pub(crate) mod workshop;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comber_trust::publisher::Progress;
use serde::Serialize;

pub(crate) use change::prepared;
pub(crate) use import::{Import, import};

use crate::error::Outcome;
use crate::session::Session;
use workshop::{KeyArgs, RepoArg};

/// Keeps the signed repository of releases: who may sign what, and what is listed.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  comber repo init --dev
  comber repo sign --key anna.key
  comber repo import")]
pub(crate) enum RepoCommand {
    /// Make a repository
    Init(init::InitArgs),
    /// Let a key sign a role
    #[command(after_help = "Example:\n  comber repo add-key targets bob.key")]
    AddKey(change::KeyOfRole),
    /// Take the right to sign a role from a key
    #[command(after_help = "Example:\n  comber repo remove-key targets bob.key")]
    RemoveKey(change::KeyOfRole),
    /// Say how many signatures a role needs
    Threshold(change::ThresholdArgs),
    /// Sign what is prepared
    Sign(SignArgs),
    /// Take over signatures that others made on a copy
    Merge(MergeArgs),
    /// Publish what is prepared and signed
    Finish(FinishArgs),
    /// Renew the timestamp before it ends
    Refresh(RefreshArgs),
    /// Copy everything that is published to a directory
    Export(ExportArgs),
    /// Verify a repository as a host would
    Verify(verify::VerifyArgs),
    /// Have the controller verify and keep what is published
    Import(import::ImportArgs),
    /// Show what the controller keeps
    Status(import::StatusArgs),
}

/// Signs everything prepared that the keys may sign. Several people sign one after the other, on one machine or on copies.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber repo sign
  comber repo sign --key anna.key --passphrase-file secret")]
pub(crate) struct SignArgs {
    #[command(flatten)]
    repo: RepoArg,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Takes over the signatures in a copy of the repository. Refused where the copy prepares something else.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber repo merge /media/bob/repository")]
pub(crate) struct MergeArgs {
    /// The copy, signed by somebody else
    copy: PathBuf,
    #[command(flatten)]
    repo: RepoArg,
}

/// Publishes what is prepared, once each role has its signatures.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber repo finish")]
pub(crate) struct FinishArgs {
    #[command(flatten)]
    repo: RepoArg,
}

/// Gives the timestamp a new life, and the snapshot where its own ends soon; signs and publishes them. Run by a timer on the
/// publisher's machine: how long the timestamp lives bounds how long anybody can hide a newer list.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber repo refresh
  comber repo refresh --key timestamp.key --passphrase-file secret")]
pub(crate) struct RefreshArgs {
    #[command(flatten)]
    repo: RepoArg,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Copies what is published, bundles included, for a site without a network: comber repo import DIR reads it there.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber repo export /media/usb/repository")]
pub(crate) struct ExportArgs {
    /// Where to
    dir: PathBuf,
    #[command(flatten)]
    repo: RepoArg,
}

/// Does what was asked.
pub(crate) async fn run(command: RepoCommand, session: &Session) -> Outcome<()> {
    match command {
        RepoCommand::Init(args) => init::run(&args, session).await,
        RepoCommand::AddKey(args) => change::add_key(&args, session),
        RepoCommand::RemoveKey(args) => change::remove_key(&args, session),
        RepoCommand::Threshold(args) => change::threshold(&args, session),
        RepoCommand::Sign(args) => change::sign(&args.repo, &args.keys, session),
        RepoCommand::Merge(args) => change::merge(&args.repo, &args.copy, session),
        RepoCommand::Finish(args) => change::finish(&args.repo, session),
        RepoCommand::Refresh(args) => change::refresh(&args.repo, &args.keys, session),
        RepoCommand::Export(args) => change::export(&args.repo, &args.dir, session),
        RepoCommand::Verify(args) => verify::run(&args, session).await,
        RepoCommand::Import(args) => import::run(&args, session).await,
        RepoCommand::Status(args) => import::status(&args, session).await,
    }
}

/// How far each role is.
#[derive(Debug, Serialize)]
pub(crate) struct Roles {
    /// False while signatures are missing, or nobody has published it yet.
    published: bool,
    roles: Vec<RoleProgress>,
}

#[derive(Debug, Serialize)]
struct RoleProgress {
    role: String,
    version: u64,
    signatures: usize,
    needed: u64,
}

impl Roles {
    pub(crate) fn new(progress: &Progress, published: bool) -> Self {
        let roles = progress
            .iter()
            .map(|(role, version, signatures, needed)| RoleProgress {
                role: role.to_string(),
                version: version.get(),
                signatures: *signatures,
                needed: *needed,
            });
        Self {
            published,
            roles: roles.collect(),
        }
    }

    /// For people, what was done before it.
    pub(crate) fn told(&self, done: &str) -> String {
        let mut text = format!("{done}\n");
        for role in &self.roles {
            let RoleProgress {
                role,
                version,
                signatures,
                needed,
            } = role;
            let line =
                format!("  {role:<9} version {version}: {signatures} of {needed} signatures\n");
            text.push_str(&line);
        }
        text.push_str(if self.published {
            "next:\n  comber repo import\n"
        } else if self
            .roles
            .iter()
            .all(|role| role.signatures as u64 >= role.needed)
        {
            "next:\n  comber repo finish\n"
        } else {
            "next:\n  comber repo sign --key FILE\n"
        });
        text
    }
}
