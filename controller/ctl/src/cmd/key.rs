//! `comber key gen|show`: the keys that sign releases.
//!
//! Writes one file. Invariant: a private key is written sealed under a passphrase, unless the command line says that it
//! shall have none.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comber_trust::{Signer as _, SigningKey, key_id, peek};
use serde::Serialize;

use super::repo::workshop::{SecretArg, key_error};
use crate::error::Outcome;
use crate::render;
use crate::session::Session;

/// Makes and shows signing keys. They never leave the machine of whoever signs; others need the public half alone.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  comber key gen anna.key")]
pub(crate) enum KeyCommand {
    /// Make a key
    Gen(GenArgs),
    /// Show the public half of a key
    Show(ShowArgs),
}

/// Makes an Ed25519 key and writes it to a new file, sealed under a passphrase of at least 8 bytes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber key gen root-1.key
  comber key gen timestamp.key --passphrase-file secret
  comber key gen ci.key --no-passphrase")]
pub(crate) struct GenArgs {
    /// File to write; it must not exist
    file: PathBuf,
    /// Without a passphrase: for a key that a timer uses, in a file that nobody else reads
    #[arg(long, conflicts_with = "passphrase_file")]
    no_passphrase: bool,
    #[command(flatten)]
    secret: SecretArg,
}

/// Shows the public half, and whether the file has a passphrase; asks for none.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber key show root-1.key")]
pub(crate) struct ShowArgs {
    /// A key's file
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct Shown {
    file: String,
    public: String,
    id: String,
    sealed: bool,
}

/// Does what was asked.
pub(crate) fn run(command: &KeyCommand, session: &Session) -> Outcome<()> {
    match command {
        KeyCommand::Gen(args) => generate(args, session),
        KeyCommand::Show(args) => show(&args.file, "", session),
    }
}

fn generate(args: &GenArgs, session: &Session) -> Outcome<()> {
    let key = SigningKey::generate().map_err(|error| key_error(&error))?;
    let passphrase = if args.no_passphrase {
        None
    } else {
        let what = format!("the new key {}", args.file.display());
        Some(args.secret.passphrase(&what, true, session)?)
    };
    key.save(&args.file, passphrase.as_deref())
        .map_err(|error| key_error(&error))?;
    let _public = key.public();
    show(&args.file, "made ", session)
}

fn show(file: &std::path::Path, made: &str, session: &Session) -> Outcome<()> {
    let (key, sealed) = peek(file).map_err(|error| key_error(&error))?;
    let id = key_id(&key).map_err(|error| key_error(&error))?;
    let shown = Shown {
        file: file.display().to_string(),
        public: render::public_half(&key),
        id: render::hex(&id),
        sealed,
    };
    session.screen.show(
        || &shown,
        |_| {
            let secret = if sealed {
                "a passphrase"
            } else {
                "no passphrase"
            };
            format!(
                "{made}{}, with {secret}\npublic  {}\nid      {}\n",
                shown.file, shown.public, shown.id
            )
        },
    )
}
