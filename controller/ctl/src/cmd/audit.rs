//! `comber audit list|verify|export`: who changed what, and whether the log still says so.
//!
//! Reads only. Invariant: what is verified is computed here, from the texts themselves; the controller's word for it is
//! not taken.

use std::io::{BufRead as _, BufReader, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use comber_model::Digest;
use comber_model::audit::{Entry, Head, Sealed, Verifier};
use comber_proto::audit::v1::{Entry as WireEntry, WatchAuditRequest};
use serde::{Deserialize, Serialize};
use tonic::Streaming;

use crate::client::Client;
use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::render;
use crate::session::Session;

/// How many are shown unless told otherwise.
const LAST: u32 = 50;
/// Longest line of an exported log.
const LINE_MAX: u64 = 64 << 10;

/// Shows, verifies and exports the audit log: every change by a person or the planner, and every refusal.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  comber audit list --actor anna")]
pub(crate) enum AuditCommand {
    /// Show entries
    List(ListArgs),
    /// Check that no entry was changed or removed
    Verify(VerifyArgs),
    /// Write the log out, a line for each entry
    Export(ExportArgs),
}

/// Shows entries, oldest first. As JSON: one entry a line.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber audit list --last 20
  comber audit list --object 'rollout r7' --last 0
  comber audit list --refused --follow")]
pub(crate) struct ListArgs {
    /// Go on with new ones until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only of this operator or host
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    actor: String,
    /// Only about this object, for example 'rollout r7' or 'host web-1'
    #[arg(
        long,
        value_name = "OBJECT",
        default_value = "",
        hide_default_value = true
    )]
    object: String,
    /// Only what was refused
    #[arg(long)]
    refused: bool,
    /// Only of the last so many; 0 for all that are kept
    #[arg(long, value_name = "N", default_value_t = LAST)]
    last: u32,
}

/// Checks the whole log and prints its head. Keep a head elsewhere: with --head a log whose end was cut off, or that was
/// made anew, is found, too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber audit verify
  comber audit verify --head 812:5f0c0b6d3c8f4d0e9b7a6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f
  comber audit verify --file audit.jsonl")]
pub(crate) struct VerifyArgs {
    /// A head that was noted earlier: NUMBER:HASH
    #[arg(long, value_name = "HEAD", value_parser = head)]
    head: Option<Head>,
    /// Check an exported log in place of the controller's
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Writes the log out, one JSON object a line: number, body (the exact text) and hash. `comber audit verify --file`
/// reads it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber audit export > audit.jsonl
  comber audit export --after 812 --follow > later.jsonl")]
pub(crate) struct ExportArgs {
    /// Only those after this number
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true
    )]
    after: u64,
    /// Go on with new ones until interrupted
    #[arg(short, long)]
    follow: bool,
}

/// One line of an exported log.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    number: u64,
    #[serde(flatten)]
    sealed: Sealed,
}

fn head(text: &str) -> Result<Head, String> {
    text.parse()
        .map_err(|error: comber_model::Invalid| error.problem)
}

/// Does what was asked.
pub(crate) async fn run(command: AuditCommand, session: &Session) -> Outcome<()> {
    match command {
        AuditCommand::List(args) => list(args, session).await,
        AuditCommand::Verify(args) => verify(args, session).await,
        AuditCommand::Export(args) => export(args, session).await,
    }
}

/// The entries as they come.
struct Entries<'a> {
    client: &'a Client,
    stream: Streaming<comber_proto::audit::v1::WatchAuditResponse>,
}

impl<'a> Entries<'a> {
    async fn ask(client: &'a Client, request: WatchAuditRequest) -> Outcome<Self> {
        let answer = client.audit().watch_audit(request).await;
        let stream = client.answered("read the audit log", answer)?;
        Ok(Self { client, stream })
    }

    async fn next(&mut self) -> Outcome<Option<Line>> {
        let message = self.stream.message().await;
        let message =
            message.map_err(|status| self.client.refused("read the audit log", &status))?;
        Ok(message.and_then(|message| message.entry).map(line))
    }
}

fn line(entry: WireEntry) -> Line {
    // A hash of another length is none; the entry is then found to be changed.
    let hash = <[u8; 32]>::try_from(entry.hash.as_slice()).unwrap_or_default();
    let sealed = Sealed {
        body: entry.body,
        hash: Digest(hash),
    };
    Line {
        number: entry.number,
        sealed,
    }
}

async fn list(args: ListArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let request = WatchAuditRequest {
        after: 0,
        follow: args.follow,
        last: args.last,
        actor: args.actor,
        object: args.object,
        refused: args.refused,
    };
    let mut entries = Entries::ask(&client, request).await?;
    while let Some(line) = entries.next().await? {
        let screen = &session.screen;
        match serde_json::from_str::<Entry>(&line.sealed.body) {
            Ok(entry) if screen.is_json() => screen.print_json_line(&entry)?,
            Ok(entry) => screen.print(&render::audit_entry(&screen.view(), &entry))?,
            Err(_) => screen.note(&format!(
                "entry {} cannot be read; see: comber audit verify",
                line.number
            )),
        }
    }
    Ok(())
}

async fn verify(args: VerifyArgs, session: &Session) -> Outcome<()> {
    let mut verifier = Verifier::knowing(args.head);
    let mut count = 0_u64;
    if let Some(path) = &args.file {
        let cannot = || CliError::configuration(format!("cannot read {}", path.display()));
        let file = std::fs::File::open(path).map_err(|error| cannot().caused_by(&error))?;
        let mut lines = BufReader::new(file);
        loop {
            let mut text = String::new();
            let mut limited = std::io::Read::take(&mut lines, LINE_MAX);
            limited
                .read_line(&mut text)
                .map_err(|error| cannot().caused_by(&error))?;
            if text.is_empty() {
                break;
            }
            count += 1;
            let line: Line = serde_json::from_str(&text)
                .map_err(|_| broken(&format!("line {count} is no entry")))?;
            take(&mut verifier, &line)?;
        }
    } else {
        let client = session.client().await?;
        let mut entries = Entries::ask(&client, WatchAuditRequest::default()).await?;
        while let Some(line) = entries.next().await? {
            take(&mut verifier, &line)?;
            count += 1;
        }
    }
    let head = verifier
        .finish()
        .map_err(|error| broken(&error.to_string()))?;
    let done = Verified {
        entries: count,
        head: head.to_string(),
    };
    session.screen.show(
        || &done,
        |_| format!("{count} entries, each whole and in its place\nhead: {head}\n"),
    )
}

#[derive(Debug, Serialize)]
struct Verified {
    entries: u64,
    head: String,
}

fn take(verifier: &mut Verifier, line: &Line) -> Outcome<()> {
    let taken = verifier.take(line.number, &line.sealed);
    taken.map(drop).map_err(|error| broken(&error.to_string()))
}

fn broken(why: &str) -> CliError {
    CliError::new(Exit::Failed, "the audit log is not what it was")
        .because(why)
        .hint(
            "compare with an exported copy, and look for who could write to the controller's store",
        )
}

async fn export(args: ExportArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let request = WatchAuditRequest {
        after: args.after,
        follow: args.follow,
        ..WatchAuditRequest::default()
    };
    let mut entries = Entries::ask(&client, request).await?;
    while let Some(line) = entries.next().await? {
        session.screen.print_json_line(&line)?;
    }
    // What is in the pipe now is what a reader has.
    let _closed = std::io::stdout().flush();
    Ok(())
}
