//! `comber repo init`: a repository with its first root.
//!
//! For development it is whole at once: one key signs everything, and the controller, where one is known, gets its root.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use comber_trust::publisher::{Lives, Publisher};
use comber_trust::{Key, dev};
use serde::Serialize;

use super::change::{prepared, public, role};
use super::import::{Import, import};
use super::workshop::{RepoArg, Settings, Workshop, place, refused};
use crate::error::{CliError, Outcome};
use crate::session::Session;

/// Makes a repository. Each role has its own keys: the root's stay offline, with several people.
///
/// With --dev, one new key without a passphrase signs everything, nothing expires within a year, and the controller of the
/// current context pins the root: enough to try Comber out, and to be replaced by a real root later.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber repo init --dev
  comber repo init --root-key a.key --root-key b.key --root-key c.key --threshold root=2 --targets-key a.key --snapshot-key a.key --timestamp-key timestamp.key")]
pub(crate) struct InitArgs {
    #[command(flatten)]
    repo: RepoArg,
    /// A whole repository of one person, signed at once
    #[arg(long, conflicts_with_all = ["root_key", "targets_key", "snapshot_key", "timestamp_key", "threshold"])]
    dev: bool,
    /// A key of the root: a file, or the public half; may be repeated, as may the others
    #[arg(long, value_name = "KEY", required_unless_present = "dev")]
    root_key: Vec<String>,
    /// A key that lists releases
    #[arg(long, value_name = "KEY", required_unless_present = "dev")]
    targets_key: Vec<String>,
    /// A key that says which list is the newest
    #[arg(long, value_name = "KEY", required_unless_present = "dev")]
    snapshot_key: Vec<String>,
    /// A key that says so anew every few days; a timer uses it
    #[arg(long, value_name = "KEY", required_unless_present = "dev")]
    timestamp_key: Vec<String>,
    /// How many signatures a role needs [default: 1 each]
    #[arg(long, value_name = "ROLE=N", value_parser = threshold)]
    threshold: Vec<(String, u64)>,
}

fn threshold(text: &str) -> Result<(String, u64), String> {
    let wrong = || "must have the form role=number".to_owned();
    let (name, count) = text.split_once('=').ok_or_else(wrong)?;
    role(name)?;
    Ok((name.to_owned(), count.parse().map_err(|_| wrong())?))
}

#[derive(Debug, Serialize)]
struct Made<'a> {
    directory: &'a Path,
    root_sha256: String,
    pinned_at: Option<String>,
}

pub(super) async fn run(args: &InitArgs, session: &Session) -> Outcome<()> {
    let dir = place(&args.repo, session);
    if args.dev {
        return develop(args, &dir, session).await;
    }
    let mut keys: BTreeMap<&str, (Vec<Key>, u64)> = BTreeMap::new();
    for (role, given) in [
        ("root", &args.root_key),
        ("targets", &args.targets_key),
        ("snapshot", &args.snapshot_key),
        ("timestamp", &args.timestamp_key),
    ] {
        let public: Vec<Key> = given
            .iter()
            .map(|key| public(key))
            .collect::<Outcome<_>>()?;
        let wanted = args.threshold.iter().find(|(name, _)| name == role);
        keys.insert(role, (public, wanted.map_or(1, |(_, count)| *count)));
    }
    let lives = Lives::default();
    let made = Publisher::init(&dir, &keys, lives, session.clock.wall());
    made.map_err(|error| refused(&error))?;
    Settings::new(false, lives).save(&dir)?;
    let workshop = Workshop::open(&args.repo, session)?;
    prepared(
        &workshop,
        &format!("prepared a repository in {}", dir.display()),
        session,
    )
}

async fn develop(args: &InitArgs, dir: &Path, session: &Session) -> Outcome<()> {
    let made = dev::create(dir, session.clock.wall());
    made.map_err(|error| refused(&error))?;
    Settings::new(true, dev::lives()).save(dir)?;
    let workshop = Workshop::open(&args.repo, session)?;
    let root = std::fs::read_to_string(workshop.publisher.metadata().join("1.root.json"));
    let root = root.map_err(|error| {
        CliError::configuration("cannot read the root").because(error.to_string())
    })?;
    let facts = comber_trust::look_at_root(&root)
        .map_err(|error| CliError::configuration("the root cannot be used").caused_by(&error))?;
    // Without a context there is no controller yet; the import comes later then.
    let known = session.contexts()?.pick(session.context.as_deref()).is_ok();
    let pinned_at = if known {
        let client = session.client().await?;
        let files = Import::of(dir)?;
        import(&client, files, true).await?;
        Some(client.address().to_owned())
    } else {
        None
    };
    let made = Made {
        directory: dir,
        root_sha256: facts.sha256,
        pinned_at,
    };
    session.screen.show(|| &made, |_| told(&made))
}

fn told(made: &Made<'_>) -> String {
    let Made {
        directory,
        root_sha256,
        pinned_at,
    } = made;
    let (pinned, next) = match pinned_at {
        Some(controller) => (
            format!("{controller} pinned its root; hosts that enrol from now on begin with it\n"),
            "comber release publish DIR",
        ),
        None => (String::new(), "comber repo import --pin"),
    };
    format!(
        "made a repository for development in {}\nroot sha256 {root_sha256}\n{pinned}its key has no passphrase: for a fleet that \
         counts, see comber help repo init\n\nnext:\n  {next}\n",
        directory.display()
    )
}
